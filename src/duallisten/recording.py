"""Recording: what a request was and how long it took, noted where its answer is complete.

It knows a connection in three places, none of which adds a task, a wrapper around `send` or a lock: uvicorn calls the
application through `Recorded.beginning`; the answer passes through the corked transport, whose `head` has its status;
and uvicorn tells its protocol when an answer is complete (`on_response_complete`), before it does anything else with
the connection. A connection has one request in hand at a time: those that a client sends ahead wait in uvicorn's queue,
and begin when the one before them is complete. So a connection needs one record, and a request no object.

What was begun and is not complete when the connection ends is counted as aborted: the client has left, or the
application failed in the middle of its answer. A WebSocket is counted when its handshake is answered. Without these
options nothing of this is in a connection's way.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from duallisten.accesslines import leave_no_line
from duallisten.board_layout import Cell
from duallisten.corking import HEAD, Corked, Corks, Data, corking
from duallisten.recorder import Finished, Recorder

RECORDED = frozenset({"HttpToolsProtocol", "H11Protocol"})
"""uvicorn's protocols for HTTP/1.1. That for HTTP/2 has many requests in hand at a time, and makes its own choice of a
protocol for each connection."""

clock = time.perf_counter_ns

_STATUSES = {b"%d" % status: status for status in range(100, 1000)}

_BUSY = 503
"""How uvicorn answers above `--limit-concurrency`."""

_ABORTED = 0
_PASSED_OVER = 0
"""Stands for the beginning of a request that is not recorded."""

_ZERO = ord("0")
_ONE = ord("1")


class Recorded(Corked):
    """A connection's transport, and the record of the request that it has in hand.

    began: when the request in hand began (`clock`); 0 if it is not recorded, None where there is none
    scope: of the latest request
    sent: bytes of the latest answer, its head with them; only known to whoever is told of requests
    trusted, request_id: for whoever gives requests their ids: whether the peer is believed, None as long as that is
        not known; and the latest
    connection: for whoever is told of requests and connections
    """

    __slots__ = ("_before", "began", "connection", "recorder", "request_id", "scope", "sent", "trusted")

    def __init__(self, transport: asyncio.Transport, corks: Corks, recorder: Recorder) -> None:
        super().__init__(transport, corks)
        self.recorder = recorder
        self._before = self.sent = 0
        self.began: int | None = None
        self.scope: Any = None
        self.trusted: bool | None = None
        self.request_id = ""
        self.connection: Any = None

    def beginning(self, app: Any) -> Any:
        """Make what uvicorn calls in the place of `app`: it notes that a request begins."""
        recorder = self.recorder
        if recorder.is_particular:
            return self._beginning_particularly(app, recorder)

        def begin(scope: Any, receive: Any, send: Any) -> Any:
            self.scope = scope
            self.began = clock()
            return app(scope, receive, send)

        return begin

    def _beginning_particularly(self, app: Any, recorder: Recorder) -> Any:
        passed_over, name = recorder.passed_over, recorder.name

        def begin(scope: Any, receive: Any, send: Any) -> Any:
            if passed_over and scope["raw_path"] in passed_over:
                self.began = _PASSED_OVER
                leave_no_line(send)
                return app(scope, receive, send)
            if name is not None:
                name(scope, self)
            self._before = self.written  # of what was written before, none is of this answer
            self.scope = scope
            self.began = clock()
            return app(scope, receive, send)

        return begin

    def finish(self, finished: Finished, duration: int, *, aborted: bool) -> None:
        """Tell of a request that has ended, or was answered in the application's place."""
        held = self._held
        self.sent = self.written - self._before + (len(held) if held is not None else 0)
        self._before = self.written  # for an answer without the application
        finished(self, status_of(self.head), duration, aborted)

    def note_unasked(self, scope: Any) -> None:
        """Count a request that was answered in the application's place: by uvicorn with 503, or by us with 400."""
        self.recorder.add(Cell.BUSY if status_of(self.head) == _BUSY else Cell.BAD)
        if self.recorder.finished is not None:
            self.scope = scope
            if self.recorder.name is not None:
                self.recorder.name(scope, self)
            self.finish(self.recorder.finished, 0, aborted=False)

    def end(self) -> None:
        """Count a request in hand as one that has not come to its end, and what was written."""
        if self.began:
            duration, self.began = clock() - self.began, None
            self.recorder.note(self.scope["method"], _ABORTED, duration)
            if self.recorder.finished is not None:
                self.finish(self.recorder.finished, duration, aborted=True)
        self.recorder.add(Cell.SENT, self.written)
        self.written = 0


def status_of(head: Any) -> int:
    """Read the status in the head of an answer; 0 where there is none."""
    return _STATUSES.get(bytes(head[9:12]), 0) if head is not None else 0


class RecordedWebSocket(Corked):
    """A connection's transport when it has become a WebSocket's; what it has is what `Recorded` has.

    began: when its application was called; None when its handshake is answered, or before
    """

    __slots__ = ("_is_open", "began", "connection", "recorder", "request_id", "scope", "trusted")

    def __init__(self, record: Recorded, corks: Corks) -> None:
        super().__init__(record._transport, corks)
        self.recorder = record.recorder
        self.began: int | None = None
        self.scope: Any = None
        self.trusted: bool | None = None
        self.request_id = ""
        self.connection: Any = None
        self._is_open = False

    @property
    def sent(self) -> int:
        """Bytes of the answer, as long as nothing else was sent."""
        return self.written + (len(self._held) if self._held is not None else 0)

    def write(self, data: Data) -> None:
        """Write as a corked transport does; the first write is the answer to the handshake."""
        is_answer = self.head is None and data[:5] == HEAD
        if is_answer:
            self.recorder.note("websocket", data[9] - _ZERO, 0)
            self._is_open = data[9] == _ONE
            self.recorder.add(Cell.WEBSOCKETS, int(self._is_open))
        super().write(data)
        if is_answer:
            self._finish(aborted=False)

    def _finish(self, *, aborted: bool) -> None:
        began, self.began = self.began, None
        if began is not None and self.recorder.finished is not None:
            self.recorder.finished(self, status_of(self.head), clock() - began, aborted)

    def end(self) -> None:
        """Count one less that is open, and what was written."""
        self._finish(aborted=True)  # if it was never answered
        self.recorder.add(Cell.WEBSOCKETS, -int(self._is_open))
        self.recorder.add(Cell.SENT, self.written)
        self._is_open, self.written = False, 0


class _Watched:
    """What else a recorded HTTP protocol of uvicorn's hears of."""

    __slots__ = ()

    record: Recorded
    corks: Corks

    def connection_lost(self, exc: Exception | None) -> None:
        """End the record."""
        self.record.end()
        super().connection_lost(exc)  # type: ignore[misc]

    def handle_websocket_upgrade(self: Any, *args: Any) -> None:
        """Leave the connection to a WebSocket's record; uvicorn hands over its protocol's transport."""
        self.record.end()
        self.transport = RecordedWebSocket(self.record, self.corks)
        super().handle_websocket_upgrade(*args)  # type: ignore[misc]

    def note_bad_request(self) -> None:
        """Count what was no request."""
        self.record.recorder.add(Cell.BAD)


def is_recorded(make: Any) -> bool:
    """Tell whether the requests of a protocol class can be recorded."""
    return not RECORDED.isdisjoint(one.__name__ for one in getattr(make, "__mro__", ()))


def recording(make: Any, corks: Corks, recorder: Recorder) -> Any:
    """Make an HTTP protocol class of uvicorn's whose connections are corked and recorded; of another, only corked."""
    if not is_recorded(make):
        return corking(make, corks)
    base: Any = make
    complete, finished = base.on_response_complete, recorder.finished
    noted, other = recorder.noted, recorder.noted["other"]
    counts = recorder.cells is not None

    class Recording(_Watched, base):  # type: ignore[misc]
        __slots__ = ("record",)  # beside uvicorn's attributes, whose dictionary is full

        def connection_made(self: Any, transport: asyncio.Transport) -> None:
            self.record = record = Recorded(transport, corks, recorder)
            self.app = record.beginning(self.app)
            super().connection_made(record)
            if recorder.connected is not None:
                recorder.connected(self, record)

        def on_response_complete(self) -> None:
            record = self.record
            began, record.began = record.began, None
            if began:
                duration = clock() - began
                if counts:
                    noted.get(record.scope["method"], other)[record.head[9] - _ZERO].append(duration)
                if finished is not None:
                    held, written = record._held, record.written  # `finish`, written out; heads of uvicorn's are bytes
                    record.sent = written - record._before + (len(held) if held is not None else 0)
                    record._before = written
                    finished(record, _STATUSES[record.head[9:12]], duration, False)
            elif began is None:
                record.note_unasked(self.cycle.scope)
            record.head = None
            complete(self)

    Recording.corks = corks
    return Recording


def recording_websocket(make: Any, recorder: Recorder) -> Any:
    """Make a WebSocket protocol class of uvicorn's that counts what it has open."""
    if not isinstance(make, type):
        return make

    class Recording(make):  # type: ignore[misc]
        _record: RecordedWebSocket | None = None

        def connection_made(self: Any, transport: Any) -> None:
            if isinstance(transport, RecordedWebSocket):
                self._record = transport
                if recorder.name is not None:
                    self.app = _naming(self.app, recorder.name, transport)
            super().connection_made(transport)
            if self._record is not None and recorder.connected is not None:
                recorder.connected(self, transport)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._record is not None:
                self._record.end()
            super().connection_lost(exc)

    Recording.__name__ = make.__name__  # by which others tell which one it is
    return Recording


def _naming(app: Any, name: Any, record: RecordedWebSocket) -> Any:
    def begin(scope: Any, receive: Any, send: Any) -> Any:
        name(scope, record)
        record.scope, record.began = scope, clock()
        return app(scope, receive, send)

    return begin
