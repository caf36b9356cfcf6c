"""What process 1 of a container has to do: reap orphans, and pass signals on.

A process whose parent has ended becomes a child of process 1 of its namespace (pid_namespaces(7)). Process 1 has to
wait for it when it ends, else it stays a zombie, and its number stays taken.

A supervisor knows its own children, so it waits for all others (`OrphanReaper`). A process that runs the application
does not know an orphan from a child that the application has started and will wait for, whose exit code would be lost;
uvloop's children are even started in C. So it forks before the application is imported and anything is opened
(`fork_from_init`). The child serves. Process 1 waits for whatever ends, as what `docker run --init` puts there does.

The facts it rests on:

- Process 1 is sent only signals that it handles, or blocks: a blocked one stays pending, and is taken by `sigwaitinfo`.
- A terminal sends its signals to every process of the group, so the child has them already. Their code says that the
  kernel has sent them (sigaction(2), `si_code` above 0).
- The kernel kills all other processes of the namespace when process 1 ends.
- `LISTEN_PID` and `WATCHDOG_PID` name the process that systemd means (sd_listen_fds(3)).

Invariants:
    - A child of the application's is left to the application, and one of the supervisor's to the supervisor.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing import active_children
from pathlib import Path
from typing import TYPE_CHECKING

from duallisten.processes.launch_status import SupervisorObserver

if TYPE_CHECKING:
    from duallisten.processes.supervisor import Supervisor

FIRST_DESCRIPTOR = 3
"""The first that is no standard stream."""

MEANT = ("LISTEN_PID", "WATCHDOG_PID")
"""Variables with the number of the process that is meant."""


def fork_from_init() -> None:
    """Fork, where this is process 1: the child returns, and process 1 ends with the child's exit code."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    if child := os.fork():
        _close_inherited()
        os._exit(_attend(child))
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for name in MEANT:
        if os.environ.get(name) == "1":
            os.environ[name] = str(os.getpid())


def _close_inherited() -> None:
    """Close all but the standard streams: sockets that were passed are the child's."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        if int(entry.name) >= FIRST_DESCRIPTOR:
            with suppress(OSError):
                os.close(int(entry.name))


def _attend(child: int) -> int:
    """Reap whatever ends, and pass signals on, until the child has ended; returns its exit code."""
    while True:
        signalled = signal.sigwaitinfo(signal.valid_signals())
        if signalled.si_signo != signal.SIGCHLD:
            if signalled.si_code <= 0:
                os.kill(child, signalled.si_signo)
            continue
        with suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                if ended[0] == child:
                    code = os.waitstatus_to_exitcode(ended[1])
                    return code if code >= 0 else 128 - code  # as a shell has it


class OrphanReaper(SupervisorObserver):
    """Reaps what has become a child of a supervisor that is process 1."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def tick(self) -> None:
        """Reap the orphans that have ended; `active_children` has reaped those of `multiprocessing`."""
        known = {child.pid for child in active_children()}
        known |= {one.pid for one in (*self._supervisor.workers, *self._supervisor.factory.helpers)}
        for pid in set(_children()) - known:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _children() -> Iterator[int]:
    """The children of this process, zombies included (proc_pid_task(5))."""
    for entry in Path("/proc/self/task").glob("*/children"):
        yield from map(int, entry.read_text().split())
