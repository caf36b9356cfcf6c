"""What is noted of the requests of one side, and counted.

Of a request only its duration is noted, in a list for its method and status; with each heartbeat the lists are counted
into the process's own row of the scoreboard, a tenth of what counting each would cost. What a process has noted since
its last heartbeat is lost if it is killed.
"""

from __future__ import annotations

import time
from bisect import bisect_right
from collections import deque
from collections.abc import Callable
from typing import Any

from duallisten.board_layout import BOUNDS, BUCKETS, METHODS, STATUSES, Cell, request_cell
from duallisten.requestids import Naming

Finished = Callable[[Any, Any, int, float, bool], None]
"""Is told of each request that has ended: its `records.Told`, what uvicorn has made for it (with its `scope` and
`request_id`), its status (0 where none was sent), its duration in seconds, and whether it was aborted. A WebSocket's
handshake is told of in the same way."""

Connected = Callable[[Any, Any], None]
"""Is told of a new connection when one of uvicorn's protocols has it, HTTP's or WebSocket's: of that protocol, and of
its `records.Told` or `recording_websockets.RecordedWebSocket`."""

Kinds = tuple[Any, ...]
"""Where the durations of requests are noted, in seconds: what can be appended to, by the first character of the status,
so that it need not be read; what stands for an aborted request is `ABORTED`."""

ABORTED = ord("0")

STATUSES_BY_TEXT = {b"%d" % status: status for status in range(100, 1000)}
"""Statuses, as they stand in the head of an answer."""

clock = time.perf_counter


def _keeping_nothing() -> Kinds:
    return (deque[float](maxlen=0),) * (ABORTED + len(STATUSES))


UNCOUNTED = _keeping_nothing()
"""For requests that are not counted."""

PASSED_OVER = _keeping_nothing()
"""The same for those that nobody is told of either: for pages of duallisten's own."""


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
        lists: dict[str, tuple[list[float], ...]] = {}
        if cells is not None:
            lists = {method: tuple([] for _ in STATUSES) for method in METHODS}
        self._places: list[tuple[int, list[float]]] = [
            (request_cell(method, status), durations)
            for method, by_status in lists.items()
            for status, durations in zip(STATUSES, by_status, strict=True)
        ]
        self._noted = {method: UNCOUNTED[:ABORTED] + by_status for method, by_status in lists.items()}
        self._other = self._noted.get("other", UNCOUNTED)

    def meet(self, protocol: Any, record: Any) -> None:
        """See to what there is to know of a connection, when one of uvicorn's protocols has it.

        record: the connection's
        """
        if self.naming is not None:
            record.trusted = self.trusts(protocol.client[0] if protocol.client else None)
        if self.connected is not None:
            self.connected(protocol, record)

    def kinds_of(self, method: str) -> Kinds:
        """Give where the durations of a method's requests are noted until they are counted."""
        return self._noted.get(method, self._other)

    def add(self, cell: Cell, number: int = 1) -> None:
        """Count what is no request."""
        if self.cells is not None:
            self.cells[cell] += number

    def count(self) -> None:
        """Count what was noted."""
        for begin, durations in self._places:
            if durations:
                self._count(begin, durations)
                durations.clear()

    def _count(self, begin: int, durations: list[float]) -> None:
        cells = self.cells
        assert cells is not None  # noqa: S101
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


def status_of(head: Any) -> int:
    """Read the status in the head of an answer; 0 where there is none."""
    return STATUSES_BY_TEXT.get(bytes(head[9:12]), 0) if head is not None else 0
