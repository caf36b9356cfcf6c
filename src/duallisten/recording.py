"""Recording: uvicorn's protocols, made to have a record of each connection (`records`).

A WebSocket has one of another kind from its handshake on, which is counted when it is answered. Without the options
that ask for it nothing of this is in a connection's way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from duallisten.board_layout import Cell
from duallisten.corking import Corks, corking
from duallisten.recorder import Recorder, status_of
from duallisten.recording_websockets import RecordedWebSocket
from duallisten.records import BUSY, Recorded, Told, ToldTurns, Turns

RECORDED = frozenset({"HttpToolsProtocol", "H11Protocol"})
"""uvicorn's protocols for HTTP/1.1. That for HTTP/2 has many requests in hand at a time, and makes its own choice of a
protocol for each connection."""


class _Watched:
    """What a recorded HTTP protocol of uvicorn's hears of."""

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

    def note_unasked(self, cycle: Any) -> None:
        """Have a request counted that will be answered in the application's place, when it is."""
        cycle.on_response = partial(self._answered_unasked, cycle, cycle.on_response)

    def _answered_unasked(self, cycle: Any, on_response: Callable[[], None]) -> None:
        self.record.note_unasked(cycle)
        on_response()


def is_recorded(make: Any) -> bool:
    """Tell whether the requests of a protocol class can be recorded."""
    return not RECORDED.isdisjoint(one.__name__ for one in getattr(make, "__mro__", ()))


def recording(make: Any, corks: Corks, recorder: Recorder, *, is_limited: bool = False) -> Any:
    """Make an HTTP protocol class of uvicorn's whose connections are corked and recorded; of another, only corked.

    is_limited: whether uvicorn answers in the application's place above a limit
    """
    if not is_recorded(make):
        return corking(make, corks)
    base: Any = make
    make_record = Told if recorder.is_told else Recorded
    turns = ToldTurns(corks.loop, recorder) if recorder.is_told else Turns(corks.loop)

    class Recording(_Watched, base):  # type: ignore[misc]
        __slots__ = ("record",)  # beside uvicorn's attributes, whose dictionary is full

        def connection_made(self: Any, transport: asyncio.Transport) -> None:
            self.record = record = make_record(transport, turns, recorder)
            super().connection_made(record)
            recorder.meet(self, record)

    Recording.corks = corks
    return _limited(Recording) if is_limited else Recording


def _limited(make: Any) -> Any:
    class Limited(make):  # type: ignore[misc]
        __slots__ = ()

        def on_response_complete(self: Any) -> None:
            if self.record.cycle is None and status_of(self.record.head) == BUSY:
                self.record.note_unasked(self.cycle)
            super().on_response_complete()

    return Limited
