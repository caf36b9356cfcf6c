"""How a launch with workers stands: what its supervisor lets others know.

`SupervisorObserver` is for those who hear of events, such as a service manager. `LaunchBoard` is the scoreboard: a
worker is given a row before it starts. The row is taken back when it has ended, and its counters are added to those of
the past, so that what a dead worker has served stays counted.
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
    """Hears of what happens to a launch; a base class that does nothing.

    interval: seconds between two calls of `tick` at most; None where it needs none
    things: what can be read when `tick` has something to do
    """

    interval: float | None = None
    things: Sequence[Any] = ()

    def launched(self) -> None:
        """Every worker serves for the first time."""

    def extended(self) -> None:
        """Every worker serves the private listener, too, that has come late."""

    def reloading(self) -> None:
        """SIGHUP has come, and the workers will be replaced."""

    def reloaded(self, complete: bool) -> None:
        """The replacement has ended; where it is not complete, old workers still serve."""

    def stopping(self) -> None:
        """The workers are about to be told to end."""

    def tick(self) -> None:
        """The supervisor turns; it does so also while the workers end."""


class LaunchBoard:
    """The scoreboard of a launch, or nothing where nothing is observed."""

    def __init__(self, config: Config) -> None:
        self.board = Scoreboard() if config.is_observed else None
        self._has_metrics = config.options.private_metrics is not None

    def take_row(self) -> RowRef | None:
        """Return a row for a worker."""
        return RowRef(self.board, self.board.take_row()) if self.board is not None else None

    def free_row(self, row: RowRef | None, *, died: bool = False) -> None:
        """Take back the row of a worker that has ended.

        died: whether it will be replaced
        """
        if row is None:
            return
        if self._has_metrics:
            from duallisten.admin.metrics_multiprocess import leave

            leave(row.number)
        row.board.retire_row(row.number)
        row.board.head[Head.RESTARTS] += died

    def show(self, plan: Plan, *, launched: bool, ending: bool) -> None:
        """Write down the phase of the launch, and that its supervisor turns."""
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
