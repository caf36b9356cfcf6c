"""A worker as its supervisor sees it: a process, and what it has told.

The process is uvicorn's (`uvicorn._subprocess`: spawned, with its standard input and its logging set up again) or a
fork of one that has imported the application (`fork_server`). What is told over its pipe stands in `worker_main`.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from multiprocessing.reduction import send_handle
from typing import Protocol

from duallisten.config import Config
from duallisten.config.uvicorn_contract import get_subprocess
from duallisten.errors import LaunchError, UsageError
from duallisten.listeners import BoundSocket, Plan
from duallisten.observability import RowRef
from duallisten.processes.worker_main import Order, Report, WorkerProcess

BLOCKED = 1.0
"""Seconds after which an event loop that has not turned when it was asked to is taken for a blocked one."""


class Process(Protocol):
    """A child process, or one that a child has forked: as much of `multiprocessing.Process` as is needed here."""

    @property
    def pid(self) -> int | None:
        """Its process id."""

    @property
    def sentinel(self) -> int:
        """A descriptor that can be read when it has ended."""

    @property
    def exitcode(self) -> int | None:
        """Its exit code, or the number of the signal that ended it, negated; None while it runs."""

    def is_alive(self) -> bool:
        """Whether it runs."""

    def join(self) -> None:
        """Wait for its end."""


class Worker:
    """A worker process, and how it stands.

    pipe: the supervisor's end of the pipe
    seat: its place on the scoreboard, if there is one
    plan: what it was told to serve
    queues: how many of its slot's queues it has
    began, ready, serving, ending: whether it has told so
    failure: why it could not start; None if it has not said
    unused_rules: which path rules cover no route of the application
    stopping: whether it was told to end
    """

    def __init__(self, process: Process, pipe: Connection, plan: Plan, queues: int, seat: RowRef | None = None) -> None:
        self.process = process
        self.pipe = pipe
        self.plan = plan
        self.queues = queues
        self.seat = seat
        self.began = self.ready = self.serving = self.ending = False
        self.permitted = self.stopping = False
        self.failure: str | None = None
        self.unused_rules = ""
        self.started_at = time.monotonic()
        self.asked_at: float | None = None
        self._turn_asked_at: float | None = None

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process.pid is not None  # noqa: S101
        return self.process.pid

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started_at

    @property
    def accepts(self) -> bool:
        """Whether it accepts connections, or is about to, as far as it has told and was told."""
        return self.permitted and not (self.ending or self.stopping or self.pipe.closed)

    def listen(self) -> None:
        """Take in what it has told since the last time."""
        try:
            while not self.pipe.closed and self.pipe.poll():
                told: tuple[Report, str] = self.pipe.recv()
                report, text = told
                self.asked_at = None
                if report == "failed":
                    self.failure = text
                elif report == "ready":
                    self.ready, self.unused_rules = True, text
                elif report == "turning":
                    self._turn_asked_at = None
                elif report != "alive":
                    setattr(self, report, True)
        except (EOFError, OSError):
            self.pipe.close()

    def ask(self) -> None:
        """Ask for a sign of life, unless one is still owed; a worker that has not begun cannot answer yet."""
        if self.began and self.asked_at is None and self._order(Order("ping")):
            self.asked_at = time.monotonic()
            if self.permitted and self._turn_asked_at is None:
                self._turn_asked_at = self.asked_at

    def permit(self) -> None:
        """Let it accept connections."""
        self.permitted = self._order(Order("accept"))

    def open(self, plan: Plan, queues: list[BoundSocket]) -> None:
        """Have it serve a plan that has more in it than what it was started with.

        queues: all of its slot's
        """
        more = queues[self.queues :]
        self.plan, self.queues = plan, len(queues)
        self._order(Order("open", 0, tuple(one.side for one in more), plan), more)

    def stand_in(self, slot: int, queues: list[BoundSocket]) -> None:
        """Have it accept from another slot's queues, too."""
        self._order(Order("stand in", slot, tuple(one.side for one in queues)), queues)

    def stand_down(self, slot: int) -> None:
        """Have it leave another slot's queues."""
        self._order(Order("stand down", slot))

    def _order(self, order: Order, queues: list[BoundSocket] | None = None) -> bool:
        """Tell it; whether that could be told."""
        if self.pipe.closed:
            return False
        try:
            self.pipe.send(order)
            for one in queues or ():
                send_handle(self.pipe, one.socket.fileno(), self.pid)
        except OSError:
            self.listen()  # it may have told why it ends
            self.pipe.close()
            return False
        return True

    def is_silent(self, timeout: float) -> bool:
        """Whether it has owed a sign of life for `timeout` seconds."""
        return self.asked_at is not None and time.monotonic() - self.asked_at > timeout

    @property
    def is_blocked(self) -> bool:
        """Whether its event loop does not turn, so that it accepts nothing for now."""
        return self._turn_asked_at is not None and time.monotonic() - self._turn_asked_at > BLOCKED

    @property
    def is_available(self) -> bool:
        """Whether a connection in a queue of its own is accepted soon."""
        return self.accepts and not self.is_blocked

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.process.is_alive():
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def terminate(self) -> None:
        """Tell it to end in good order."""
        self.stopping = True
        self.signal(signal.SIGTERM)

    def retire(self) -> None:
        """Tell it to end in good order, and to leave its queues to others at once."""
        self.stopping = True
        if not self.began or not self._order(Order("retire")):
            self.signal(signal.SIGTERM)

    def close(self) -> None:
        """Let go of an ended process."""
        self.process.join()
        self.pipe.close()

    @property
    def story(self) -> str:
        """How it ended, for a message."""
        return tell_end(self.process, self.failure)


def tell_end(process: Process, failure: str | None) -> str:
    """Tell how a process ended, for a message.

    failure: what it has said itself
    """
    code = process.exitcode
    if code is None:
        how = "ended"
    else:
        how = f"was killed by {_signal_name(-code)}" if code < 0 else f"exited with code {code}"
    return f"[{process.pid}] {how}" + (f": {failure}" if failure else "")


def launch_error(failure: str | None, exit_code: int | None, otherwise: str) -> LaunchError:
    """Build the error of a launch that the end of a process ends: what it has said, with its code for a usage error."""
    error = LaunchError(failure or otherwise)
    if failure and exit_code == UsageError.exit_code:
        error.exit_code = UsageError.exit_code
    return error


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal, of which two have names
        return f"signal {number}"


def spawn(config: Config, plan: Plan, queues: list[BoundSocket], seat: RowRef | None) -> Worker:
    """Start a worker in a process that imports the application itself."""
    pipe, theirs = Pipe()
    target = WorkerProcess(config, plan, tuple(one.side for one in queues), theirs, seat)
    process = get_subprocess(config, target, [one.socket for one in queues])
    process.start()
    theirs.close()  # so that the pipe ends with the process
    return Worker(process, pipe, plan, len(queues), seat)
