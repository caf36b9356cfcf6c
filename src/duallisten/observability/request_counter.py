"""Counts the requests of one side.

For each request only its duration is recorded, in a list for its method and status. Each heartbeat adds the lists to
the process's own row of the scoreboard, which costs a tenth of counting each request there. If a process is killed, the
requests since its last heartbeat are lost.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import TYPE_CHECKING, Literal

from duallisten.http import Connection, Exchange, Observer
from duallisten.observability.scoreboard_layout import BOUNDS, BUCKETS, METHODS, STATUSES, Cell, request_cell

if TYPE_CHECKING:
    from duallisten.http.websocket import WebSocket


REFUSED = {
    "peer": Cell.REFUSED_PEER,
    "side door": Cell.REFUSED_SIDE_DOOR,
    "limit": Cell.REFUSED_LIMIT,
    "proxy": Cell.REFUSED_PROXY,
}


class RequestCounter(Observer):
    """Counts the requests of one side in this process.

    Args:
        cells: The side's part of the process's row on the scoreboard.
    """

    def __init__(self, cells: memoryview) -> None:
        self.cells = cells
        self._noted = {method: tuple[list[float], ...]([] for _ in STATUSES) for method in METHODS}
        self._other = self._noted["other"]
        self._places = [
            (request_cell(method, status), durations)
            for method, by_status in self._noted.items()
            for status, durations in zip(STATUSES, by_status, strict=True)
        ]

    def exchange_ended(self, exchange: Exchange) -> None:
        """Record a request by the first digit of its status, or 0 if it was aborted."""
        if exchange.is_own:
            return
        if exchange.by_engine:
            self.add(Cell.BUSY)
            return
        kind = exchange.status // 100 if exchange.complete else 0
        self._noted.get(exchange.method, self._other)[kind].append(exchange.ended - exchange.began)

    def handshake_ended(self, websocket: WebSocket) -> None:
        """Record a handshake if it was answered, and the WebSocket if it was accepted."""
        if websocket.status:
            self._noted["websocket"][websocket.status // 100].append(0.0)
            self.add(Cell.WEBSOCKETS, int(websocket.is_accepted))

    def websocket_closed(self, websocket: WebSocket) -> None:
        """Subtract an open WebSocket."""
        self.add(Cell.WEBSOCKETS, -1)

    def connection_lost(self, connection: Connection) -> None:
        """Add the bytes that were sent on a connection."""
        self.add(Cell.SENT, connection.sent)

    def refused(self, connection: Connection, status: int, reason: str) -> None:
        """Count a malformed request, if it was answered."""
        if status:
            self.add(Cell.BAD)

    def connection_accepted(self, *, is_side_door: bool) -> None:
        """Count an admitted connection."""
        self.add(Cell.ACCEPTED)
        if is_side_door:
            self.add(Cell.SIDE_DOOR)

    def connection_refused(self, why: Literal["peer", "side door", "limit", "proxy"]) -> None:
        """Count a connection that was closed before any byte of a request was read."""
        self.add(REFUSED[why])

    def add(self, cell: Cell, number: int = 1) -> None:
        """Add `number` to a cell."""
        self.cells[cell] += number

    def count(self) -> None:
        """Add the recorded requests to the scoreboard."""
        for begin, durations in self._places:
            if durations:
                self._count(begin, durations)
                durations.clear()

    def _count(self, begin: int, durations: list[float]) -> None:
        cells = self.cells
        cells[Cell.SECONDS] += round(sum(durations) * 1e9)
        shortest = BOUNDS[0]
        rest = [duration for duration in durations if duration > shortest]  # only slower requests need sorting
        cells[begin] += len(durations) - len(rest)
        rest.sort()
        counted = 0
        for bucket, bound in enumerate(BOUNDS):
            if (up_to := bisect_right(rest, bound)) > counted:
                cells[begin + bucket] += up_to - counted
                counted = up_to
        cells[begin + BUCKETS - 1] += len(rest) - counted
