"""Recording WebSockets: a handshake is a request of its own kind, counted when it is answered.

uvicorn hands a connection over to a WebSocket protocol with its transport; from there on it has a record of this kind.
How many are open is known by their handshakes and their ends.
"""

from __future__ import annotations

from typing import Any

from duallisten.board_layout import Cell
from duallisten.corking import HEAD, Corks, Data
from duallisten.recorder import Recorder, clock, status_of
from duallisten.records import Noting

_ONE = ord("1")


class RecordedWebSocket(Noting):
    """A connection's transport when it has become a WebSocket's; what it has is what `Recorded` has.

    cycle, began: its protocol, and when its application was called
    """

    __slots__ = ("_is_open", "began", "connection", "cycle", "kinds", "recorder", "trusted")

    def __init__(self, record: Any, corks: Corks) -> None:
        super().__init__(record._transport, corks)
        self.recorder = record.recorder
        self.began = 0.0
        self.cycle: Any = None
        self.kinds = self.recorder.kinds_of("websocket")
        self.trusted = False
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
            self.kinds[data[9]].append(0.0)
            self._is_open = data[9] == _ONE
            self.recorder.add(Cell.WEBSOCKETS, int(self._is_open))
        super().write(data)
        if is_answer:
            self._finish(aborted=False)

    def _finish(self, *, aborted: bool) -> None:
        cycle, self.cycle = self.cycle, None
        if cycle is not None and self.recorder.finished is not None:
            self.wrote = clock()
            self.recorder.finished(self, cycle, status_of(self.head), self.wrote - self.began, aborted)

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
            super().connection_made(transport)
            if self._record is not None:
                recorder.meet(self, transport)

        def connection_lost(self, exc: Exception | None) -> None:
            if self._record is not None:
                self._record.end()
            super().connection_lost(exc)

    Recording.__name__ = make.__name__  # by which others tell which one it is
    return Recording
