"""What runs in the template: a process that has imported the application and forks workers off itself (`--preload`).

The memory of what was imported is shared by all workers for as long as nobody writes to it. The facts it rests on:

- A fork has one thread, the one that forked; locks that others held stay locked, and what others were to do is not done
  (fork(2), POSIX). So the template has no threads, starts no event loop, and says so if the application's import has
  started some. It says so, too, if the import has opened connections: the workers would read and write them in turns.
- The garbage collector writes to every object that it looks at. What is there at the fork is frozen (`gc.freeze`),
  after an import with the collector off, which leaves fewer half-empty pages for the workers to write to.
- A module is imported once. New code takes a new template; the old one ends when its last worker has.

It listens on nothing, answers nothing and holds no socket of ours longer than a fork takes. Its end of the pipe tells
it that the supervisor is gone; then it ends, and its workers do so by their own pipes.
"""

from __future__ import annotations

import fcntl
import gc
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.reduction import recv_handle, send_handle
from pathlib import Path
from typing import Literal, NamedTuple

from duallisten.config import Config
from duallisten.errors import DuallistenError
from duallisten.listeners import Plan
from duallisten.observability import RowRef, Scoreboard
from duallisten.processes.worker_main import WorkerProcess
from duallisten.sides import Side

logger = logging.getLogger("uvicorn.error")

RESTARTED = ("OtelBatch", "OtelPeriodicExportingMetricReader")
"""How the names of threads begin that start again in a fork by themselves (os.register_at_fork)."""

TemplateReport = Literal["ready", "failed", "forked", "ended"]
"""What a template tells its supervisor: the first of a triple, with a text, and two numbers as far as they apply."""


class Fork(NamedTuple):
    """The order to fork a worker; its pipe and its sockets follow.

    plan: the plan of the worker's pool
    sides: the side of each socket, in their order
    row: the worker's on the scoreboard, if there is one
    """

    plan: Plan
    sides: tuple[Side, ...]
    row: int = 0


@dataclass(frozen=True)
class ForkServerProcess:
    """What the template runs; pickled into it.

    instrumented: whether OpenTelemetry is to be seen to, here and in each fork (`opentelemetry`)
    """

    config: Config
    pipe: Connection
    board: Scoreboard | None = None
    instrumented: bool = False

    def __call__(self, sockets: list[socket.socket] | None = None) -> None:
        """Import the application, then fork workers until the supervisor needs no more; a fork serves, and returns."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; the supervisor decides
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            with _ending_with(self.pipe):
                self._import()
        except DuallistenError as error:
            self._tell("failed", str(error), code=error.exit_code)
            sys.exit(error.exit_code)
        self._tell("ready")
        worker = self._serve_orders()
        if worker is not None:
            worker()

    def _import(self) -> None:
        """Import all that a worker needs; raises DuallistenError."""
        if self.config.options.private_metrics is not None:
            from duallisten.admin.metrics_multiprocess import join

            join()
        before = set(_open_connections())
        gc.disable()
        if self.instrumented:
            from duallisten.processes.opentelemetry import patch_libraries

            patch_libraries()
        self.config.load()
        self.config.get_loop_factory()  # imports the event loop
        gc.collect()
        gc.freeze()
        if others := list(_lost_threads()):
            logger.warning(
                "--preload: importing the application has started threads, which will not run in the workers: %s; "
                "start them in its lifespan",
                ", ".join(others),
            )
        if opened := set(_open_connections()) - before:
            logger.warning(
                "--preload: importing the application has opened connections, that all workers would share: "
                "%s; open them in its lifespan",
                ", ".join(sorted(opened)),
            )

    def _tell(self, report: TemplateReport, text: str = "", pid: int = 0, code: int = 0) -> None:
        with suppress(OSError):
            self.pipe.send((report, text, pid, code))

    def _serve_orders(self) -> _Forked | None:
        """Fork a worker for each order, and report the ends of all; gives a fork what it is to run."""
        children: dict[int, int] = {}  # by the descriptor that tells of its end
        listening = True
        while listening or children:
            for readable in wait([*([self.pipe] if listening else []), *children]):
                if isinstance(readable, int):
                    _, status = os.waitpid(pid := children.pop(readable), 0)
                    os.close(readable)
                    self._tell("ended", pid=pid, code=os.waitstatus_to_exitcode(status))
                    continue
                try:
                    order: Fork | None = self.pipe.recv()
                except (EOFError, OSError):
                    return None
                if order is None:
                    listening = False
                elif (forked := self._fork(order, children)) is not None:
                    return forked
        return None

    def _fork(self, order: Fork, children: dict[int, int]) -> _Forked | None:
        """Fork; gives the fork what it is to run, and the template nothing."""
        pipe = recv_handle(self.pipe)
        sockets = [recv_handle(self.pipe) for _ in order.sides]
        _flush()
        pid = os.fork()
        if pid == 0:
            self.pipe.close()
            for descriptor in children:
                os.close(descriptor)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            signal.signal(signal.SIGHUP, signal.SIG_DFL)
            gc.enable()
            seat = RowRef(self.board, order.row) if self.board is not None else None
            return _Forked(self, order, pipe, sockets, seat)
        for descriptor in (pipe, *sockets):
            os.close(descriptor)
        end = os.pidfd_open(pid)
        children[end] = pid
        self._tell("forked", pid=pid)
        with suppress(OSError):
            send_handle(self.pipe, end, os.getppid())
        return None


class _Forked(NamedTuple):
    """What a fork runs when it has left the template's loop."""

    template: ForkServerProcess
    order: Fork
    pipe: int
    sockets: list[int]
    seat: RowRef | None

    def __call__(self) -> None:
        if self.template.instrumented:
            from duallisten.processes.opentelemetry import configure

            configure()
        config = self.template.config
        sockets = [socket.socket(fileno=descriptor) for descriptor in self.sockets]
        WorkerProcess(config, self.order.plan, self.order.sides, Connection(self.pipe), self.seat)(sockets)


@contextmanager
def _ending_with(pipe: Connection) -> Iterator[None]:
    """End this process at once if the other end of `pipe` is closed within the block; nothing else may come over it.

    An import may take long or hang, and a thread to watch the pipe would be one too many. SIGIO, which the kernel sends
    for an asynchronous descriptor (fcntl(2), O_ASYNC), ends a process that does not handle it.
    """
    descriptor = pipe.fileno()
    flags = fcntl.fcntl(descriptor, fcntl.F_GETFL)
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(descriptor, fcntl.F_SETFL, flags | os.O_ASYNC)
    if pipe.poll():  # it was closed before
        sys.exit(0)
    try:
        yield
    finally:
        fcntl.fcntl(descriptor, fcntl.F_SETFL, flags)


def _lost_threads() -> Iterator[str]:
    """The names of this process's threads that a fork will not have; OpenTelemetry's SDK starts its own again there."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.name.startswith(RESTARTED):
            yield thread.name


def _flush() -> None:
    """Write out what was printed, which each fork would write again."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, OSError, ValueError):  # there is none, or it is closed
            stream.flush()


def _open_connections() -> Iterator[str]:
    """The connected sockets of this process that lead elsewhere, each by its descriptor and its peer."""
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError, ValueError):
            if not str(entry.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as sock:
                if sock.family in (socket.AF_INET, socket.AF_INET6):
                    host, port, *_ = sock.getpeername()
                    yield f"{host} port {port}"
