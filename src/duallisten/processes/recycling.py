"""Which workers have had enough, so that they are replaced: by memory, by age, by requests served.

- `--limit-worker-memory`: resident memory, which the supervisor reads once a second, elsewhere than on Linux by psutil.
  It counts what a worker shares with others, too, such as what a preloaded application has in memory before the fork.
- `--limit-worker-age`: seconds since the worker was started.
- `--limit-max-requests`: a worker says itself that it has served as many (`worker_main`).

Each worker has limits of its own for memory and age: a random share of up to `JITTER` lower, so that workers which are
alike do not come to the end together. For requests there is `--limit-max-requests-jitter`. The worker goes on serving
until its successor does (`rolling`), so it may get over its limit. Where several have had enough, the oldest one is
replaced first. If a successor fails, the next try is after a growing delay.

A worker may have more memory than the limit as soon as it serves. It would be replaced all the time, so it is left
alone until it has been there for `YOUNG` seconds, and the log says once that the limit is too low.

Invariants:
    - A worker is not told to end by this module: it asks for a successor, and only while nothing else is replaced.
"""

from __future__ import annotations

import logging
import sys
import time
from typing import TYPE_CHECKING, NamedTuple

from duallisten.errors import UsageError
from duallisten.observability import resident_bytes
from duallisten.processes.worker_slots import YOUNG

if TYPE_CHECKING:
    from duallisten.config.options import Options
    from duallisten.processes.supervisor import Supervisor
    from duallisten.processes.worker_handle import Worker

logger = logging.getLogger("uvicorn.error")

JITTER = 0.1
"""The share by which a worker's own limit is lower than what was asked for, at most."""

LOOK_INTERVAL = 1.0
"""Seconds between two readings of the workers' memory."""

MIB = 1 << 20


class Limits(NamedTuple):
    """What a worker may come to; 0 where there is no limit.

    memory: bytes
    age: seconds
    """

    memory: int = 0
    age: float = 0.0

    def lowered(self, jitter: float) -> Limits:
        """Return the limits of a worker.

        jitter: its random number, from 0 to 1
        """
        share = 1.0 - JITTER * jitter
        return Limits(int(self.memory * share), self.age * share)


class Sample(NamedTuple):
    """What a worker has come to.

    age: seconds
    memory: bytes; 0 where they were not read
    requests: the number that it may serve, if it has
    """

    age: float
    memory: int = 0
    requests: str = ""


def reason_to_replace(sample: Sample, limits: Limits) -> str:
    """Say why a worker is replaced, as the rest of a line about it; empty where it is not.

    limits: the worker's own
    """
    if sample.requests:
        return f"has served {sample.requests} requests (--limit-max-requests)"
    if 0 < limits.memory < sample.memory and sample.age >= YOUNG:
        return (
            f"has {sample.memory / MIB:.1f} MiB of memory, its limit is {limits.memory / MIB:.1f} MiB "
            "(--limit-worker-memory)"
        )
    if 0 < limits.age <= sample.age:
        return f"is {sample.age:.0f} s old, its limit is {limits.age:.0f} s (--limit-worker-age)"
    return ""


class Recycling:
    """Looks at the workers of a supervisor, and has those replaced that have had enough.

    Raises UsageError where the memory of a worker cannot be read here.
    """

    def __init__(self, supervisor: Supervisor) -> None:
        self._supervisor = supervisor
        self._next_reading = 0.0
        self._warned: set[str] = set()
        if self._options.limit_worker_memory:
            check_readable()

    @property
    def _options(self) -> Options:
        return self._supervisor.config.options

    def look(self) -> None:
        """Ask for the successor of the worker that has had enough for the longest, if nothing else is replaced."""
        supervisor, now = self._supervisor, time.monotonic()
        rolling = supervisor.rolling
        if not supervisor.launched or now < rolling.retry_at or not rolling.is_idle:
            return
        limits = Limits(self._options.limit_worker_memory, self._options.limit_worker_age)
        is_reading = limits.memory > 0 and now >= self._next_reading
        if is_reading:
            self._next_reading = now + LOOK_INTERVAL
        slots = [(slot, slot.worker) for slot in supervisor.slots if slot.worker is not None]
        for slot, worker in sorted(slots, key=lambda placed: placed[1].age, reverse=True):
            if not (worker.serving and worker.is_available):
                continue
            own = limits.lowered(worker.jitter)
            sample = Sample(worker.age, self._memory_of(worker, own) if is_reading else 0, worker.at_limit)
            if reason := reason_to_replace(sample, own):
                rolling.replace(slot, reason, retried=True)
                return

    def _memory_of(self, worker: Worker, limits: Limits) -> int:
        """Read the memory of a worker, in bytes, and warn of a limit with which it has no use."""
        memory = resident_memory(worker.pid)
        if memory is None:
            if worker.process.is_alive():
                self._warn("off", f"The memory of worker [{worker.pid}] cannot be read: --limit-worker-memory is off")
        elif memory > limits.memory and worker.age < YOUNG:
            self._warn(
                "low",
                f"Worker [{worker.pid}] has {memory / MIB:.1f} MiB of memory {worker.age:.0f} s after its start: "
                f"--limit-worker-memory {self._options.limit_worker_memory} is too low",
            )
        return memory or 0

    def _warn(self, about: str, text: str) -> None:
        """Warn once."""
        if about not in self._warned:
            self._warned.add(about)
            logger.warning("%s", text)


def check_readable() -> None:
    """Raise UsageError where the memory of other processes cannot be read, with what to do."""
    if sys.platform != "linux":
        try:
            import psutil  # noqa: F401
        except ImportError:
            raise UsageError("--limit-worker-memory needs psutil here: pip install psutil") from None


def resident_memory(pid: int) -> int | None:
    """Return the resident memory of a process, in bytes; None where it cannot be read, or the process is gone."""
    if sys.platform == "linux":
        try:
            return resident_bytes(pid)
        except OSError:
            return None
    try:
        import psutil
    except ImportError:
        return None
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None
