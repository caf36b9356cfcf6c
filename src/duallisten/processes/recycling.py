"""Replaces workers that have reached a limit of memory, age or requests.

- `--limit-worker-memory`: resident memory, which the supervisor reads once a second; with psutil if not on Linux. It
  includes memory that the worker shares with others, such as that of a preloaded application.
- `--limit-worker-age`: seconds since the worker was started.
- `--limit-max-requests`: the worker reports that it has served that many (`worker_main`).

Each worker's own limits for memory and age are lower by a random share of up to `JITTER`, so that similar workers do
not reach them together. For requests there is `--limit-max-requests-jitter`. The worker serves until its successor
does (`rolling`), so it may exceed its limit. If several workers have reached a limit, the oldest one is replaced first.
If a successor fails, the next try comes after a growing delay.

A worker may exceed the memory limit as soon as it serves. To replace it at once would never end, so it is kept until it
is `YOUNG` seconds old, and the log says once that the limit is too low.

Invariants:
    - This module tells no worker to end. It asks for a successor, and only while nothing else is being replaced.
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
"""The largest share by which a worker's own limit is lower than the option."""

LOOK_INTERVAL = 1.0
"""Seconds between two readings of the workers' memory."""

MIB = 1 << 20


class Limits(NamedTuple):
    """The limits of a worker; 0 for no limit.

    memory: bytes
    age: seconds
    """

    memory: int = 0
    age: float = 0.0

    def lowered(self, jitter: float) -> Limits:
        """Return a worker's own limits.

        jitter: the worker's random number, from 0 to 1
        """
        share = 1.0 - JITTER * jitter
        return Limits(int(self.memory * share), self.age * share)


class Sample(NamedTuple):
    """The measured age, memory and requests of a worker.

    age: seconds
    memory: bytes; 0 if not read
    requests: the limit of requests if the worker has reached it, else empty
    """

    age: float
    memory: int = 0
    requests: str = ""


def reason_to_replace(sample: Sample, limits: Limits) -> str:
    """Return why a worker is to be replaced, as the end of a log line that begins with its name; empty if it is not.

    limits: the worker's own limits
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
    """Checks the workers of a supervisor, and asks for successors of those that have reached a limit.

    Raises UsageError if there is a limit of memory and memory cannot be read on this system.
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
        """Ask for a successor of the oldest worker that has reached a limit, if nothing else is being replaced."""
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
        """Return the memory of a worker, in bytes; warn if it cannot be read, or if the limit is too low."""
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
        """Log a warning, once for each `about`."""
        if about not in self._warned:
            self._warned.add(about)
            logger.warning("%s", text)


def check_readable() -> None:
    """Raise UsageError if the memory of other processes cannot be read; its text says what to install."""
    if sys.platform != "linux":
        try:
            import psutil  # noqa: F401
        except ImportError:
            raise UsageError("--limit-worker-memory needs psutil here: pip install psutil") from None


def resident_memory(pid: int) -> int | None:
    """Return the resident memory of a process, in bytes; None if it cannot be read, or the process is gone."""
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
