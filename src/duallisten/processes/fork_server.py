"""The supervisor's side of `--preload`: a fork server imports the application once, and workers are its forks.

`multiprocessing.forkserver` does not fit, as tried with Python 3.11:

- Starting a process waits for the whole import, and no signal is acted on meanwhile.
- An ImportError in a preloaded module is swallowed; any other error shows as an EOFError.
- When the fork server dies, its forks count as ended with code 255 although they go on serving.
- A process has one fork server, so new code cannot be imported beside the old.

The zygote becomes the first fork server. A fork server for new code is spawned as uvicorn spawns a worker.
"""

from __future__ import annotations

import logging
import os
import sys
import time
from contextlib import nullcontext, suppress
from functools import partial
from multiprocessing import Pipe
from typing import TYPE_CHECKING

from duallisten.config.uvicorn_contract import get_subprocess
from duallisten.errors import LaunchError
from duallisten.processes.forker import Forker
from duallisten.processes.process_signals import held
from duallisten.processes.worker_handle import Child, Worker, WorkerFactory
from duallisten.processes.worker_protocol import fork_order, send_start

if TYPE_CHECKING:
    import socket
    from contextlib import AbstractContextManager
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from duallisten.config import Config
    from duallisten.listeners import BoundSocket, Plan
    from duallisten.observability import RowRef, Scoreboard
    from duallisten.processes.forker import ForkedProcess
    from duallisten.processes.worker_protocol import ForkReport
    from duallisten.processes.zygote import Zygote

logger = logging.getLogger("uvicorn.error")

IMPORT_DELAY = 5.0
"""Seconds before the application is imported again, after a fork server that died during the import."""


class ForkServer(Forker):
    """A fork server's process, and its state.

    ready: whether it has imported the application
    """

    def __init__(self, process: SpawnProcess | ForkedProcess, pipe: Connection) -> None:
        super().__init__(process, pipe)
        self.ready = False

    @classmethod
    def spawned(cls, config: Config, board: Scoreboard | None = None) -> ForkServer:
        """Spawn a fork server that imports everything itself; raises OSError if that is not possible."""
        pipe, child_end = Pipe()
        with _unconfigured() as instrumented, held():
            process = get_subprocess(config, partial(_run, config, child_end, board, instrumented), [])
            process.start()
        child_end.close()  # so that the pipe ends with the process
        return cls(process, pipe)

    @classmethod
    def first(cls, config: Config, board: Scoreboard | None, zygote: Zygote | None) -> ForkServer:
        """Let the zygote become the first fork server; spawn that if there is no zygote."""
        if zygote is None:
            return cls.spawned(config, board)
        server = cls(zygote.process, zygote.pipe)
        with suppress(OSError):  # it has died; `poll` sees that by its pipe
            send_start(server._channel, config, board, None)
        return server

    def _note(self, report: ForkReport, descriptors: list[int]) -> None:
        if report.name == "ready":
            self.ready = True
        else:
            super()._note(report, descriptors)

    def fork(self, plan: Plan, queues: list[BoundSocket], row: RowRef | None = None) -> Worker:
        """Fork a worker; raises LaunchError if that fails."""
        pipe, child_end = Pipe()
        try:
            process = self.ask(
                fork_order(plan, queues, row), [child_end.fileno(), *(queue.socket.fileno() for queue in queues)]
            )
        except OSError as error:
            raise LaunchError(f"a worker could not be forked from the fork server: {error}") from None
        finally:
            child_end.close()
        return Worker(process, pipe, plan, len(queues), row)

    def retire(self) -> None:
        """Let the fork server end after its last worker."""
        try:
            self._channel.send(None)
        except OSError:
            self._channel.close()


class ForkingFactory(WorkerFactory):
    """Forks workers off a fork server, and replaces the fork server when it dies or when there is new code.

    Raises LaunchError if this system has no `pidfd_open`.
    """

    def __init__(self, config: Config, board: Scoreboard | None, zygote: Zygote | None = None) -> None:
        super().__init__(config)
        if not hasattr(os, "pidfd_open"):
            raise LaunchError(
                "--preload needs Linux 5.3 or newer: elsewhere each worker imports the application itself"
            )
        self._board = board
        self._server: ForkServer | None = ForkServer.first(config, board, zygote)
        self._next: ForkServer | None = None
        self._retired: list[ForkServer] = []
        self._launched = False
        self._due = 0.0

    @property
    def is_ready(self) -> bool:
        """Whether there is a fork server that has imported the application."""
        return self._server is not None and self._server.ready and not self._server.pipe.closed

    @property
    def is_renewing(self) -> bool:
        """Whether a fork server for new code has been started and is not in use yet."""
        return self._next is not None

    @property
    def importing(self) -> Child | None:
        """The fork server that is importing the application; the one for new code first."""
        return next((one for one in (self._next, self._server) if one is not None and not one.ready), None)

    @property
    def pipes(self) -> list[Connection]:
        """The pipes of all fork servers."""
        return [server.pipe for server in self._servers if not server.pipe.closed]

    @property
    def helpers(self) -> list[Child]:
        """The fork servers."""
        return [*self._servers]

    @property
    def _servers(self) -> list[ForkServer]:
        return [server for server in (self._server, self._next, *self._retired) if server is not None]

    def start(self, plan: Plan, queues: list[BoundSocket], row: RowRef | None) -> Worker:
        """Fork a worker; raises LaunchError or OSError."""
        assert self._server is not None  # noqa: S101
        return self._server.fork(plan, queues, row)

    def renew(self) -> None:
        """Start a fork server for new code; an earlier one that is not in use yet is ended."""
        if self._next is not None:
            self._next.end()
        self._next = self._start_server()

    def poll(self) -> bool:
        """Read the reports, and replace a dead fork server; return whether one with new code has become ready."""
        for server in self._servers:
            server.read_reports()
        self._launched = self._launched or self.is_ready
        for server in [server for server in self._retired if not server.process.is_alive()]:
            self._retired.remove(server)
            server.close()
            self._leave_metrics(server)
        self._replace_dead()
        if self._next is None or not (self._next.ready or self._next.pipe.closed):
            return False
        new, self._next = self._next, None
        if not new.ready:
            new.end()
            reason = new.failure or f"fork server {new.exit_reason}"
            logger.error("The new code cannot be imported: %s; reload aborted, old workers kept", reason)
            return False
        if self._server is not None:
            self._server.retire()
            self._retired.append(self._server)
        self._server = new
        return True

    def _replace_dead(self) -> None:
        """Replace a fork server that has died; raises LaunchError if it died before the first import was complete."""
        if self._server is not None and self._server.pipe.closed:
            dead, self._server = self._server, None
            dead.end()
            self._leave_metrics(dead)
            if not self._launched:
                raise dead.launch_error(f"the application could not be imported: fork server {dead.exit_reason}")
            logger.error("Fork server %s; restarting it", dead.exit_reason)
            self._due = 0.0 if dead.ready else time.monotonic() + IMPORT_DELAY
        if self._server is None and self._next is None and self._due <= time.monotonic():
            self._server = self._start_server()

    def _start_server(self) -> ForkServer | None:
        """Start a fork server; None if no process, memory or descriptor is available now."""
        try:
            return ForkServer.spawned(self.config, self._board)
        except OSError as error:
            logger.error("Another fork server cannot be started now: %s", error)
            self._due = time.monotonic() + IMPORT_DELAY
            return None

    def _leave_metrics(self, server: ForkServer) -> None:
        """Remove the `live` gauges of a fork server that has ended."""
        if self.config.options.private_metrics is not None:
            from duallisten.admin.metrics_multiprocess import leave

            leave(pid=server.pid)

    def close(self) -> None:
        """End every fork server."""
        for server in self._servers:
            server.end()


def _unconfigured() -> AbstractContextManager[bool]:
    """Return a context to start a fork server in; its value says whether that has to set up OpenTelemetry itself."""
    if "opentelemetry.instrumentation.auto_instrumentation" not in sys.modules:
        return nullcontext(False)
    from duallisten.processes.opentelemetry import unconfigured

    return unconfigured()


def _run(
    config: Config, pipe: Connection, board: Scoreboard | None, instrumented: bool, sockets: list[socket.socket]
) -> None:
    """Run a fork server, in its own process; the supervisor does not import this module."""
    from duallisten.processes.fork_server_main import ForkServerProcess

    ForkServerProcess(config, pipe, board, instrumented=instrumented).run()
