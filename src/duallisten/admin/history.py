"""The last minutes of a launch, kept on its scoreboard, so that the charts of the status page are not empty at first.

Every `STEP` seconds a slot is filled with the totals of each side (`admin.figures`) by the first process that comes to
it. Slots are used in turn. Which time one is of, its first word says, which is written last; so a reader sees no slot
that is half filled. Two processes that fill one at the same time write all but the same, and no harm is done.

Invariants:
- Nobody waits: there is no lock, and a process that is blocked or dead leaves the filling to the next.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterator

from duallisten.admin.figures import Sample, Totals, read
from duallisten.observability import BUCKETS, HISTORY, HISTORY_WORDS, SIDES, STATUSES, Head, Scoreboard

STEP = 5.0
"""Seconds between two samples."""

KEPT = 300.0
"""Seconds that are told of; a little less than there are slots for, so that none is read while it is filled anew."""

SIDE_WORDS = len(STATUSES) + BUCKETS + 3


class History:
    """The last minutes of the launch that has this scoreboard."""

    def __init__(self, board: Scoreboard) -> None:
        self._board = board

    @property
    def _step(self) -> int:
        """The number of the step that it is now, from 1 on."""
        return int((time.monotonic_ns() - self._board.head[Head.STARTED]) / 1e9 / STEP) + 1

    def record(self) -> None:
        """Fill the slot of this time, unless somebody has."""
        words, step = self._board.history, self._step
        begin = step % HISTORY * HISTORY_WORDS
        if words[begin] == step:
            return
        sample = read(self._board.read())
        values = array("Q", [round(sample.now * 1e9)])
        for side in SIDES:
            totals = sample.sides.get(side, Totals())
            values.extend((*totals.statuses, *totals.durations, totals.hidden, totals.open, totals.in_flight))
        words[begin + 1 : begin + 1 + len(values)] = memoryview(values)
        words[begin] = step

    def samples(self) -> list[Sample]:
        """Return what is kept, in its order."""
        return list(self._samples())

    def _samples(self) -> Iterator[Sample]:
        now = self._step
        for step in range(max(1, now - int(KEPT / STEP)), now + 1):
            begin = step % HISTORY * HISTORY_WORDS
            words = self._board.history[begin : begin + HISTORY_WORDS].tolist()
            if words[0] == step:
                starts = range(2, len(SIDES) * SIDE_WORDS + 2, SIDE_WORDS)
                yield Sample(
                    words[1] / 1e9, {side: _totals(words[at:]) for side, at in zip(SIDES, starts, strict=True)}
                )


def _totals(words: list[int]) -> Totals:
    durations = len(STATUSES) + BUCKETS
    return Totals(tuple(words[: len(STATUSES)]), tuple(words[len(STATUSES) : durations]), *words[durations:SIDE_WORDS])
