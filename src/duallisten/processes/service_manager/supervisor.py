"""Tells systemd the state of a launch with workers.

- `READY=1` when the launch is complete: every worker serves.
- `RELOADING=1` before and `READY=1` after a reload by SIGHUP, also if it is aborted: then the old workers serve, and
  the status says so.
- `STOPPING=1` before the workers are told to end.
- `WATCHDOG=1` as long as the supervisor's loop runs and no worker's event loop has been blocked for `Notifier.interval`
  without a break. Shorter blocks, also of several workers in turns, do not count. During the shutdown only the
  supervisor's loop has to run.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from duallisten.processes.launch_status import SupervisorObserver
from duallisten.processes.service_manager import describe

if TYPE_CHECKING:
    from duallisten.processes.service_manager import Notifier
    from duallisten.processes.supervisor import Supervisor


class NotifyingObserver(SupervisorObserver):
    """Tells a service manager the state of a launch with workers."""

    def __init__(self, supervisor: Supervisor, notifier: Notifier) -> None:
        self.interval = None if notifier.interval is None else notifier.interval / 2
        self._supervisor = supervisor
        self._notifier = notifier
        self._blocked_since: dict[int, float] = {}
        self._next_feed = 0.0

    def launched(self) -> None:
        """Every worker serves for the first time."""
        self._notifier.ready(describe(self._supervisor.plan))

    def extended(self) -> None:
        """Every worker serves the private listener, too."""
        self._notifier.show(describe(self._supervisor.plan))

    def reloading(self) -> None:
        """The workers will be replaced."""
        self._notifier.reloading("Replacing the workers")

    def reloaded(self, complete: bool) -> None:
        """The replacement has ended."""
        failure = "" if complete else "; the last reload failed"
        self._notifier.ready(describe(self._supervisor.plan) + failure)

    def stopping(self) -> None:
        """The workers are about to be told to end."""
        self._notifier.stopping()

    def tick(self) -> None:
        """Give a sign of life if one is due."""
        if self.interval is None or time.monotonic() < self._next_feed:
            return
        if self._notifier.feed(self._is_alive):
            self._next_feed = time.monotonic() + self.interval

    def _is_alive(self) -> bool:
        """Whether no worker's event loop has been blocked for `Notifier.interval`."""
        if self._supervisor.should_exit:
            return True
        now = time.monotonic()
        blocked = {worker.pid for worker in self._supervisor.workers if worker.accepts and worker.is_blocked}
        self._blocked_since = {pid: self._blocked_since.get(pid, now) for pid in blocked}
        interval = self._notifier.interval or 0.0
        return all(now - since < interval for since in self._blocked_since.values())
