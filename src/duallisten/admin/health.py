"""Health: the answers to an orchestrator's probes, from the scoreboard of the launch. Pure.

There are three questions. Each answer gives its reasons:

- *livez*: is every process alive? A process whose event loop has not turned for longer than `--health-stall` is not
  alive and needs a restart. Processes that start or end are exempt, so that no probe kills them.
- *readyz*: should requests be sent here? Yes if the application has started, every listener of the plan has a process
  that accepts and is not stuck, no stop signal has come, and no operator has drained it (`duallisten.control`).
- *startupz*: has startup finished?

The public side answers only one question, to any client: *is the public side ready?* A missing private listener, or
dead workers of it, is no reason for a platform to stop routing requests to the public one.

Invariants:
- The answer is about all processes of the launch, not only about the process that answers.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from duallisten.config.admin_paths import HEALTH_QUESTIONS
from duallisten.observability import Phase, ProcessView, View

STATES = {phase: phase.label for phase in (Phase.STARTING, Phase.READY, Phase.DRAINING)}
"""The states of a process, and their names."""

DRAINED = "drained by an operator"
"""The reason why a launch that was drained through the control socket is not ready."""


class Health(NamedTuple):
    """The answer to one of the questions.

    reasons: why the answer is no; empty if it is yes
    """

    reasons: tuple[str, ...]
    view: View

    @property
    def status(self) -> int:
        """The status of the HTTP response."""
        return 503 if self.reasons else 200

    def as_json(self) -> bytes:
        """Return the body of the HTTP response."""
        body = {
            "status": "unavailable" if self.reasons else "ok",
            "reasons": self.reasons,
            "phase": self.view.phase.label,
            "processes": [describe(process) for process in self.view.processes],
        }
        return json.dumps(body).encode() + b"\n"


def is_stuck(process: ProcessView, stall: float) -> bool:
    """Whether a process is ready but its event loop has not turned for longer than `stall` seconds."""
    return process.state is Phase.READY and process.heartbeat_age > stall


def livez(view: View, stall: float) -> Health:
    """Whether every process is alive.

    stall: seconds after which an event loop that does not turn counts as stuck
    """
    reasons = [
        f"process {process.pid} is stuck: its event loop has not turned for {process.heartbeat_age:.1f} s"
        for process in view.processes
        if is_stuck(process, stall)
    ]
    if view.supervisor_age is not None and view.supervisor_age > stall:
        reasons.append(f"the supervisor is stuck: its loop has not run for {view.supervisor_age:.1f} s")
    return Health(tuple(reasons), view)


def readyz(view: View, stall: float) -> Health:
    """Whether requests should be sent here.

    stall: seconds after which a process whose event loop does not turn is left out
    """
    if view.phase is not Phase.READY:
        return Health((view.phase.label,), view)
    if view.is_drained:
        return Health((DRAINED,), view)
    able = [process for process in view.processes if process.state is Phase.READY and not is_stuck(process, stall)]
    missing = [side for side in view.expected if not any(side in process.sides for process in able)]
    return Health(tuple(f"no process serves the {side} side" for side in missing), view)


def is_public_ready(view: View, stall: float) -> bool:
    """Whether requests should be sent to the public side.

    stall: seconds after which a process whose event loop does not turn is left out
    """
    able = (process for process in view.processes if process.state is Phase.READY and not is_stuck(process, stall))
    return view.phase.serves and not view.is_drained and any("public" in process.sides for process in able)


def startupz(view: View, stall: float) -> Health:
    """Whether startup has finished."""
    return Health((view.phase.label,) if view.phase is Phase.STARTING else (), view)


QUESTIONS = dict(zip(HEALTH_QUESTIONS, (livez, readyz, startupz), strict=True))


def describe(process: ProcessView) -> dict[str, Any]:
    """Return a process as it appears in JSON; times in seconds."""
    return {
        "pid": process.pid,
        "state": STATES[process.state],
        "sides": process.sides,
        "heartbeat_age": round(process.heartbeat_age, 3),
        "age": round(process.age, 1),
    }
