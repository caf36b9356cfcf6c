"""The last minutes of a launch, kept on its scoreboard, so that the charts of the status page are not empty at first.

Every `STEP` seconds, the first process that gets to it fills a slot with the totals of each side (`admin.figures`).
Slots are used in turn. The first word of a slot is the number of its step. It is written last, so that no reader uses a
half-filled slot. If two processes fill a slot at the same time, they write nearly the same values, which does no harm.

Invariants:
- Nothing waits: there is no lock. If a process is blocked or dead, another process fills the slot.
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
"""Seconds that readers get; a little less than the slots hold, so that no slot is read while it is filled again."""

SIDE_WORDS = len(STATUSES) + BUCKETS + 3


class History:
    """The last minutes of the launch that uses this scoreboard."""

    def __init__(self, board: Scoreboard) -> None:
        self._board = board

    @property
    def _step(self) -> int:
        """The number of the current step, from 1 on."""
        return int((time.monotonic_ns() - self._board.head[Head.STARTED]) / 1e9 / STEP) + 1

    def record(self) -> None:
        """Fill the slot of the current step, unless another process has done so."""
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
        """Return the samples of the last `KEPT` seconds, in order of time."""
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
