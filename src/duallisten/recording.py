"""Recording: what a request was and how long it took, counted where its answer is complete.

It knows a connection in three places, none of which adds a task, a wrapper around `send` or a lock: uvicorn calls the
application through `Recorded.begin`; the answer passes through `Recorded.write`, whose first bytes are the status; and
uvicorn tells its protocol when an answer is complete (`on_response_complete`), before it does anything else with this
connection. A connection has one request in hand at a time: those that a client sends ahead wait in uvicorn's
queue, and begin when the one before them is complete. So a connection needs one record, and a request no object.

What was begun and is not complete when the connection ends is counted as aborted: the client has left, or the
application failed in the middle of its answer. A WebSocket is counted when its handshake is answered.

The numbers go into the process's own row of the scoreboard (`scoreboard`). Without these options nothing of this is in
a connection's way.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable
from typing import Any

from duallisten.board_layout import BOUNDS, METHODS, Cell, request_cell
from duallisten.corking import HEAD, Corked, Corks, Data

Finished = Callable[["Recorded", int, int, bool], None]
"""Is told of each request that has ended: its record, status (0: none was sent), duration (ns), and whether aborted."""

Name = Callable[[Any, "Recorded"], None]
"""Gives a request its id, in its scope, before the application is called."""

clock = time.perf_counter_ns
_BOUNDS = tuple(round(bound * 1e9) for bound in BOUNDS)
_CLASSES = ("1xx", "2xx", "3xx", "4xx", "5xx")
_CELLS = {method: tuple(request_cell(method, status) for status in ("aborted", *_CLASSES)) for method in METHODS}
_OTHER = _CELLS["other"]
_WEBSOCKET = _CELLS["websocket"]
_SENT, _SECONDS, _WEBSOCKETS = int(Cell.SENT), int(Cell.SECONDS), int(Cell.WEBSOCKETS)
_PASSED_OVER = 0
"""Stands for the beginning of a request that is not recorded."""

_ZERO = ord("0")
_ONE = ord("1")


class Recorder:
    """What records the requests of one side in this process.

    cells: the side's part of the process's row
    finished: is told of each request beside that
    name: gives each request an id
    passed_over: raw paths that are not recorded: those of duallisten's own
    """

    def __init__(
        self,
        cells: memoryview,
        *,
        finished: Finished | None = None,
        name: Name | None = None,
        passed_over: frozenset[bytes] = frozenset(),
    ) -> None:
        self.cells = cells
        self.finished = finished
        self.name = name
        self.passed_over = passed_over

    def add(self, cell: Cell) -> None:
        """Count what is no request."""
        self.cells[cell] += 1


class Recorded(Corked):
    """A connection's transport, and the record of the request that it has in hand.

    began: when the request in hand began (perf_counter_ns); 0 if it is not recorded, None where there is none
    scope: of the latest request
    head: the beginning of its answer; None before that
    sent: bytes of its answer, the head's with them
    is_websocket: whether it has been handed over to a WebSocket protocol
    """

    __slots__ = ("_app", "began", "head", "is_websocket", "recorder", "scope", "sent", "trusted")

    def __init__(self, transport: asyncio.Transport, corks: Corks, recorder: Recorder, app: Any) -> None:
        super().__init__(transport, corks)
        self.recorder = recorder
        self._app = app
        self.began: int | None = None
        self.scope: Any = None
        self.head: Any = None
        self.sent = 0
        self.is_websocket = False
        self.trusted: bool | None = None  # for whoever gives requests their ids

    def begin(self, scope: Any, receive: Any, send: Any) -> Any:
        """Call the application for a request, and note when."""
        self.scope = scope
        self.head = None
        self.sent = 0
        self.began = clock()
        return self._app(scope, receive, send)

    def begin_particularly(self, scope: Any, receive: Any, send: Any) -> Any:
        """Do what `begin` does where requests get an id, or some are passed over."""
        recorder = self.recorder
        if scope.get("raw_path") in recorder.passed_over:
            self.began = _PASSED_OVER
            return self._app(scope, receive, send)
        if recorder.name is not None:
            recorder.name(scope, self)
        return self.begin(scope, receive, send)

    def write(self, data: Data) -> None:
        """Write as a corked transport does, and note what it is."""
        self.sent += len(data)
        if data[:5] == HEAD and (self.head is None or self.head[9] == _ONE):  # 100 Continue comes before the head
            self.head = data
            if self.is_websocket:
                self._count_handshake(data)
        Corked.write(self, data)

    def note_busy(self, scope: Any) -> None:
        """Count a request that uvicorn has answered in the application's place (`--limit-concurrency`)."""
        self.recorder.add(Cell.BUSY)
        if self.recorder.finished is not None:
            self.scope, self.sent = scope, 0
            self.recorder.finished(self, 503, 0, False)

    @property
    def status(self) -> int:
        """The status that was sent for the latest request; 0 where none was."""
        return int(bytes(self.head[9:12])) if self.head is not None else 0

    def _count_handshake(self, head: Data) -> None:
        cells, kind = self.recorder.cells, head[9] - _ZERO
        cells[_WEBSOCKET[kind]] += 1
        if kind == 1:
            cells[_WEBSOCKETS] += 1

    def end_websocket(self) -> None:
        """Count a WebSocket that has ended as one less, if its handshake was accepted."""
        if self.head is not None and self.head[9] == _ONE:
            self.head = None
            self.recorder.cells[_WEBSOCKETS] -= 1

    def abort_request(self) -> None:
        """Count the request in hand as one that has not come to its end."""
        if not self.began:
            return
        elapsed, self.began = clock() - self.began, None
        cells = self.recorder.cells
        cells[_CELLS.get(self.scope["method"], _OTHER)[0] + bisect_left(_BOUNDS, elapsed)] += 1
        cells[_SENT] += self.sent
        cells[_SECONDS] += elapsed
        if self.recorder.finished is not None:
            self.recorder.finished(self, self.status, elapsed, True)


class _Watched:
    """What else a recorded HTTP protocol of uvicorn's hears of."""

    __slots__ = ()

    record: Recorded

    def connection_lost(self, exc: Exception | None) -> None:
        """Count the request in hand as aborted."""
        self.record.abort_request()
        super().connection_lost(exc)  # type: ignore[misc]

    def handle_websocket_upgrade(self, *args: Any) -> None:
        """See that the next head is taken for a handshake's."""
        self.record.is_websocket = True
        self.record.head = None
        super().handle_websocket_upgrade(*args)  # type: ignore[misc]

    def note_bad_request(self) -> None:
        """Count what was no request."""
        self.record.recorder.add(Cell.BAD)


def recording(make: Any, corks: Corks, recorder: Recorder) -> Any:
    """Make an HTTP protocol class of uvicorn's whose connections are corked and recorded."""
    if not isinstance(make, type):
        return make
    cells, finished = recorder.cells, recorder.finished
    particular = recorder.name is not None or bool(recorder.passed_over)
    base: Any = make
    complete = base.on_response_complete

    class Recording(_Watched, base):  # type: ignore[misc]
        __slots__ = ("record",)  # beside uvicorn's attributes, whose dictionary is full

        def connection_made(self: Any, transport: asyncio.Transport) -> None:
            self.record = record = Recorded(transport, corks, recorder, self.app)
            self.app = record.begin_particularly if particular else record.begin
            super().connection_made(record)

        def on_response_complete(self) -> None:
            record = self.record
            began, record.began = record.began, None
            if began:
                elapsed = clock() - began
                kind = _CELLS.get(record.scope["method"], _OTHER)[record.head[9] - _ZERO]
                cells[kind + bisect_left(_BOUNDS, elapsed)] += 1
                cells[_SENT] += record.sent
                cells[_SECONDS] += elapsed
                if finished is not None:
                    finished(record, record.status, elapsed, False)
            elif began is None:
                record.note_busy(self.cycle.scope)
            complete(self)

    return Recording


def recording_websocket(make: Any, recorder: Recorder) -> Any:
    """Make a WebSocket protocol class of uvicorn's that counts what it has open."""
    if not isinstance(make, type):
        return make

    class Recording(make):  # type: ignore[misc]
        _record: Recorded | None = None

        def connection_made(self: Any, transport: Any) -> None:
            if isinstance(transport, Recorded):
                self._record = transport
                if recorder.name is not None:
                    self.app = _naming(self.app, recorder.name, transport)
            super().connection_made(transport)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._record is not None:
                self._record.end_websocket()
            super().connection_lost(exc)

    return Recording


def _naming(app: Any, name: Name, record: Recorded) -> Any:
    def begin(scope: Any, receive: Any, send: Any) -> Any:
        name(scope, record)
        return app(scope, receive, send)

    return begin
