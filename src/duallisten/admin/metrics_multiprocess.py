"""The files in which several processes keep the application's own metrics, for whichever of them is scraped.

`prometheus_client` keeps every number of such a process in files that it maps into memory, in the directory that
`PROMETHEUS_MULTIPROC_DIR` names. The facts that this rests on:

- The variable is read when the package is imported, which an application does. So it is set before any worker or fork
  server starts, in the supervisor's environment, which they inherit.
- A file is named after the process that writes it, by default after its id (`values.MultiProcessValue`), and must be
  kept when the process is gone, for it has its counts. A launch that replaces its workers for days would fill a disk,
  and each scrape would read all of it. So files are named after the worker's row of the scoreboard: a row has one
  process at a time, whose successor takes its files over and counts on. Processes that an application forks by itself
  go by their ids.
- After a fork the package notices that the process is another, and opens files of its own (`--preload`).
- Gauges of a `live` mode vanish with their process: `mark_process_dead`, which the supervisor calls.
- A launch that was killed leaves its directory behind. Each process of a launch holds a lock on its directory
  (flock(2)), and the next launch removes those that nobody holds. The same lock keeps systemd-tmpfiles(8) away.

Invariants:
- A directory that the user has named stays. What earlier launches have left in it (`*.db`) is removed at launch, as the
  package asks for, and nothing else.
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
"""What the names of our own directories begin with."""


def directory() -> str | None:
    """Return the directory that the processes share, by the variable or its older name; None where there is none."""
    return os.environ.get(VARIABLE) or os.environ.get(VARIABLE.lower()) or None


@contextmanager
def shared_directory(*, several: bool) -> Iterator[None]:
    """Ensure that the processes of a launch have an empty directory for their files, if there are several.

    Raises LaunchError where the directory that the user has named cannot be used.
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
    """Remove what earlier launches have left, but not what this process, having imported the application, has begun."""
    kept = f"_{os.getpid()}.db" if "prometheus_client" in sys.modules else None
    try:
        path.mkdir(parents=True, exist_ok=True)
        for file in path.glob("*.db"):
            if kept is None or not file.name.endswith(kept):
                file.unlink(missing_ok=True)
    except OSError as error:
        raise LaunchError(f"${VARIABLE} {path} cannot be used: {error.strerror}") from None


def _make() -> tuple[Path, int]:
    """Make a directory of our own and lock it; return its path and the lock."""
    try:
        _sweep(Path(tempfile.gettempdir()))
        while True:
            path = Path(tempfile.mkdtemp(prefix=PREFIX))
            lock = _open(path)
            fcntl.flock(lock, fcntl.LOCK_SH)
            if path.exists():  # another launch, which sweeps, has not been quicker
                return path, lock
            os.close(lock)
    except OSError as error:
        raise LaunchError(
            f"no directory can be made for the application's metrics: {error}; ${VARIABLE} may name one"
        ) from None


def _open(path: Path) -> int:
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)


def _sweep(parent: Path) -> None:
    """Remove the directories of this user's launches that have no process left."""
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
    """How this process takes part: the row that its files are named after, and its lock on the directory."""

    row = 0
    pid = 0
    lock: int | None = None

    def name(self) -> str:
        pid = os.getpid()
        return f"w{self.row}" if self.row and pid == self.pid else str(pid)


_own = _Membership()


def join(row: int = 0) -> None:
    """Name the files of this process after its row; called before it imports the application.

    row: 0 for a process that has none, or is yet to be forked and given one; its files are named after its id
    """
    shared = directory()
    if shared is None:
        return
    _own.row, _own.pid = row, os.getpid()
    if _own.lock is not None:  # a fork of a process that has joined: the package asks for its name again
        return
    from prometheus_client import values

    _own.lock = _open(Path(shared))
    fcntl.flock(_own.lock, fcntl.LOCK_SH)
    make: Any = values.MultiProcessValue
    values.ValueClass = make(process_identifier=_own.name)


def leave(row: int = 0, pid: int = 0) -> None:
    """Remove the `live` gauges of a process that is gone; called by the supervisor.

    row, pid: the name that its files have: its row's, or its id
    """
    shared = directory()
    if shared is None:
        return
    from prometheus_client.multiprocess import mark_process_dead

    with suppress(OSError):
        mark_process_dead(f"w{row}" if row else pid, shared)  # type: ignore[no-untyped-call]
