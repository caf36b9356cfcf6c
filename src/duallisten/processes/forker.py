"""The supervisor's view of a process that forks others off itself, and of its forks.

A fork is a child of that process and not of the supervisor. The supervisor sees its end by a descriptor
(pidfd_open(2), Linux 5.3), and the process that has forked it reports its exit code.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import suppress
from multiprocessing.connection import wait
from typing import TYPE_CHECKING, Any

from duallisten.processes.worker_handle import Child

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.connection import Connection
    from multiprocessing.context import SpawnProcess

    from duallisten.processes.worker_protocol import ForkReport

PATIENCE = 10.0
"""Seconds that the forking process has to answer; it needs milliseconds to fork or to report an exit code."""


class Forker(Child):
    """A process that forks when it is asked to."""

    def __init__(self, process: SpawnProcess | ForkedProcess, pipe: Connection) -> None:
        super().__init__(process, pipe)
        self._exit_codes: dict[int, int] = {}
        self._forked: list[tuple[int, list[int]]] = []

    def _note(self, report: ForkReport, descriptors: list[int]) -> None:
        if report.name == "failed":
            self.failure = report.text
        elif report.name == "ended":
            self._exit_codes[report.pid] = report.code
        else:
            self._exit_codes.pop(report.pid, None)  # of an earlier process with this process id
            self._forked.append((report.pid, descriptors))

    def _wait_until(self, is_reported: Callable[[], bool]) -> bool:
        """Wait up to `PATIENCE` seconds for a report, or until the pipe closes; return whether the report came."""
        deadline = time.monotonic() + PATIENCE
        while not is_reported() and not self.pipe.closed and (left := deadline - time.monotonic()) > 0:
            self.read_reports(left)
        return is_reported()

    def ask(self, order: Any, descriptors: Sequence[int]) -> ForkedProcess:
        """Order a fork, and return it; on failure end the forking process, and raise OSError."""
        try:
            self._channel.send(order, descriptors)
            if not self._wait_until(lambda: bool(self._forked)):
                raise OSError("the forking process does not answer")
            pid, ends = self._forked.pop()
            if not ends:
                raise OSError("no process, memory or descriptor is available")
        except OSError:
            self.end()  # a late report of this fork must not be taken for an answer to the next order
            raise
        return ForkedProcess(pid, ends[0], self.exit_code)

    def exit_code(self, pid: int) -> int | None:
        """Return the exit code of a fork that has ended; None if it is unknown."""
        if not self._wait_until(lambda: pid in self._exit_codes):
            self.end()
            with suppress(ChildProcessError):  # process 1 of a container inherits the children of a dead process
                ended, status = os.waitpid(pid, os.WNOHANG)
                if ended == pid:
                    self._exit_codes[pid] = os.waitstatus_to_exitcode(status)
        return self._exit_codes.get(pid)

    def end(self) -> None:
        """Kill the forking process; it has nothing to clean up."""
        self.signal(signal.SIGKILL)
        self.close()


class ForkedProcess:
    """A forked process, with the interface of `multiprocessing.Process`.

    sentinel: a descriptor that becomes readable when the process has ended
    exitcode: None while it runs, and if it is unknown; negative if a signal ended it
    """

    def __init__(self, pid: int, sentinel: int, exit_code: Callable[[int], int | None]) -> None:
        self.pid = pid
        self.sentinel = sentinel
        self.exitcode: int | None = None
        self._exit_code = exit_code

    def is_alive(self) -> bool:
        """Whether it runs."""
        return self.sentinel >= 0 and not wait([self.sentinel], timeout=0)

    def join(self) -> None:
        """Wait for its end, and for the report of its exit code."""
        if self.sentinel >= 0:
            wait([self.sentinel])
            os.close(self.sentinel)
            self.sentinel = -1
            self.exitcode = self._exit_code(self.pid)
