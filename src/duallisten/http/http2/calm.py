"""Rate limits for frames that cost us work but carry no request: floods of small frames, and of streams reset at once.

A frame may cost its sender 9 bytes and us microseconds, and many frames of HTTP/2 need no answer of an application:
PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty frames, resets of streams. Each such frame takes a unit from a `Budget`.
Useful work and time give units back. A plain request and its response take no unit, and need no clock. When a budget
is used up, the peer gets GOAWAY with ENHANCE_YOUR_CALM, and the connection ends.

Precedents: nghttp2 allows 1,000 stream resets at once, and 33 a second (CVE-2023-44487); nginx closes a connection
whose frames outweigh their useful content by 1 MiB; the floods of CVE-2019-9511 to 9518.
"""

from __future__ import annotations

from collections.abc import Callable

from duallisten.http.http2.frames import ENHANCE_YOUR_CALM, BadConnection

FRAMES, FRAMES_PER_SECOND = 1000, 100
"""The budget for frames without use, and its units per second."""

RESETS, RESETS_PER_SECOND = 200, 33
"""The budget for streams that the peer resets before the response; each costs a call of the application."""


class Budget:
    """A number of units that are spent, and come back with time (a token bucket).

    Args:
        most: The units at the beginning, and at most.
        per_second: The units that come back per second.
        now: Returns the time in seconds.
        what: What the units are spent on, for the log.
    """

    __slots__ = ("_last", "_most", "_now", "_per_second", "_what", "left")

    def __init__(self, most: int, per_second: int, now: Callable[[], float], what: str) -> None:
        self._most, self._per_second = most, per_second
        self._now, self._what = now, what
        self._last = now()
        self.left = most

    def spend(self, units: int = 1) -> None:
        """Spend units.

        Raises:
            BadConnection: There are not enough.
        """
        self.left -= units
        if self.left < 0:
            now = self._now()
            self.left = min(self._most, self.left + int((now - self._last) * self._per_second))
            self._last = now
            if self.left < 0:
                raise BadConnection(ENHANCE_YOUR_CALM, f"too many {self._what}")

    def earn(self, units: int) -> None:
        """Give units back, for useful work."""
        self.left = min(self._most, self.left + units)
