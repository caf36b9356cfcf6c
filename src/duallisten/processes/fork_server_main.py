"""Main module of the fork server, which imports the application and forks workers off itself (`--preload`).

The workers share the memory of the import, page by page, until one of them writes to a page. This rests on these facts:

- A fork has one thread, the one that forked. Locks that other threads held stay locked, and the other threads' work
  stays undone (fork(2), POSIX). So the fork server warns if the application's import has started threads. It also warns
  if the import has opened connections: all workers would read from them and write to them.
- An import with the garbage collector off leaves fewer half-empty pages for the workers to write to.
- A module is imported once. New code needs a new fork server; the old one ends after its last worker.
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
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING

from duallisten.errors import DuallistenError
from duallisten.observability import RowRef
from duallisten.processes.exit_watch import ExitWatch
from duallisten.processes.forking import ForkingProcess, freeze, import_ahead, leave_signals
from duallisten.processes.worker_main import run_worker
from duallisten.processes.worker_protocol import ForkReport, bound_sockets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from duallisten.config import Config
    from duallisten.observability import Scoreboard
    from duallisten.processes.worker_protocol import ForkOrder

logger = logging.getLogger("uvicorn.error")

RESTARTED = ("OtelBatch", "OtelPeriodicExportingMetricReader")
"""Name prefixes of threads that start themselves again in a fork (os.register_at_fork)."""


class ForkServerProcess(ForkingProcess):
    """Imports the application, forks workers, and reports when they end.

    instrumented: whether it has to set up OpenTelemetry, here and in each fork (`opentelemetry`)
    """

    def __init__(self, config: Config, pipe: Connection, board: Scoreboard | None, *, instrumented: bool) -> None:
        super().__init__(pipe)
        self._config = config
        self._board = board
        self._instrumented = instrumented

    def run(self) -> None:
        """Fork workers until the supervisor needs no more. A fork serves within this call, and exits."""
        leave_signals()
        try:
            with _ending_with(self._channel.pipe):
                self._import()
        except DuallistenError as error:
            self._report(ForkReport("failed", str(error)))
            ExitWatch(error.exit_code).start()
            sys.exit(error.exit_code)
        self._report(ForkReport("ready"))
        self._obey_orders()

    def _import(self) -> None:
        """Import everything that a worker needs; raises DuallistenError."""
        if self._config.options.private_metrics is not None:
            from duallisten.admin.metrics_multiprocess import join

            join()
        before = set(_open_connections())
        gc.disable()
        if self._instrumented:
            from duallisten.processes.opentelemetry import patch_libraries

            patch_libraries()
        import_ahead(self._config)
        self._config.load()
        self._config.get_loop_factory()  # imports the event loop
        freeze()
        if lost := list(_lost_threads()):
            logger.warning(
                "--preload: importing the application has started threads, which will not run in the workers: %s; "
                "start them in its lifespan",
                ", ".join(lost),
            )
        if opened := set(_open_connections()) - before:
            logger.warning(
                "--preload: importing the application has opened connections that all workers would share: "
                "%s; open them in its lifespan",
                ", ".join(sorted(opened)),
            )

    def _count(self, order: ForkOrder) -> int:
        return 1 + len(order.sides)

    def _become(self, order: ForkOrder, descriptors: list[int]) -> None:
        """Become a worker."""
        signal.signal(signal.SIGINT, signal.default_int_handler)
        gc.enable()
        if self._instrumented:
            from duallisten.processes.opentelemetry import configure

            configure()
        pipe, *queues = descriptors
        serve_order(self._config, order, queues, Connection(pipe), self._board)


def serve_order(
    config: Config, order: ForkOrder, queues: list[int], pipe: Connection, board: Scoreboard | None
) -> None:
    """Serve as a worker, in a fork, as the supervisor's order says.

    Args:
        config: The configuration.
        order: The supervisor's order.
        queues: The descriptors of the worker's sockets, in the order of `order.sides`.
        pipe: The worker's end of its pipe.
        board: The launch's scoreboard, if there is one.
    """
    row = RowRef(board, order.row) if board is not None else None
    bound = bound_sockets(order.sides, [socket.socket(fileno=queue) for queue in queues])
    run_worker(config, order.plan, bound, pipe, row)


@contextmanager
def _ending_with(pipe: Connection) -> Iterator[None]:
    """End this process at once if the other end of `pipe` is closed within the block. No message may arrive meanwhile.

    An import may take long or hang, and a process that forks must not have a second thread to watch the pipe. The
    kernel sends SIGIO for an asynchronous descriptor (fcntl(2), O_ASYNC), and SIGIO ends a process without a handler.
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
    """Return the names of the threads that a fork will not have, without those that start themselves again there."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.name.startswith(RESTARTED):
            yield thread.name


def _open_connections() -> Iterator[str]:
    """Return the peers of this process's connected TCP and UDP sockets, each as "host port number"."""
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError, ValueError):
            if not str(entry.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as sock:
                if sock.family in (socket.AF_INET, socket.AF_INET6):
                    host, port, *_ = sock.getpeername()
                    yield f"{host} port {port}"
