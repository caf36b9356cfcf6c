"""The replacement of workers, successor-first and one at a time: of all by SIGHUP, of one when it is asked for.

The old worker of a slot is told to end when its successor serves. When it reports that it ends it stops accepting; from
then on it holds up nobody, and may take its time for the requests in hand.

SIGHUP has the configuration file read again before anything is replaced: what is wrong in it is one line in the log.
What it says now is for the workers that are started from then on; if a successor fails, those that are started later
are given what was before. What is of the launch and not of a worker stays as it is, and the log names what it would be
(`config.sources`).

`replace` is for one worker, such as one that has had enough (`recycling`). It waits for its turn, and SIGHUP, which
replaces all, does it on the way. A successor that fails, or does not come to serve, is given up, and the old worker
goes on. SIGHUP's has all the time it takes: new code may take far longer to start than the old did (a larger model, a
migration that must not be cut short), and somebody has asked for it, who is told what is waited for (`starting`).
Another SIGHUP gives it up, and begins anew.

Invariants:
    - A slot's worker is told to end only when its successor serves.
    - There is one successor at a time in a launch.
    - A reload that fails leaves the old workers, and the old configuration.
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
"""Reads what is asked for again: the configuration, and the options that have changed and cannot; raises UsageError."""

FIRST_RETRY, LONGEST_RETRY = 10.0, 300.0
"""Seconds before a replacement is tried again that has failed: the first time, and at most."""

START_PATIENCE, START_FACTOR = 60.0, 5.0
"""Seconds that the successor of one worker has to serve, and how many times as long as the old one has taken: the
longer of both. An application that loads a model may take minutes."""


class Replacement(NamedTuple):
    """A worker that is to be replaced.

    slot: where it serves
    worker: what serves there now; another one need not be replaced
    why: the rest of a line that begins with its name
    retried: whether who asks will do so again
    """

    slot: Slot
    worker: Worker
    why: str
    retried: bool


class Rolling:
    """Replaces the workers of a supervisor.

    reread: reads the configuration again; None where there is nothing to read
    retry_at: until when nobody should ask again for what has failed, in seconds of the monotonic clock
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
        """Whether nothing is being replaced, or waits for it."""
        return not (self._pids_before is not None or self._asked or self._is_going_on)

    @property
    def _is_going_on(self) -> bool:
        """Whether new code is being imported, a successor starts, or one is left to start for SIGHUP."""
        supervisor = self._supervisor
        is_renewing = supervisor.factory.is_renewing or bool(self._left)
        return is_renewing or any(slot.successor is not None for slot in supervisor.slots)

    def replace(self, slot: Slot, why: str, *, retried: bool = False) -> bool:
        """Replace the worker of a slot when a successor serves; the successor starts when no other does.

        Args:
            slot: The slot; that its worker is replaced already, or will be, is enough.
            why: Why, as the rest of a log line that begins with "Worker [123]": "is 3600 s old".
            retried: Whether this is asked for again where it fails, after `retry_at`.

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
        """Begin to replace all, in place of a replacement of all that is under way."""
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
            supervisor.config.configure_logging()  # half of what was read may have been set up
            logger.error("%s; reload aborted, old workers kept", " ".join(str(error).split()))
            return False
        if fixed:
            logger.warning("SIGHUP does not change %s: that takes a restart", ", ".join(fixed))
        config.passed = supervisor.config.passed
        supervisor.factory.config = config
        return True

    def start(self) -> None:
        """Replace the workers, now that the new code is there."""
        for slot in self._supervisor.slots:
            if slot.successor is not None:  # it was started on what has changed since
                self._supervisor.retire(slot.successor)
                slot.successor = None
        self._current = None
        self._asked.clear()
        self._left = deque(self._supervisor.slots)

    def advance(self) -> None:
        """Go one step further: one successor at a time, and one worker that is about to accept no more."""
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
        """Give a slot to the successor that serves there."""
        old, slot.worker, slot.successor = slot.worker, slot.successor, None
        slot.young_deaths = self._failures = 0
        self.retry_at = 0.0
        if old is not None:
            self._supervisor.retire(old)

    @property
    def patience(self) -> float:
        """Seconds that a successor has to serve; infinite for those of SIGHUP."""
        if self._current is None:
            return math.inf
        return max(START_PATIENCE, START_FACTOR * self._current.worker.start_time)

    def _check_patience(self, slot: Slot, successor: Worker) -> None:
        """Give up a successor that does not come to serve."""
        patience = self.patience
        if successor.age > patience:
            self._supervisor.retire(successor)
            self.fail(slot, f"[{successor.pid}] does not serve after {patience:.0f} s")

    def _start_next(self) -> None:
        """Start the next successor, if there is something to replace."""
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
        """Give up the successor of a slot, and say so.

        Args:
            slot: The slot, which keeps its worker.
            how: What is wrong with the successor, after "New worker"; empty where the log has it.
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
        """Tell the observers, and keep the configuration that has proved itself."""
        supervisor = self._supervisor
        self._pids_before = None
        if complete:
            supervisor.config = supervisor.factory.config
        else:
            supervisor.factory.config = supervisor.config
        for observer in supervisor.observers:
            observer.reloaded(complete)
