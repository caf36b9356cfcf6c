"""Recording WebSockets: a handshake is a request of its own kind, counted when it is answered.

uvicorn hands a connection over to a WebSocket protocol with its transport; from there on it has a record of this kind.
How many are open is known by their handshakes and their ends.
"""

from __future__ import annotations

from typing import Any

from duallisten.board_layout import Cell
from duallisten.corking import HEAD, Corked, Corks, Data
from duallisten.recorder import Recorder, clock, status_of

_ZERO = ord("0")
_ONE = ord("1")


class RecordedWebSocket(Corked):
    """A connection's transport when it has become a WebSocket's; what it has is what `Recorded` has.

    began: when its application was called; None when its handshake is answered, or before
    """

    __slots__ = ("_is_open", "began", "connection", "recorder", "request_id", "scope", "trusted")

    def __init__(self, record: Any, corks: Corks) -> None:
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
