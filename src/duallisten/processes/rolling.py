"""Replaces workers one at a time, the successor first: all workers on SIGHUP, one worker on request.

The old worker of a slot is told to end when its successor serves. When the old worker reports that it is ending, it no
longer accepts. From then on the next replacement can begin, however long the old worker's requests take.

On SIGHUP the configuration file is read again before anything is replaced. An error in it is one line in the log. The
new configuration applies to workers that are started from then on; if a successor fails, later workers get the old
configuration again. Options of the whole launch do not change, and the log names those that differ (`config.sources`).

`replace` is for one worker, such as one that has reached a limit (`recycling`). The request waits for its turn; a
SIGHUP, which replaces all workers, fulfils it. A successor that fails, or does not serve in time, is given up, and the
old worker goes on. A successor that SIGHUP asked for has no time limit: new code may take far longer to start than the
old code did (a larger model, a migration that must not be cut short), and the log tells the operator what is waited for
(`starting`). Another SIGHUP gives up that successor, and starts the reload again.

Invariants:
    - A slot's worker is told to end only when its successor serves.
    - A launch has at most one successor at a time.
    - A reload that fails keeps the old workers and the old configuration.
"""

from __future__ import annotations

import logging
import math
import time
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from duallisten.errors import DuallistenError

if TYPE_CHECKING:
    from duallisten.config import Config
    from duallisten.processes.supervisor import Supervisor
    from duallisten.processes.worker_handle import Worker
    from duallisten.processes.worker_slots import Slot

logger = logging.getLogger("uvicorn.error")

Reread = Callable[[], tuple["Config", tuple[str, ...]]]
"""Reads the configuration again; returns it and the changed options that need a restart; raises UsageError."""

FIRST_RETRY, LONGEST_RETRY = 10.0, 300.0
"""Seconds before a failed replacement is tried again: after the first failure, and at most."""

START_PATIENCE, START_FACTOR = 60.0, 5.0
"""How long the successor of one worker may take to serve: so many seconds, or so many times the old worker's start
time, whichever is longer. An application that loads a model may take minutes."""


class Replacement(NamedTuple):
    """A worker that is to be replaced.

    slot: the slot of the worker
    worker: the worker; if the slot has another one by then, nothing is replaced
    why: the end of a log line that begins with the worker's name
    retried: whether the caller asks again after a failure
    """

    slot: Slot
    worker: Worker
    why: str
    retried: bool


class Rolling:
    """Replaces the workers of a supervisor.

    reread: reads the configuration again; None if it cannot be read again
    retry_at: when a failed replacement may be asked for again, in seconds of the monotonic clock
    """

    def __init__(self, supervisor: Supervisor, reread: Reread | None) -> None:
        self._supervisor = supervisor
        self._reread = reread
        self._left: deque[Slot] = deque()
        self._asked: deque[Replacement] = deque()
        self._current: Replacement | None = None
        self._pids_before: set[int] | None = None
        self._failures = 0
        self.retry_at = 0.0

    @property
    def is_idle(self) -> bool:
        """Whether no worker is being replaced or waits to be."""
        return not (self._pids_before is not None or self._asked or self._is_going_on)

    @property
    def _is_going_on(self) -> bool:
        """Whether new code is being imported, a successor starts, or one is left to start for SIGHUP."""
        supervisor = self._supervisor
        is_renewing = supervisor.factory.is_renewing or bool(self._left)
        return is_renewing or any(slot.successor is not None for slot in supervisor.slots)

    def replace(self, slot: Slot, why: str, *, retried: bool = False) -> bool:
        """Replace the worker of a slot. Its successor starts when no other successor is starting.

        Args:
            slot: The slot. If its worker is being replaced already, or waits for that, nothing more is done.
            why: The reason, as the end of a log line that begins with "Worker [123]": "is 3600 s old".
            retried: Whether the caller asks again after a failure, when `retry_at` has come.

        Returns:
            Whether there is a worker to replace.
        """
        if slot.worker is None or not slot.wanted:
            return False
        waiting = slot in self._left or any(one.worker is slot.worker for one in self._asked)
        if slot.successor is None and not waiting:
            self._asked.append(Replacement(slot, slot.worker, why, retried))
        return True

    def begin(self) -> None:
        """Begin to replace all workers; a reload that is under way is given up."""
        supervisor = self._supervisor
        self._pids_before = {worker.pid for worker in supervisor.slots.workers}
        for observer in supervisor.observers:
            observer.reloading()
        self._left.clear()
        if self._read_again():
            supervisor.factory.renew()
        else:
            self._end(complete=False)

    def _read_again(self) -> bool:
        """Read the configuration again; returns whether it can be used."""
        if self._reread is None:
            return True
        supervisor = self._supervisor
        try:
            config, fixed = self._reread()
            config.check_pages(has_private=supervisor.plan.private is not None or supervisor.plan.later)
        except (DuallistenError, OSError) as error:
            supervisor.config.configure_logging()  # the new configuration may have changed logging in part
            logger.error("%s; reload aborted, old workers kept", " ".join(str(error).split()))
            return False
        if fixed:
            logger.warning("SIGHUP does not change %s: that takes a restart", ", ".join(fixed))
        config.passed = supervisor.config.passed
        supervisor.factory.config = config
        return True

    def start(self) -> None:
        """Begin to start successors: the new code is ready."""
        for slot in self._supervisor.slots:
            if slot.successor is not None:  # it runs the old code, or has the old configuration
                self._supervisor.retire(slot.successor)
                slot.successor = None
        self._current = None
        self._asked.clear()
        self._left = deque(self._supervisor.slots)

    def advance(self) -> None:
        """Go one step further: there is one successor at a time, and one old worker that has yet to stop accepting."""
        supervisor = self._supervisor
        for slot in supervisor.slots:
            if slot.successor is not None:
                if not slot.successor.serving:
                    self._check_patience(slot, slot.successor)
                    return
                self._promote(slot)
        if supervisor.factory.is_ready and not supervisor.has_leaving:
            self._start_next()
        if self._pids_before is not None and not self._is_going_on:
            old_pids = self._pids_before
            self._end(complete=all(slot.worker is None or slot.worker.pid not in old_pids for slot in supervisor.slots))

    def _promote(self, slot: Slot) -> None:
        """Give a slot to its successor, which serves."""
        old, slot.worker, slot.successor = slot.worker, slot.successor, None
        slot.young_deaths = self._failures = 0
        self.retry_at = 0.0
        if old is not None:
            self._supervisor.retire(old)

    @property
    def patience(self) -> float:
        """Seconds that the current successor may take to serve; infinite for a reload."""
        if self._current is None:
            return math.inf
        return max(START_PATIENCE, START_FACTOR * self._current.worker.start_time)

    def _check_patience(self, slot: Slot, successor: Worker) -> None:
        """Give up a successor that takes too long to serve."""
        patience = self.patience
        if successor.age > patience:
            self._supervisor.retire(successor)
            self.fail(slot, f"[{successor.pid}] does not serve after {patience:.0f} s")

    def _start_next(self) -> None:
        """Start the next successor, if a worker is to be replaced."""
        if self._left:
            slot, self._current = self._left.popleft(), None
        elif self._asked and self._pids_before is None:
            self._current = self._asked.popleft()
            slot = self._current.slot
            if slot.worker is not self._current.worker:
                return
        else:
            return
        if not slot.wanted:
            return
        if self._current is not None:
            logger.info("Worker [%d] %s; starting its successor", self._current.worker.pid, self._current.why)
        slot.successor = self._supervisor.start_worker(slot)
        if slot.successor is None:
            self.fail(slot)

    def fail(self, slot: Slot, how: str = "") -> None:
        """Give up the successor of a slot, and log that.

        Args:
            slot: The slot, which keeps its worker.
            how: What happened to the successor, to follow "New worker"; empty if it was logged already.
        """
        slot.successor = None
        if self._current is None:
            self._left.clear()
            logger.error("%s, old workers kept", f"New worker {how}; reload aborted" if how else "Reload aborted")
            return
        then = ""
        if self._current.retried:
            self._failures += 1
            delay = min(FIRST_RETRY * 2 ** min(self._failures - 1, 10), LONGEST_RETRY)
            self.retry_at = time.monotonic() + delay
            then = f", next try in {delay:g} s"
        new = f"New worker {how}" if how else "No new worker"
        logger.error("%s; worker [%d] kept%s", new, self._current.worker.pid, then)

    def _end(self, *, complete: bool) -> None:
        """End a reload: keep the new configuration if it is complete, else the old one; tell the observers."""
        supervisor = self._supervisor
        self._pids_before = None
        if complete:
            supervisor.config = supervisor.factory.config
        else:
            supervisor.factory.config = supervisor.config
        for observer in supervisor.observers:
            observer.reloaded(complete)
