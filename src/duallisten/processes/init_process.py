"""The duties of process 1 in a container: reap orphans, and pass signals on.

A process whose parent has ended becomes a child of process 1 of its namespace (pid_namespaces(7)). Process 1 has to
wait for it when it ends, or else it stays a zombie and keeps its process id.

A supervisor knows its own children, so it waits for all others (`OrphanReaper`). A process that runs the application
cannot tell an orphan from a child that the application has started and will wait for: reaping that would lose its exit
code. uvloop even starts children in C. So process 1 forks before the application is imported and anything is opened
(`fork_from_init`). The child serves. Process 1 waits for every process that ends, as the init of `docker run --init`
does.

This rests on these facts:

- Process 1 gets only signals that it handles or blocks. A blocked signal stays pending, and `sigwaitinfo` takes it.
- A terminal sends its signals to every process of the group, so the child has them already. Their `si_code` is above 0,
  which means that the kernel has sent them (sigaction(2)).
- The kernel kills all other processes of the namespace when process 1 ends.
- `LISTEN_PID` and `WATCHDOG_PID` hold the id of the process that systemd means (sd_listen_fds(3)).

Invariants:
    - The application's children are left to the application, and the supervisor's to the supervisor.
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
"""The first descriptor after the standard streams."""

MEANT = ("LISTEN_PID", "WATCHDOG_PID")
"""Environment variables that hold the id of the process that systemd means."""


def fork_from_init() -> None:
    """Fork process 1: the child returns from this call, and process 1 exits with the child's exit code."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    if child := os.fork():
        _close_inherited()
        os._exit(_attend(child))
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    for name in MEANT:
        if os.environ.get(name) == "1":
            os.environ[name] = str(os.getpid())


def _close_inherited() -> None:
    """Close all but the standard streams: passed sockets belong to the child."""
    for entry in list(Path("/proc/self/fd").iterdir()):
        if int(entry.name) >= FIRST_DESCRIPTOR:
            with suppress(OSError):
                os.close(int(entry.name))


def _attend(child: int) -> int:
    """Reap processes that end, and pass signals on, until the child has ended; returns its exit code."""
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
                    return code if code >= 0 else 128 - code  # as in a shell


class OrphanReaper(SupervisorObserver):
    """Reaps orphans for a supervisor that is process 1."""

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor

    def tick(self) -> None:
        """Reap the orphans that have ended; `active_children` reaps the processes of `multiprocessing`."""
        known = {child.pid for child in active_children()}
        known |= {one.pid for one in (*self._supervisor.workers, *self._supervisor.factory.helpers)}
        for pid in set(_children()) - known:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)


def _children() -> Iterator[int]:
    """Return the process ids of this process's children, zombies included (proc_pid_task(5))."""
    for entry in Path("/proc/self/task").glob("*/children"):
        yield from map(int, entry.read_text().split())
