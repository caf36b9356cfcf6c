"""The supervisor's view of a worker, and the factory that starts workers.

A worker is a fork of the zygote (`zygote`), a fork of a process that has imported the application (`fork_server`), or a
spawned process of uvicorn's (`uvicorn._subprocess` sets up its standard input and its logging again). The messages on
its pipe are in `worker_protocol`.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from functools import partial
from multiprocessing import Pipe
from typing import TYPE_CHECKING, Any

from duallisten.config.uvicorn_contract import get_subprocess
from duallisten.errors import DuallistenError, LaunchError, UsageError
from duallisten.processes.process_signals import held
from duallisten.processes.worker_protocol import Channel, Order, bound_sockets, sides_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from duallisten.config import Config
    from duallisten.listeners import BoundSocket, Plan
    from duallisten.observability import RowRef
    from duallisten.processes.forker import ForkedProcess
    from duallisten.processes.worker_protocol import Report
    from duallisten.processes.zygote import Zygote
    from duallisten.sides import Side

BLOCKED = 1.0
"""Seconds after which an event loop that has not answered a ping counts as blocked."""


class Child:
    """A child process that reports over a pipe.

    failure: why the process could not start, as it has reported; None if it has not
    """

    def __init__(self, process: SpawnProcess | ForkedProcess, pipe: Connection) -> None:
        self.process = process
        self.failure: str | None = None
        self._started_at = time.monotonic()
        self._channel = Channel(pipe)

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process.pid is not None  # noqa: S101
        return self.process.pid

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._started_at

    @property
    def pipe(self) -> Connection:
        """The supervisor's end of the pipe."""
        return self._channel.pipe

    def read_reports(self, timeout: float = 0.0) -> None:
        """Wait up to `timeout` seconds for a report, and note all reports that have come."""
        try:
            while not self.pipe.closed and self.pipe.poll(timeout):
                self._note(*self._channel.receive())
                timeout = 0.0
        except (EOFError, OSError):
            self._channel.close()

    def _note(self, report: Any, descriptors: list[int]) -> None:
        """Note a report."""

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def close(self) -> None:
        """Wait for the process to end, and close the pipe."""
        self.process.join()
        self._channel.close()

    @property
    def exit_reason(self) -> str:
        """How the process ended, for a message."""
        code = self.process.exitcode
        if code is None:
            how = "ended"
        else:
            how = f"was killed by {_signal_name(-code)}" if code < 0 else f"exited with code {code}"
        return f"[{self.pid}] {how}" + (f": {self.failure}" if self.failure else "")

    def launch_error(self, otherwise: str) -> DuallistenError:
        """Build the error of a launch that fails because this process ended: with `failure`, or else `otherwise`."""
        is_usage = self.failure is not None and self.process.exitcode == UsageError.exit_code
        return (UsageError if is_usage else LaunchError)(self.failure or otherwise)


class Worker(Child):
    """A worker process, and its state.

    plan: the plan that it was told to serve
    queues: how many of its slot's queues it has
    row: its row on the scoreboard, if there is one
    began, ready, serving, ending: whether it has sent the report of that name
    permitted: whether it was told that it may accept
    debugged: whether a debugger is attached, which may stop it at a breakpoint
    unused_rules: the path rules that cover no route of the application
    at_limit: its limit of requests, once it has served as many; else empty
    start_time: seconds that it took until it served
    jitter: a random number from 0 to 1, so that similar workers do not reach a limit together
    waits_for: what its end waits for; empty once that was logged
    stopping: whether it was told to end
    killed: whether the supervisor has killed it
    """

    def __init__(
        self,
        process: SpawnProcess | ForkedProcess,
        pipe: Connection,
        plan: Plan,
        queues: int,
        row: RowRef | None = None,
    ) -> None:
        super().__init__(process, pipe)
        self.plan = plan
        self.queues = queues
        self.row = row
        self.began = self.ready = self.serving = self.ending = False
        self.permitted = self.stopping = self.killed = self.debugged = False
        self.unused_rules = self.waits_for = self.at_limit = ""
        self.start_time = 0.0
        self.jitter = random.random()  # noqa: S311
        self._ends_since: float | None = None
        self._ended_at: float | None = None
        self._pinged_at: float | None = None
        self._loop_pinged_at: float | None = None

    @property
    def accepts(self) -> bool:
        """Whether it accepts connections, or is about to, as far as the supervisor knows."""
        return self.permitted and not (self.ending or self.stopping or self.pipe.closed)

    @property
    def blocked_for(self) -> float:
        """Seconds since the ping that its event loop has not answered; 0 if it has answered."""
        return 0.0 if self._loop_pinged_at is None else time.monotonic() - self._loop_pinged_at

    @property
    def is_blocked(self) -> bool:
        """Whether its event loop is blocked, so that it accepts no connection."""
        return self.blocked_for > BLOCKED

    @property
    def is_available(self) -> bool:
        """Whether it accepts the connections in its queues soon."""
        return self.accepts and not self.is_blocked

    def is_silent(self, timeout: float) -> bool:
        """Whether it has not answered a ping for `timeout` seconds."""
        return self._pinged_at is not None and time.monotonic() - self._pinged_at > timeout

    @property
    def ends_for(self) -> float:
        """Seconds since it was told to end, or has reported that it is ending; 0 if neither."""
        return 0.0 if self._ends_since is None else time.monotonic() - self._ends_since

    @property
    def exits_for(self) -> float:
        """Seconds since its server has ended, and the process only has to exit; 0 if the server has not ended."""
        return 0.0 if self._ended_at is None else time.monotonic() - self._ended_at

    @property
    def failed_to_end(self) -> bool:
        """Whether it has served, and has exited with an error or by an unexpected signal."""
        return self.serving and self.process.exitcode not in (None, 0, -signal.SIGTERM, -signal.SIGINT)

    def _note(self, report: tuple[Report, str], descriptors: list[int]) -> None:
        name, text = report
        self._pinged_at = None
        if name == "failed":
            self.failure = text
        elif name == "ready":
            self.ready, self.unused_rules = True, text
        elif name == "turning":
            self._loop_pinged_at = None
        elif name == "serving":
            self.serving, self.start_time = True, self.age
        elif name == "at limit":
            self.at_limit = text
        elif name == "ending":
            self.ending = True
            self._note_end_begun()
        elif name == "waiting":
            self.waits_for = text
        elif name == "ended":
            self._ended_at = time.monotonic()
        elif name in ("began", "alive"):
            self.began, self.debugged = True, bool(text)
        else:
            setattr(self, name, True)

    def _note_end_begun(self) -> None:
        if self._ends_since is None:
            self._ends_since = time.monotonic()

    def ping(self) -> None:
        """Send a ping, unless one is unanswered. A worker that has not begun cannot answer, and is sent none."""
        if self.began and self._pinged_at is None and self._send(Order("ping")):
            self._pinged_at = time.monotonic()
            if self.permitted and self._loop_pinged_at is None:
                self._loop_pinged_at = self._pinged_at

    def permit(self) -> None:
        """Permit it to accept connections."""
        self.permitted = self._send(Order("accept"))

    def open(self, plan: Plan, queues: list[BoundSocket]) -> None:
        """Tell it to serve a plan with more listeners than before.

        queues: all queues of its slot
        """
        more = queues[self.queues :]
        self.plan, self.queues = plan, len(queues)
        self._send(Order("open", 0, sides_of(more), plan), [queue.socket for queue in more])

    def back_up(self, slot: int, queues: list[BoundSocket]) -> None:
        """Tell it to accept from another slot's queues, too."""
        self._send(Order("back up", slot, sides_of(queues)), [queue.socket for queue in queues])

    def release(self, slot: int) -> None:
        """Tell it to leave another slot's queues."""
        self._send(Order("release", slot))

    def ask(self, question: str, sock: socket.socket) -> bool:
        """Send it a question that it answers over `sock`; return whether that was possible."""
        return self._send(Order("answer", text=question), [sock])

    def set_level(self, level: str) -> None:
        """Tell it to set its log level."""
        self._send(Order("log level", text=level))

    def _send(self, order: Order, sockets: Sequence[socket.socket] = ()) -> bool:
        """Send an order; return whether that was possible."""
        if self.pipe.closed:
            return False
        try:
            self._channel.send(order, [sock.fileno() for sock in sockets])
        except OSError:
            self.read_reports()  # it may have reported why it ends
            self._channel.close()
            return False
        return True

    def terminate(self) -> None:
        """Tell it to shut down gracefully."""
        self.stopping = True
        self._note_end_begun()
        self.signal(signal.SIGTERM)

    def kill(self) -> None:
        """Kill it; its sentinel then shows that it has ended."""
        self.killed = True
        self.signal(signal.SIGKILL)

    def retire(self) -> None:
        """Tell it to shut down gracefully, and to leave its queues to other workers at once."""
        self.stopping = True
        self._note_end_begun()
        if not self.began or not self._send(Order("retire")):
            self.signal(signal.SIGTERM)


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal; only two of them have names
        return f"signal {number}"


class WorkerFactory:
    """Starts workers that import the application themselves; for `--preload` there is `fork_server.ForkingFactory`.

    No code of the application runs in the supervisor.

    config: the configuration of workers that are started from now on
    zygote: the process that they are forked from; None if they are spawned
    """

    def __init__(self, config: Config, zygote: Zygote | None = None) -> None:
        self.config = config
        self.zygote = zygote
        self._is_renewing = False

    @property
    def is_ready(self) -> bool:
        """Whether a worker can be started now."""
        return True

    @property
    def is_renewing(self) -> bool:
        """Whether the new code that `renew` asked for is not ready yet."""
        return self._is_renewing

    @property
    def importing(self) -> Child | None:
        """The process that is importing the application for all workers; None if there is none."""
        return None

    @property
    def pipes(self) -> list[Any]:
        """The pipes that are readable when `poll` has work to do."""
        return [self.zygote.pipe] if self.zygote is not None and not self.zygote.pipe.closed else []

    @property
    def helpers(self) -> list[Child]:
        """The supervisor's children that are not workers."""
        return [self.zygote] if self.zygote is not None else []

    def start(self, plan: Plan, queues: list[BoundSocket], row: RowRef | None) -> Worker:
        """Start a worker; raises LaunchError or OSError if that is not possible."""
        pipe, child_end = Pipe()
        process: SpawnProcess | ForkedProcess | None = None
        if self.zygote is not None:
            process = self.zygote.start(self.config, (pipe, child_end), plan, queues, row)
        if process is None:
            target = partial(_run, self.config, plan, sides_of(queues), child_end, row)
            process = get_subprocess(self.config, target, [queue.socket for queue in queues])
            with held():
                process.start()
        child_end.close()  # so that the pipe ends with the process
        return Worker(process, pipe, plan, len(queues), row)

    def renew(self) -> None:
        """Ensure that workers started from now on run the current code."""
        self._is_renewing = True

    def poll(self) -> bool:
        """Do the periodic work; return whether new code has just become ready. Raises LaunchError at the launch."""
        if self.zygote is not None:
            self.zygote.poll()
        renewed, self._is_renewing = self._is_renewing, False
        return renewed

    def close(self) -> None:
        """End the processes that workers are forked from."""


def _run(
    config: Config,
    plan: Plan,
    sides: tuple[Side, ...],
    pipe: Connection,
    row: RowRef | None,
    sockets: list[socket.socket],
) -> None:
    """Run a worker, in its own process; the supervisor does not import this module."""
    from duallisten.processes.worker_main import run_worker

    run_worker(config, plan, bound_sockets(sides, sockets), pipe, row)
