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
from typing import Any

from duallisten.accesslines import leave_no_line
from duallisten.board_layout import Cell
from duallisten.corking import Corked, Corks, corking
from duallisten.recorder import STATUSES_BY_TEXT, Finished, Recorder, clock, status_of
from duallisten.recording_websockets import RecordedWebSocket

RECORDED = frozenset({"HttpToolsProtocol", "H11Protocol"})
"""uvicorn's protocols for HTTP/1.1. That for HTTP/2 has many requests in hand at a time, and makes its own choice of a
protocol for each connection."""


_BUSY = 503
"""How uvicorn answers above `--limit-concurrency`."""

_ABORTED = 0
_PASSED_OVER = 0
"""Stands for the beginning of a request that is not recorded."""

_ZERO = ord("0")


class Recorded(Corked):
    """A connection's transport, and the record of the request that it has in hand.

    began: when the request in hand began (`clock`); 0 if it is not recorded, None where there is none
    kinds: where its duration is noted, by the first digit of its status
    scope: of the latest request, if somebody is told of requests; one that is kept is freed late, which has its price
    sent: bytes of the latest answer, its head with them; only known to whoever is told of requests
    trusted, request_id: for whoever gives requests their ids: whether the peer is believed, None as long as that is
        not known; and the latest
    connection: for whoever is told of requests and connections
    """

    __slots__ = ("_before", "began", "connection", "kinds", "recorder", "request_id", "scope", "sent", "trusted")

    def __init__(self, transport: asyncio.Transport, corks: Corks, recorder: Recorder) -> None:
        super().__init__(transport, corks)
        self.recorder = recorder
        self._before = self.sent = 0
        self.began: int | None = None
        self.kinds = recorder.noted["other"]
        self.scope: Any = None
        self.trusted: bool | None = None
        self.request_id = ""
        self.connection: Any = None

    def beginning(self, app: Any) -> Any:
        """Make what uvicorn calls in the place of `app`: it notes that a request begins."""
        recorder = self.recorder
        if recorder.is_particular:
            return self._beginning_particularly(app, recorder)

        kinds_of, other = recorder.noted.get, recorder.noted["other"]

        def begin(scope: Any, receive: Any, send: Any) -> Any:
            self.kinds = kinds_of(scope["method"], other)
            self.began = clock()
            return app(scope, receive, send)

        return begin

    def _beginning_particularly(self, app: Any, recorder: Recorder) -> Any:
        passed_over, name, is_told = recorder.passed_over, recorder.name, recorder.finished is not None
        kinds_of, other = recorder.noted.get, recorder.noted["other"]

        def begin(scope: Any, receive: Any, send: Any) -> Any:
            if passed_over and scope["raw_path"] in passed_over:
                self.began = _PASSED_OVER
                leave_no_line(send)
                return app(scope, receive, send)
            if name is not None:
                name(scope, self)
            if is_told:
                self._before = self.written  # of what was written before, none is of this answer
                self.scope = scope
            self.kinds = kinds_of(scope["method"], other)
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
            if self.recorder.cells is not None:
                self.kinds[_ABORTED].append(duration)
            if self.recorder.finished is not None:
                self.finish(self.recorder.finished, duration, aborted=True)
        self.recorder.add(Cell.SENT, self.written)
        self.written = 0


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

    def complete_unrecorded(self: Any) -> None:
        """Note the end of an answer that the application did not give, or that is not recorded."""
        record = self.record
        began, record.began = record.began, None
        if began is None:
            record.note_unasked(self.cycle.scope)
        record.head = None


def is_recorded(make: Any) -> bool:
    """Tell whether the requests of a protocol class can be recorded."""
    return not RECORDED.isdisjoint(one.__name__ for one in getattr(make, "__mro__", ()))


def recording(make: Any, corks: Corks, recorder: Recorder) -> Any:
    """Make an HTTP protocol class of uvicorn's whose connections are corked and recorded; of another, only corked."""
    if not is_recorded(make):
        return corking(make, corks)
    base: Any = make
    complete = base.on_response_complete

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
            began = record.began
            if began:
                record.began = None
                record.kinds[record.head[9] - _ZERO].append(clock() - began)
                record.head = None
            else:
                self.complete_unrecorded()
            complete(self)

    if recorder.finished is not None or recorder.cells is None:
        Recording.on_response_complete = _completing(complete, recorder)  # type: ignore[method-assign]
    Recording.corks = corks
    return Recording


def _completing(complete: Any, recorder: Recorder) -> Any:
    """Make `Recording.on_response_complete` where somebody is told of requests, or they are not counted.

    complete: uvicorn's
    """
    counts, finished = recorder.cells is not None, recorder.finished

    def on_response_complete(self: Any) -> None:
        record = self.record
        began = record.began
        if began:
            record.began = None
            duration = clock() - began
            if counts:
                record.kinds[record.head[9] - _ZERO].append(duration)
            if finished is not None:
                held, written = record._held, record.written  # `finish`, written out; heads of uvicorn's are bytes
                record.sent = written - record._before + (len(held) if held is not None else 0)
                record._before = written
                finished(record, STATUSES_BY_TEXT[record.head[9:12]], duration, False)
            record.head = None
        else:
            self.complete_unrecorded()
        complete(self)

    return on_response_complete
