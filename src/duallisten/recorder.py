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

Finished = Callable[[Any, int, int, bool], None]
"""Is told of each request that has ended: its `recording.Recorded`, its status (0 where none was sent), its duration in
nanoseconds, and whether it was aborted."""

Connected = Callable[[Any, Any], None]
"""Is told of a new connection when one of uvicorn's protocols has it, HTTP's or WebSocket's: of that protocol, and of
its `recording.Recorded` or `recording.RecordedWebSocket`."""

Name = Callable[[Any, Any], None]
"""Gives a request its id, in its scope, before the application is called; told its `recording.Recorded`, too."""

_BOUNDS = tuple(round(bound * 1e9) for bound in BOUNDS)

STATUSES_BY_TEXT = {b"%d" % status: status for status in range(100, 1000)}
"""Statuses, as they stand in the head of an answer."""

clock = time.perf_counter_ns


class Recorder:
    """What records the requests of one side in this process.

    cells: the side's part of the process's row; None if nothing is counted
    finished: is told of each request beside that, and of each answer to a WebSocket's handshake
    connected: is told of each connection
    name: gives each request an id
    passed_over: raw paths that are not recorded: those of duallisten's own
    """

    def __init__(
        self,
        cells: memoryview | None = None,
        *,
        finished: Finished | None = None,
        name: Name | None = None,
        passed_over: frozenset[bytes] = frozenset(),
    ) -> None:
        self.cells = cells
        self.finished = finished
        self.connected: Connected | None = None
        self.name = name
        self.passed_over = passed_over
        self.noted: dict[str, tuple[list[int], ...]] = {method: tuple([] for _ in STATUSES) for method in METHODS}
        """Durations of requests that are yet to be counted, in nanoseconds, by method, and by class of status."""

    @property
    def is_particular(self) -> bool:
        """Whether more is done when a request begins than to note when."""
        return self.name is not None or self.finished is not None or bool(self.passed_over)

    def add(self, cell: Cell, number: int = 1) -> None:
        """Count what is no request."""
        if self.cells is not None:
            self.cells[cell] += number

    def note(self, method: str, kind: int, duration: int) -> None:
        """Note a request.

        kind: the first digit of its status; 0 if it was aborted
        duration: in nanoseconds
        """
        if self.cells is not None:
            self.noted.get(method, self.noted["other"])[kind].append(duration)

    def count(self) -> None:
        """Count what was noted."""
        if self.cells is None:
            return
        for method, by_status in self.noted.items():
            for status, durations in zip(STATUSES, by_status, strict=True):
                if durations:
                    self._count(request_cell(method, status), durations)

    def _count(self, begin: int, durations: list[int]) -> None:
        assert self.cells is not None  # noqa: S101
        durations.sort()
        counted = 0
        for bucket, bound in enumerate(_BOUNDS):
            if (up_to := bisect_right(durations, bound)) > counted:
                self.cells[begin + bucket] += up_to - counted
                counted = up_to
        if len(durations) > counted:
            self.cells[begin + BUCKETS - 1] += len(durations) - counted
        self.cells[Cell.SECONDS] += sum(durations)
        durations.clear()


def status_of(head: Any) -> int:
    """Read the status in the head of an answer; 0 where there is none."""
    return STATUSES_BY_TEXT.get(bytes(head[9:12]), 0) if head is not None else 0
