"""A worker process, seen from both of its ends.

The process is uvicorn's (`uvicorn._subprocess`: spawned, with its standard input and its logging set up again). Over a
pipe its supervisor hears that it began, that it serves, or why it failed, and that it still answers; and it hears from
the pipe's end that its supervisor is gone, and ends in good order: no orphan keeps the port.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from dataclasses import dataclass, field
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from typing import Literal

from uvicorn._subprocess import get_subprocess

from duallisten.admission import Side
from duallisten.config import Config
from duallisten.errors import DuallistenError
from duallisten.plan import Plan
from duallisten.server import Server
from duallisten.sockets import BoundSocket, bound_socket

Report = Literal["began", "serving", "failed", "alive"]
"""What a worker tells its supervisor: the first of a pair, whose second says more."""

PING = b"ping"


class _ReportingServer(Server):
    """A server that tells when it serves."""

    pipe: Connection

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.pipe.send(("serving", ""))


@dataclass(frozen=True)
class WorkerProcess:
    """What a worker runs; pickled into it.

    sides: the side of each socket that it is given, in their order
    """

    config: Config
    plan: Plan
    sides: tuple[Side, ...]
    pipe: Connection

    def __call__(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop; exits with uvicorn's code for a failed start, having told the supervisor why."""
        self.pipe.send(("began", ""))
        threading.Thread(target=self._answer, name="duallisten-supervised", daemon=True).start()
        server = _ReportingServer(self.config, plan=self.plan, bound=_bound(self.sides, sockets))
        server.pipe = self.pipe
        try:
            server.run()
        except DuallistenError as error:
            self.pipe.send(("failed", str(error)))
            sys.exit(error.exit_code)

    def _answer(self) -> None:
        """Answer the supervisor's questions; when it is gone, end as if it had said so."""
        try:
            while True:
                self.pipe.recv_bytes()
                self.pipe.send(("alive", ""))
        except (EOFError, OSError):
            os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True)
class ReloadedProcess:
    """What the process under uvicorn's reloader runs; it tells a developer itself what went wrong."""

    config: Config
    plan: Plan
    sides: tuple[Side, ...]

    def __call__(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve until told to stop."""
        try:
            Server(self.config, plan=self.plan, bound=_bound(self.sides, sockets)).run()
        except DuallistenError as error:
            sys.stderr.write(f"duallisten: {error}\n")
            sys.exit(error.exit_code)


def _bound(sides: tuple[Side, ...], sockets: list[socket.socket] | None) -> list[BoundSocket]:
    return [bound_socket(side, sock) for side, sock in zip(sides, sockets or (), strict=True)]


@dataclass(eq=False)
class Worker:
    """A worker as its supervisor sees it: a process, and what it has told.

    began, serving: whether it has told so
    failure: why it could not start; None if it has not said
    """

    config: Config
    plan: Plan
    bound: list[BoundSocket]
    began: bool = False
    serving: bool = False
    failure: str | None = None
    stopping: bool = False
    started_at: float = field(default_factory=time.monotonic)
    asked_at: float | None = None

    def __post_init__(self) -> None:
        self.pipe, child = Pipe()
        sides = tuple(one.side for one in self.bound)
        target = WorkerProcess(self.config, self.plan, sides, child)
        self.process = get_subprocess(self.config, target, [one.socket for one in self.bound])
        self.process.start()
        child.close()  # so that the pipe ends with the process

    @property
    def pid(self) -> int:
        """Its process id."""
        assert self.process.pid is not None  # noqa: S101
        return self.process.pid

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self.started_at

    def listen(self) -> None:
        """Take in what it has told since the last time."""
        try:
            while not self.pipe.closed and self.pipe.poll():
                told: tuple[Report, str] = self.pipe.recv()
                report, text = told
                self.asked_at = None
                if report == "began":
                    self.began = True
                elif report == "serving":
                    self.serving = True
                elif report == "failed":
                    self.failure = text
        except (EOFError, OSError):
            self.pipe.close()

    def ask(self) -> None:
        """Ask for a sign of life, unless one is still owed; a worker that has not begun cannot answer yet."""
        if not self.began or self.asked_at is not None or self.pipe.closed:
            return
        try:
            self.pipe.send_bytes(PING)
            self.asked_at = time.monotonic()
        except OSError:
            self.pipe.close()

    def is_silent(self, timeout: float) -> bool:
        """Tell whether it has owed a sign of life for `timeout` seconds."""
        return self.asked_at is not None and time.monotonic() - self.asked_at > timeout

    def signal(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self.process.is_alive():
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Tell it to end in good order."""
        self.stopping = True
        self.signal(signal.SIGTERM)

    def close(self) -> None:
        """Let go of an ended process."""
        self.process.join()
        self.pipe.close()
