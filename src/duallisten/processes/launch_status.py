"""The state of a launch with workers, as its supervisor publishes it.

`SupervisorObserver` is the base class of objects that are called at each event, such as the notifier of a service
manager. `LaunchBoard` is the scoreboard. A worker gets a row before it starts. When it has ended, its row is freed and
its counters are added to the totals, so requests of dead workers stay counted.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from duallisten.observability import Head, Phase, RowRef, Scoreboard, bits

if TYPE_CHECKING:
    from duallisten.config import Config
    from duallisten.listeners import Plan


class SupervisorObserver:
    """Is called at each event of a launch; a base class that does nothing.

    interval: the longest time between two calls of `tick`, in seconds; None for no requirement
    things: objects for `multiprocessing.connection.wait` that are readable when `tick` has work to do
    """

    interval: float | None = None
    things: Sequence[Any] = ()

    def launched(self) -> None:
        """Every worker serves for the first time."""

    def extended(self) -> None:
        """Every worker now serves the private listener, whose address has come late."""

    def reloading(self) -> None:
        """SIGHUP has come, and the workers will be replaced."""

    def reloaded(self, complete: bool) -> None:
        """The replacement has ended; if it is not complete, old workers still serve."""

    def stopping(self) -> None:
        """The workers are about to be told to end."""

    def tick(self) -> None:
        """The supervisor's loop goes round; this is called also while the workers end."""


class LaunchBoard:
    """The scoreboard of a launch; without a board if nothing in the configuration reads one."""

    def __init__(self, config: Config) -> None:
        self.board = Scoreboard() if config.is_observed else None
        self._has_metrics = config.options.private_metrics is not None

    def take_row(self) -> RowRef | None:
        """Return a free row for a worker; None without a board."""
        return RowRef(self.board, self.board.take_row()) if self.board is not None else None

    def free_row(self, row: RowRef | None, *, died: bool = False) -> None:
        """Free the row of a worker that has ended.

        died: whether the end counts as a restart
        """
        if row is None:
            return
        if self._has_metrics:
            from duallisten.admin.metrics_multiprocess import leave

            leave(row.number)
        row.board.retire_row(row.number)
        row.board.head[Head.RESTARTS] += died

    def show(self, plan: Plan, *, launched: bool, ending: bool) -> None:
        """Write the phase and sides of the launch to the board, and the time as the supervisor's sign of life."""
        if self.board is None:
            return
        if ending:
            phase = Phase.DRAINING
        elif launched:
            phase = Phase.AWAITING_PRIVATE if plan.later else Phase.READY
        else:
            phase = Phase.STARTING
        self.board.head[Head.PULSE] = time.monotonic_ns()
        self.board.head[Head.SIDES] = bits(plan.sides)
        self.board.head[Head.PHASE] = phase
