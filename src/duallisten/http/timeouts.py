"""Time-outs: one timer for all connections of a process.

A timer for each request costs a heap operation when it is set and another when it is cancelled, for something that
nearly never happens. Here a connection has a `deadline`, a plain number that it sets for the price of an attribute, and
`Clock` looks at all of them a few times a second. A deadline is met late by up to one look, and never early.

Setting one needs the time, and asking the event loop for it is a call. So `Clock.now` is the time of the last look, and
`Clock.after` makes up for its age.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Protocol

NEVER = float("inf")

SHORTEST_LOOK = 0.02
LONGEST_LOOK = 0.5
"""Seconds between two looks."""


class Timed(Protocol):
    """A connection, as far as its time-outs go.

    Attributes:
        deadline: When `expire` is to be called, on the event loop's clock; `NEVER` for not at all.
    """

    deadline: float

    def expire(self) -> None:
        """Do what is due: the deadline has passed."""


class Clock:
    """Looks at the deadlines of connections.

    Args:
        loop: The event loop of the process.

    Attributes:
        now: The time of the last look, on the event loop's clock.
        interval: Seconds between two looks: a tenth of the shortest time-out, within bounds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._sets: list[Iterable[Timed]] = []
        self._timer: asyncio.TimerHandle | None = None
        self.now = loop.time()
        self.interval = LONGEST_LOOK

    def watch(self, connections: Iterable[Timed], time_outs: Iterable[float | None]) -> None:
        """Look at `connections` from now on, as often as their time-outs (seconds) need it."""
        shortest = min((seconds for seconds in time_outs if seconds), default=LONGEST_LOOK * 10)
        self.interval = min(self.interval, max(SHORTEST_LOOK, shortest / 10))
        if not any(connections is known for known in self._sets):
            self._sets.append(connections)
        if self._timer is None:
            self._look()

    def after(self, seconds: float | None) -> float:
        """Return the deadline for what may take `seconds` from now on; None is `NEVER`."""
        return NEVER if seconds is None else self.now + self.interval + seconds

    def stop(self) -> None:
        """Look no more."""
        self._sets.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._loop.call_later(self.interval, self._look)
        self.now = now = self._loop.time()
        for connections in self._sets:
            # A protocol class that the user brings has connections here, too, and no deadline.
            for late in [one for one in connections if getattr(one, "deadline", NEVER) <= now]:
                late.expire()
