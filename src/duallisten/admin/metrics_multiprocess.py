"""The files in which several processes keep the application's own metrics, so that any of them can be scraped.

With `PROMETHEUS_MULTIPROC_DIR` set, `prometheus_client` keeps all numbers of a process in memory-mapped files in that
directory. This module relies on these facts:

- The package reads the variable when the application imports it. So it is set in the supervisor's environment, which
  workers and the fork server inherit, before any of them starts.
- A file is named after the process that writes it, by default after its id (`values.MultiProcessValue`). It must be
  kept when the process is gone, because it holds the counts. A launch that replaces its workers for days would fill a
  disk, and each scrape would read all files. So files are named after the worker's scoreboard row: a row has one
  process at a time, and the next process of the row continues its files. Processes that the application forks itself
  are named after their ids.
- After a fork (`--preload`) the package notices the new process id, and opens new files.
- Gauges of a `live` mode are removed with their process: the supervisor calls `mark_process_dead`.
- A launch that was killed leaves its directory behind. Each process of a launch holds a lock on its directory
  (flock(2)), and the next launch removes directories without a lock. The same lock keeps systemd-tmpfiles(8) from
  removing a directory in use.

Invariants:
- A directory that the user has named is kept. At launch, the files of earlier launches in it (`*.db`) are removed, as
  the package requires, and nothing else.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from duallisten.errors import LaunchError

VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
PREFIX = "duallisten-metrics-"
"""The prefix of the names of our own directories."""


def directory() -> str | None:
    """Return the shared directory, from the variable or its older lower-case name; None if neither is set."""
    return os.environ.get(VARIABLE) or os.environ.get(VARIABLE.lower()) or None


@contextmanager
def shared_directory(*, several: bool) -> Iterator[None]:
    """Ensure that the processes of a launch have an empty directory for their files, if there are several.

    Raises LaunchError if the directory named by the user cannot be used.
    """
    named = directory()
    if named is not None:
        _empty(Path(named))
    if named is not None or not several:
        yield
        return
    path, lock = _make()
    os.environ[VARIABLE] = str(path)
    try:
        yield
    finally:
        del os.environ[VARIABLE]  # it was not set, or empty
        shutil.rmtree(path, ignore_errors=True)
        os.close(lock)


def _empty(path: Path) -> None:
    """Remove the files of earlier launches; this process's own are kept if it has imported `prometheus_client`."""
    kept = f"_{os.getpid()}.db" if "prometheus_client" in sys.modules else None
    try:
        path.mkdir(parents=True, exist_ok=True)
        for file in path.glob("*.db"):
            if kept is None or not file.name.endswith(kept):
                file.unlink(missing_ok=True)
    except OSError as error:
        raise LaunchError(f"${VARIABLE} {path} cannot be used: {error.strerror}") from None


def _make() -> tuple[Path, int]:
    """Create a directory and lock it; return its path and the lock."""
    try:
        _sweep(Path(tempfile.gettempdir()))
        while True:
            path = Path(tempfile.mkdtemp(prefix=PREFIX))
            lock = _open(path)
            fcntl.flock(lock, fcntl.LOCK_SH)
            if path.exists():  # not removed by another launch's `_sweep` before it was locked
                return path, lock
            os.close(lock)
    except OSError as error:
        raise LaunchError(
            f"cannot create a directory for the application's metrics: {error}; set ${VARIABLE} to a writable directory"
        ) from None


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _sweep(parent: Path) -> None:
    """Remove the directories of this user's launches that have no processes left."""
    for path in parent.glob(f"{PREFIX}*"):
        with suppress(OSError):
            if path.lstat().st_uid != os.geteuid():
                continue
            lock = _open(path)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(path)
            finally:
                os.close(lock)


class _Membership:
    """This process's use of the directory: the row that its files are named after, and its lock."""

    row = 0
    pid = 0
    lock: int | None = None

    def name(self) -> str:
        pid = os.getpid()
        return f"w{self.row}" if self.row and pid == self.pid else str(pid)


_own = _Membership()


def join(row: int = 0) -> None:
    """Name the files of this process after its row; called before it imports the application.

    row: 0 for a process without a row, or one whose forks will get rows; its files are named after its id
    """
    shared = directory()
    if shared is None:
        return
    _own.row, _own.pid = row, os.getpid()
    if _own.lock is not None:  # a fork of a process that has joined: the package calls `name` again
        return
    from prometheus_client import values

    _own.lock = _open(Path(shared))
    fcntl.flock(_own.lock, fcntl.LOCK_SH)
    make: Any = values.MultiProcessValue
    values.ValueClass = make(process_identifier=_own.name)


def leave(row: int = 0, pid: int = 0) -> None:
    """Remove the `live` gauges of a process that is gone; called by the supervisor.

    row, pid: what its files are named after: its row, or its id if the row is 0
    """
    shared = directory()
    if shared is None:
        return
    from prometheus_client.multiprocess import mark_process_dead

    with suppress(OSError):
        mark_process_dead(f"w{row}" if row else pid, shared)  # type: ignore[no-untyped-call]
