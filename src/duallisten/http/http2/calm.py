"""What a peer may ask of us that leads to nothing: floods of small frames, and of streams that it resets at once.

A frame may cost its sender 9 bytes and us microseconds, and much of HTTP/2 asks for no answer of an application:
PING, SETTINGS, PRIORITY, WINDOW_UPDATE, empty frames, streams that are reset. A `Budget` has so many units, of which
such a frame takes one; useful work and time give them back. For a request and its answer alone nothing is counted, and
no clock asked. Who has spent a budget is told to calm down, and the connection ends.

Precedents: nghttp2 lets 1,000 streams be reset at once, and 33 a second (CVE-2023-44487); nginx ends a connection whose
frames outweigh what they carry by 1 MiB; h2's floods of CVE-2019-9511 to 9518.
"""

from __future__ import annotations

from collections.abc import Callable

from duallisten.http.http2.frames import ENHANCE_YOUR_CALM, BadConnection

FRAMES, FRAMES_PER_SECOND = 1000, 100
"""Frames that lead to nothing."""

RESETS, RESETS_PER_SECOND = 200, 33
"""Streams whose answer is not wanted any more; each costs a call of the application."""


class Budget:
    """So many units, which come back with time.

    Args:
        most: Units at the beginning, and at most.
        per_second: Units that come back in a second.
        now: Tells the time.
        what: What they are spent on, for the log.
    """

    __slots__ = ("_last", "_most", "_now", "_per_second", "_what", "left")

    def __init__(self, most: int, per_second: int, now: Callable[[], float], what: str) -> None:
        self._most, self._per_second = most, per_second
        self._now, self._what = now, what
        self._last = now()
        self.left = most

    def spend(self, units: int = 1) -> None:
        """Spend some.

        Raises:
            BadConnection: There are none.
        """
        self.left -= units
        if self.left < 0:
            now = self._now()
            self.left = min(self._most, self.left + int((now - self._last) * self._per_second))
            self._last = now
            if self.left < 0:
                raise BadConnection(ENHANCE_YOUR_CALM, f"too many {self._what}")

    def earn(self, units: int) -> None:
        """Get some back, for useful work."""
        self.left = min(self._most, self.left + units)
