"""A supervisor that tells systemd how its workers stand.

- `READY=1` when the launch is complete, which is when every worker serves.
- `RELOADING=1` and `READY=1` around the replacement that SIGHUP asks for, also where it is given up: the old workers
  serve then, and the status says so.
- `STOPPING=1` before the workers are told to end.
- `WATCHDOG=1` as long as the supervisor turns and no worker's event loop has stood still for the whole interval. One
  that blocks for a while now and then, or several in turns, starve nobody.
"""

from __future__ import annotations

import time

from duallisten.config import Config
from duallisten.listeners import BoundSocket, Plan, Pool
from duallisten.processes.service_manager import Notifier, describe
from duallisten.processes.signal_queue import SignalQueue
from duallisten.processes.supervisor import Supervisor


class NotifyingSupervisor(Supervisor):
    """A supervisor that tells a service manager how it stands."""

    def __init__(
        self, config: Config, plan: Plan, pools: tuple[Pool, ...], bound: list[BoundSocket], notifier: Notifier
    ) -> None:
        super().__init__(config, plan, pools, bound)
        self.notifier = notifier
        self._old: set[int] | None = None
        self._blocked_since: dict[int, float] = {}
        self._next_feed = 0.0

    def is_alive(self) -> bool:
        """Whether no worker's event loop has stood still for the watchdog's interval."""
        now = time.monotonic()
        blocked = {worker.pid for worker in self.workers if worker.accepts and worker.is_blocked}
        self._blocked_since = {pid: self._blocked_since.get(pid, now) for pid in blocked}
        interval = self.notifier.interval or 0.0
        return all(now - since < interval for since in self._blocked_since.values())

    def _wait(self, signals: SignalQueue) -> None:
        signals.patience = self._patience
        super()._wait(signals)
        self._feed(ending=False)

    def _press(self, signals: SignalQueue) -> None:
        super()._press(signals)
        self._feed(ending=True)

    @property
    def _patience(self) -> float | None:
        """Seconds between two looks whether a sign of life is due."""
        return None if self.notifier.interval is None else self.notifier.interval / 2

    def _feed(self, *, ending: bool) -> None:
        """Give a sign of life if one is due; while all end, it is enough that the supervisor turns."""
        if self._patience is None or time.monotonic() < self._next_feed:
            return
        if self.notifier.feed((lambda: True) if ending else self.is_alive):
            self._next_feed = time.monotonic() + self._patience

    def _announce(self) -> None:
        new, launched = bool(self.unannounced), self.launched
        super()._announce()
        if self.launched and not launched:
            self.notifier.ready(describe(self.plan))
        elif new and not self.unannounced:
            self.notifier.show(describe(self.plan))

    def _on_hangup(self) -> None:
        self._old = {worker.pid for worker in self.slots.workers}
        self.notifier.reloading("Replacing the workers")
        super()._on_hangup()

    def _advance_replacement(self) -> None:
        super()._advance_replacement()
        if self._old is None or self.factory.is_renewing or self.to_replace:
            return
        if any(slot.successor is not None for slot in self.slots):
            return
        left = any(slot.worker is not None and slot.worker.pid in self._old for slot in self.slots)
        self._old = None
        self.notifier.ready(describe(self.plan) + ("; the new code could not be started" if left else ""))

    def _end_all(self, signals: SignalQueue) -> None:
        self.notifier.stopping()
        super()._end_all(signals)
