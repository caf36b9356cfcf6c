"""What is noted of the requests of one side, and counted.

Of a request only its duration is noted, in a list for its method and status; with each heartbeat the lists are counted
into the process's own row of the scoreboard, a tenth of what counting each would cost. What a process has noted since
its last heartbeat is lost if it is killed.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections.abc import Callable
from typing import Any

from duallisten.board_layout import BOUNDS, BUCKETS, METHODS, STATUSES, Cell, request_cell
from duallisten.requestids import Naming

Finished = Callable[[Any, int, float, bool], None]
"""Is told of each request that has ended: its `recording.Recorded`, its status (0 where none was sent), its duration in
seconds, and whether it was aborted."""

Connected = Callable[[Any, Any], None]
"""Is told of a new connection when one of uvicorn's protocols has it, HTTP's or WebSocket's: of that protocol, and of
its `recording.Recorded` or `recording.RecordedWebSocket`."""

Kinds = tuple[list[float], ...]
"""Where the durations of requests are noted, in seconds: by the first character of the status, so that it need not be
read; what stands for an aborted request is `ABORTED`."""

ABORTED = ord("0")

STATUSES_BY_TEXT = {b"%d" % status: status for status in range(100, 1000)}
"""Statuses, as they stand in the head of an answer."""

clock = time.perf_counter

_LEADING: Kinds = tuple([] for _ in range(ABORTED))


class Recorder:
    """What records the requests of one side in this process.

    cells: the side's part of the process's row; None if nothing is counted
    naming: how requests get their ids; None if they get none
    is_told: whether somebody is told of what is recorded: `connected` of each connection, and `finished` of each
        request and of each answer to a WebSocket's handshake
    trusts: tells whether a peer's ids are kept, by the host part of its address
    """

    def __init__(self, cells: memoryview | None = None, *, naming: Naming | None = None, is_told: bool = False) -> None:
        self.cells = cells
        self.naming = naming
        self.is_told = is_told
        self.connected: Connected | None = None
        self.finished: Finished | None = None
        self.trusts: Callable[[str | None], bool] = lambda host: False
        self.noted = {method: _kinds() for method in METHODS}
        """Durations of requests that are yet to be counted, by method."""
        self.passed_over = _kinds()
        """Those of requests that are not to be counted, for they are for pages of duallisten's own."""
        self._places: list[tuple[int | None, list[float]]] = [
            *((None, durations) for durations in self.passed_over[ABORTED:]),
            *(
                (request_cell(method, status), durations)
                for method, kinds in self.noted.items()
                for status, durations in zip(STATUSES, kinds[ABORTED:], strict=True)
            ),
        ]

    def kinds_of(self, method: str) -> Kinds:
        """Give where the durations of a method's requests are noted."""
        return self.noted.get(method, self.noted["other"])

    def add(self, cell: Cell, number: int = 1) -> None:
        """Count what is no request."""
        if self.cells is not None:
            self.cells[cell] += number

    def count(self) -> None:
        """Count what was noted."""
        for begin, durations in self._places:
            if durations:
                if begin is not None and self.cells is not None:
                    self._count(self.cells, begin, durations)
                durations.clear()

    def _count(self, cells: memoryview, begin: int, durations: list[float]) -> None:
        cells[Cell.SECONDS] += round(sum(durations) * 1e9)
        shortest = BOUNDS[0]
        rest = [duration for duration in durations if duration > shortest]  # where all is quick, nothing is sorted
        cells[begin] += len(durations) - len(rest)
        rest.sort()
        counted = 0
        for bucket, bound in enumerate(BOUNDS):
            if (up_to := bisect_right(rest, bound)) > counted:
                cells[begin + bucket] += up_to - counted
                counted = up_to
        cells[begin + BUCKETS - 1] += len(rest) - counted


def _kinds() -> Kinds:
    return _LEADING + tuple([] for _ in STATUSES)


def status_of(head: Any) -> int:
    """Read the status in the head of an answer; 0 where there is none."""
    return STATUSES_BY_TEXT.get(bytes(head[9:12]), 0) if head is not None else 0
