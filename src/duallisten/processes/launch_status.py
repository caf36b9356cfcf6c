"""The scoreboard of a launch with workers, as its supervisor keeps it: who has which row, and how the whole stands.

A row is given to each worker before it starts, and taken back when it has ended; its counters go to the past, so that
what a dead worker has served stays counted. What a worker does not tell by itself, for it has not begun or is gone, is
written here.
"""

from __future__ import annotations

import time

from duallisten.config import Config
from duallisten.listeners import Plan
from duallisten.observability import Head, Phase, RowRef, Scoreboard, bits


class LaunchBoard:
    """The scoreboard of a launch, or nothing where nothing is observed."""

    def __init__(self, config: Config) -> None:
        self.board = Scoreboard() if config.has_pages else None
        self._has_metrics = config.options.private_metrics is not None

    def seat(self) -> RowRef | None:
        """Give a worker its place."""
        return RowRef(self.board, self.board.take_row()) if self.board is not None else None

    def clear(self, seat: RowRef | None, *, died: bool = False) -> None:
        """Take back the place of a worker that is gone.

        died: whether it is to be replaced
        """
        if seat is not None:
            if self._has_metrics:
                from duallisten.admin.metrics_multiprocess import leave

                leave(seat.number)
            seat.board.retire_row(seat.number)
            seat.board.head[Head.RESTARTS] += died

    def tell(self, plan: Plan, *, launched: bool, ending: bool) -> None:
        """Write down how the launch stands."""
        if self.board is None:
            return
        self.board.head[Head.PULSE] = time.monotonic_ns()
        self.board.head[Head.SIDES] = bits(plan.sides)
        self.board.head[Head.PHASE] = _phase(plan, launched=launched, ending=ending)


def _phase(plan: Plan, *, launched: bool, ending: bool) -> Phase:
    if ending:
        return Phase.DRAINING
    if not launched:
        return Phase.STARTING
    return Phase.AWAITING_PRIVATE if plan.later else Phase.READY
