"""The replacement of the workers that SIGHUP asks for: one at a time, with the configuration file read again.

The old worker of a slot is told to end when its successor serves. When it reports that it ends it stops accepting; from
then on it holds up nobody, and may take its time for the requests in hand.

The file is read before anything is replaced: what is wrong in it is one line in the log. What it says now is for the
workers that are started from then on; if a successor fails, those that are started later are given what was before.
What is of the launch and not of a worker stays as it is, and the log names what it would be (`config.sources`).

Invariants:
    - A slot's worker is told to end only when its successor serves.
    - A reload that fails leaves the old workers, and the old configuration.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from duallisten.errors import DuallistenError

if TYPE_CHECKING:
    from duallisten.config import Config
    from duallisten.processes.supervisor import Supervisor
    from duallisten.processes.worker_slots import Slot

logger = logging.getLogger("uvicorn.error")

Reread = Callable[[], tuple["Config", tuple[str, ...]]]
"""Reads what is asked for again: the configuration, and the options that have changed and cannot; raises UsageError."""


class Rolling:
    """Replaces the workers of a supervisor.

    reread: reads the configuration again; None where there is nothing to read
    """

    def __init__(self, supervisor: Supervisor, reread: Reread | None) -> None:
        self._supervisor = supervisor
        self._reread = reread
        self._left: deque[Slot] = deque()
        self._pids_before: set[int] | None = None

    def replace(self, slot: Slot, why: str) -> bool:
        """Replace the worker of a slot when a successor serves; the successor starts when no other does.

        Args:
            slot: The slot; that its worker is replaced already, or will be, is enough.
            why: Why, as the rest of a log line that begins with "Worker [123]": "is 3600 s old".

        Returns:
            Whether there is a worker to replace.
        """
        if slot.worker is None or not slot.wanted:
            return False
        if slot.successor is None and slot not in self._left:
            logger.info("Worker [%d] %s", slot.worker.pid, why)
            self._left.append(slot)
        return True

    def begin(self) -> None:
        """Begin to replace all, in place of a replacement that is under way."""
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
        self._left = deque(self._supervisor.slots)

    def abort(self) -> None:
        """Replace no further workers."""
        self._left.clear()

    def advance(self) -> None:
        """Go one step further: one successor at a time, and one worker that is about to accept no more."""
        supervisor = self._supervisor
        for slot in supervisor.slots:
            if slot.successor is not None:
                if not slot.successor.serving:
                    return
                old, slot.worker, slot.successor = slot.worker, slot.successor, None
                slot.young_deaths = 0
                if old is not None:
                    supervisor.retire(old)
        if self._left and supervisor.factory.is_ready and not supervisor.has_leaving:
            slot = self._left.popleft()
            if slot.wanted:
                slot.successor = supervisor.start_worker(slot)
                if slot.successor is None:
                    self._left.clear()
                    logger.error("Reload aborted, old workers kept")
        is_going_on = supervisor.factory.is_renewing or self._left or any(slot.successor for slot in supervisor.slots)
        if self._pids_before is not None and not is_going_on:
            old_pids = self._pids_before
            self._end(complete=all(slot.worker is None or slot.worker.pid not in old_pids for slot in supervisor.slots))

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
