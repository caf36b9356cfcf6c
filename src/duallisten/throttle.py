"""When to say a thing again that happens all the time: what floods a process must not flood its log, too."""

from __future__ import annotations

INTERVAL = 10.0
"""Seconds between two log lines about the same thing."""


class Throttle:
    """Lets one line through in so many seconds; the first at once."""

    def __init__(self) -> None:
        self._next = float("-inf")

    def lets_through(self, now: float) -> bool:
        """Tell whether a line may be written now, which then counts as written.

        now: seconds of the event loop's clock
        """
        if now < self._next:
            return False
        self._next = now + INTERVAL
        return True
