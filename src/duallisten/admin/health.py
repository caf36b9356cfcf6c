"""Health: how a launch stands, told from its scoreboard. Pure.

Three questions, as orchestrators ask them, each with its reasons:

- *livez*: is every process alive? One whose event loop has not turned for longer than `--health-stall` is not, and
  nothing but a restart helps. One that starts or ends may take its time, so that no probe kills it for it.
- *readyz*: should requests be sent here? When the application has started, every listener of the plan has a process
  that accepts and is not stuck, and nobody was told to end.
- *startupz*: has the launch come to serve, once?

What it must never do: say yes because the process that was asked is well.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from duallisten.config.admin_paths import HEALTH_QUESTIONS
from duallisten.observability import Phase, ProcessView, View

STATES = {phase: phase.label for phase in (Phase.STARTING, Phase.READY, Phase.DRAINING)}
"""How a process may stand, by what it is called."""


class Health(NamedTuple):
    """An answer to one of the questions.

    reasons: why not; empty where all is well
    """

    reasons: tuple[str, ...]
    view: View

    @property
    def status(self) -> int:
        """The status of the HTTP answer."""
        return 503 if self.reasons else 200

    def as_json(self) -> bytes:
        """The answer's body."""
        told: dict[str, Any] = {
            "status": "unavailable" if self.reasons else "ok",
            "reasons": self.reasons,
            "phase": self.view.phase.label,
            "processes": [_describe(process) for process in self.view.processes],
        }
        return json.dumps(told).encode() + b"\n"


def livez(view: View, stall: float) -> Health:
    """Whether every process is alive.

    stall: seconds that an event loop may be stuck
    """
    reasons = [
        f"process {process.pid} is stuck: its event loop has not turned for {process.heartbeat_age:.1f} s"
        for process in view.processes
        if process.state is Phase.READY and process.heartbeat_age > stall
    ]
    if view.supervisor_age is not None and view.supervisor_age > stall:
        reasons.append(f"the supervisor is stuck: it has not looked around for {view.supervisor_age:.1f} s")
    return Health(tuple(reasons), view)


def readyz(view: View, stall: float) -> Health:
    """Whether requests should be sent here.

    stall: seconds after which a process whose event loop is stuck does not count
    """
    if view.phase is not Phase.READY:
        return Health((view.phase.label,), view)
    able = [one for one in view.processes if one.state is Phase.READY and one.heartbeat_age <= stall]
    reasons = [
        f"no process serves the {side} side" for side in view.expected if not any(side in one.sides for one in able)
    ]
    return Health(tuple(reasons), view)


def startupz(view: View, stall: float) -> Health:
    """Whether the launch has come to serve."""
    return Health((view.phase.label,) if view.phase is Phase.STARTING else (), view)


QUESTIONS = dict(zip(HEALTH_QUESTIONS, (livez, readyz, startupz), strict=True))


def _describe(process: ProcessView) -> dict[str, Any]:
    return {
        "pid": process.pid,
        "state": STATES[process.state],
        "sides": process.sides,
        "heartbeat_age": round(process.heartbeat_age, 3),
        "age": round(process.age, 1),
    }
