"""A template as the supervisor sees it: where forked workers come from (`--preload`).

The template is a process of uvicorn's making, like a worker; a forked worker is its child, not the supervisor's, so its
end is told by a descriptor (pidfd_open(2), Linux 5.3), and its exit code by the template.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from multiprocessing import Pipe
from multiprocessing.connection import wait
from multiprocessing.reduction import recv_handle, send_handle

from duallisten.config import Config
from duallisten.config.uvicorn_contract import get_subprocess
from duallisten.errors import LaunchError
from duallisten.listeners import BoundSocket, Plan
from duallisten.observability import RowRef, Scoreboard
from duallisten.processes.fork_server_main import Fork, ForkServerProcess, TemplateReport
from duallisten.processes.worker_handle import Worker, tell_end

PATIENCE = 10.0
"""Seconds that a template has to answer: it forks, or tells a fork's exit code, in milliseconds."""


class ForkServer:
    """A template process, and how it stands.

    ready: whether it has imported the application
    failure, exit_code: why it could not, and the exit code for that; None and 0 if it has not said
    """

    def __init__(self, config: Config, board: Scoreboard | None = None) -> None:
        self.pipe, theirs = Pipe()
        with _unconfigured() as instrumented:
            self.process = get_subprocess(config, ForkServerProcess(config, theirs, board, instrumented), [])
            self.process.start()
        theirs.close()  # so that the pipe ends with the process
        self.ready = False
        self.failure: str | None = None
        self.exit_code = 0
        self.exit_codes: dict[int, int] = {}
        self._forked: int | None = None

    def listen(self) -> None:
        """Take in what it has told since the last time."""
        try:
            while not self.pipe.closed and self.pipe.poll():
                told: tuple[TemplateReport, str, int, int] = self.pipe.recv()
                report, text, pid, code = told
                if report == "ready":
                    self.ready = True
                elif report == "failed":
                    self.failure, self.exit_code = text, code
                elif report == "ended":
                    self.exit_codes[pid] = code
                else:
                    self._forked = pid
                    return  # a descriptor follows, for `fork` to take
        except (EOFError, OSError):
            self.pipe.close()

    def wait_for(self, timeout: float) -> None:
        """Wait `timeout` seconds at most for a word, and take it in."""
        if not self.pipe.closed and self.pipe.poll(timeout):
            self.listen()

    def fork(self, plan: Plan, queues: list[BoundSocket], seat: RowRef | None = None) -> Worker:
        """Have it fork a worker; raises LaunchError where it does not."""
        ours, theirs = Pipe()
        try:
            self.pipe.send(Fork(plan, tuple(one.side for one in queues), seat.number if seat is not None else 0))
            for descriptor in (theirs.fileno(), *(one.socket.fileno() for one in queues)):
                send_handle(self.pipe, descriptor, self.process.pid or 0)
            return Worker(ForkedProcess(self, *self._take_fork()), ours, plan, len(queues), seat)
        except (OSError, EOFError, RuntimeError) as error:  # what `recv_handle` raises
            self.end()  # what it still tells of this fork must not be taken for an answer to the next order
            reason = error or "the process that has imported it has ended"
            raise LaunchError(f"the preloaded application could not be forked: {reason}") from None
        finally:
            theirs.close()

    def _take_fork(self) -> tuple[int, int]:
        """Wait for the process id of the fork, and the descriptor that tells its end; raises OSError."""
        deadline = time.monotonic() + PATIENCE
        while self._forked is None:
            if self.pipe.closed or time.monotonic() > deadline:
                raise OSError("the process that has imported it does not answer")
            self.wait_for(deadline - time.monotonic())
        pid, self._forked = self._forked, None
        self.exit_codes.pop(pid, None)  # of an earlier process with this number
        return pid, recv_handle(self.pipe)

    def retire(self) -> None:
        """Let it end when its last worker has."""
        try:
            self.pipe.send(None)
        except OSError:
            self.pipe.close()

    def end(self) -> None:
        """End it now; it has nothing to put in order."""
        self.process.kill()
        self.process.join()
        self.pipe.close()

    @property
    def is_alive(self) -> bool:
        """Whether the process runs."""
        return self.process.is_alive()

    @property
    def story(self) -> str:
        """How it ended, for a message."""
        return tell_end(self.process, self.failure)


class ForkedProcess:
    """A worker's process that a template has forked: what `multiprocessing.Process` is for a spawned one.

    sentinel: the descriptor that can be read when it has ended
    """

    def __init__(self, template: ForkServer, pid: int, sentinel: int) -> None:
        self.pid = pid
        self.sentinel = sentinel
        self._template = template

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.sentinel >= 0 and not wait([self.sentinel], timeout=0)

    def join(self) -> None:
        """Wait for its end, and for its exit code as long as there is someone to tell it."""
        if self.sentinel < 0:
            return
        wait([self.sentinel])
        os.close(self.sentinel)
        self.sentinel = -1
        _ = self.exitcode

    @property
    def exitcode(self) -> int | None:
        """Its exit code, negated where a signal ended it; None while it runs, and where nobody could tell."""
        deadline = time.monotonic() + PATIENCE
        while not self.is_alive() and self.pid not in self._template.exit_codes:
            if self._template.pipe.closed or time.monotonic() > deadline:
                self._template.end()
                self._reap()
                break
            self._template.wait_for(deadline - time.monotonic())
        return self._template.exit_codes.get(self.pid)

    def _reap(self) -> None:
        """Take the end of an orphan: process 1 of a container inherits what a dead template leaves."""
        with suppress(ChildProcessError):
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid == self.pid:
                self._template.exit_codes[pid] = os.waitstatus_to_exitcode(status)


def _unconfigured() -> AbstractContextManager[bool]:
    """Start a template within it, which is told whether it has to see to OpenTelemetry itself."""
    if "opentelemetry.instrumentation.auto_instrumentation" not in sys.modules:
        return nullcontext(False)
    from duallisten.processes.opentelemetry import unconfigured

    return unconfigured()


def can_preload() -> bool:
    """Whether this system has what it takes."""
    return hasattr(os, "pidfd_open") and hasattr(os, "fork")
