"""Records: what a request was and how long it took.

A request begins where the application of its side is called (`recorded_endpoints`), and ends with the last write of its
answer, which passes through the connection's corked transport: that is the record (`Recorded`), which has seen the
status in the head, too. What is complete when a turn of the event loop is over is noted then, all of a turn in one go
(`Turns`), where the corked transports are looked through anyway. An answer that takes longer than the turn in which its
head was sent is noted when uvicorn tells that it is complete. So nothing of this is a task, a wrapper around `send`, a
lock, or in the usual case so much as a function call.

A connection has one request in hand at a time: those that a client sends ahead wait in uvicorn's queue, and begin when
the one before them is complete, in a task of their own and so in a later turn. So a connection needs one record.

What was begun and is not complete when the connection ends is counted as aborted: the client has left, or the
application failed in the middle of its answer.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any

from duallisten.board_layout import Cell
from duallisten.corking import HEAD, MOST_COPIED, Corked, Corks, Data
from duallisten.recorder import ABORTED, PASSED_OVER, STATUSES_BY_TEXT, UNCOUNTED, Recorder, clock, status_of

BUSY = 503
"""How uvicorn answers above `--limit-concurrency`."""

INTERIM = b"1"
"""The first digit of a status after which the head of the answer is yet to come (RFC 9110, 15.2)."""


class Noting(Corked):
    """A corked transport that notes what it writes; whoever looks at that sets it back.

    head: the first write that began like the head of an answer
    written: bytes
    wrote: when something was last written, or its request was aborted (`clock`)
    """

    __slots__ = ("head", "written", "wrote")

    def __init__(self, transport: asyncio.Transport, corks: Corks) -> None:
        super().__init__(transport, corks)
        self.head: Any = None
        self.written = 0
        self.wrote = 0.0

    def write(self, data: Data) -> None:
        """Write as a corked transport does, which is written out here: a call more is dear."""
        held = self._held
        if held is not None:
            self._held = None
            self.written += len(held) + len(data)
            if len(data) <= MOST_COPIED:
                write = self._write
                write(b"".join((held, data)))
            else:
                self._transport.writelines((held, data))
            self.wrote = clock()
        elif data[:5] == HEAD:
            self._held = data
            if self.head is None or self.head[9:10] == INTERIM:
                self.head = data
            self._corks.add(self)
        else:
            self.written += len(data)
            self._write(data)
            self.wrote = clock()

    def release(self) -> None:
        """Write what is held."""
        held, self._held = self._held, None
        if held is None:
            return
        if not self.is_closing():
            self.written += len(held)
            self._write(held)
        self.wrote = clock()


class Recorded(Noting):
    """A connection's transport, and the record of the request that it has in hand.

    cycle: what uvicorn has made for that request; None where there is none, or it is noted
    began: when it began (`clock`)
    kinds: where its duration is noted, by its status
    trusted: whether the peer's ids are kept
    """

    __slots__ = ("_late", "began", "cycle", "kinds", "recorder", "trusted")

    def __init__(self, transport: asyncio.Transport, corks: Corks, recorder: Recorder) -> None:
        super().__init__(transport, corks)
        self.recorder = recorder
        self.began = 0.0
        self.cycle: Any = None
        self._late: Any = None
        self.kinds = UNCOUNTED
        self.trusted = False

    def settle(self) -> None:
        """Note the request in hand, whose answer is complete."""
        cycle, head = self.cycle, self.head
        self.cycle = self.head = None
        duration = self.wrote - self.began
        self.kinds[head[9]].append(duration)
        self.tell(cycle, head, duration)

    def settle_late(self) -> None:
        """Have the request in hand noted when uvicorn tells that its answer is complete."""
        if self._late is not self.cycle:
            self._late = cycle = self.cycle
            cycle.on_response = partial(self._complete, cycle.on_response)

    def _complete(self, on_response: Callable[[], None]) -> None:
        self._late = None
        if self.cycle is not None:
            self.settle()
        on_response()

    def tell(self, cycle: Any, head: Any, duration: float, *, aborted: bool = False) -> None:
        """Tell of a request that has ended; see `Told`."""

    def note_unasked(self, cycle: Any) -> None:
        """Count a request that was answered in the application's place: by uvicorn with 503, or by us with 400."""
        head, self.head, self.kinds = self.head, None, UNCOUNTED  # not those of a page of ours before it
        self.recorder.add(Cell.BUSY if status_of(head) == BUSY else Cell.BAD)
        if self.recorder.naming is not None:
            cycle.request_id = self.recorder.naming.make()
        self.tell(cycle, head, 0.0)

    def end(self) -> None:
        """Count a request in hand as one that has not come to its end, and what was written."""
        cycle = self.cycle
        if cycle is not None and cycle.response_complete:
            self.settle()
        elif cycle is not None:
            self.cycle = self._late = None
            self.wrote = clock()
            duration = self.wrote - self.began
            self.kinds[ABORTED].append(duration)
            self.tell(cycle, self.head, duration, aborted=True)
        self.recorder.add(Cell.SENT, self.written)
        self.written = 0


class Told(Recorded):
    """The same where somebody is told of requests, or of connections.

    sent: bytes of the answer that is told of
    connection: for whoever is told
    """

    __slots__ = ("_before", "connection", "sent")

    def __init__(self, transport: asyncio.Transport, corks: Corks, recorder: Recorder) -> None:
        super().__init__(transport, corks, recorder)
        self._before = self.sent = 0
        self.connection: Any = None

    def tell(self, cycle: Any, head: Any, duration: float, *, aborted: bool = False) -> None:
        """Tell of a request that has ended, or was answered in the application's place."""
        held, finished = self._held, self.recorder.finished
        self.sent = self.written - self._before + (len(held) if held is not None else 0)
        self._before = self.written
        if finished is not None and self.kinds is not PASSED_OVER:
            finished(self, cycle, status_of(head), duration, aborted)


class Turns(Corks):
    """The recorded connections of a side that have sent the head of an answer in this turn of the event loop."""

    _holding: list[Recorded]  # type: ignore[assignment]

    def _release(self) -> None:
        holding, self._holding = self._holding, []
        for record in holding:
            if record._held is not None:
                record.release()
            cycle = record.cycle
            if cycle is not None:
                if cycle.response_complete:  # `settle`, written out
                    record.kinds[record.head[9]].append(record.wrote - record.began)
                    record.cycle = record.head = None
                else:
                    record.settle_late()


class ToldTurns(Turns):
    """The same where somebody is told of each request."""

    _holding: list[Told]  # type: ignore[assignment]

    def __init__(self, loop: asyncio.AbstractEventLoop, recorder: Recorder) -> None:
        super().__init__(loop)
        self._recorder = recorder

    def _release(self) -> None:
        holding, self._holding = self._holding, []
        finished = self._recorder.finished
        for record in holding:
            if record._held is not None:
                record.release()
            cycle = record.cycle
            if cycle is not None:
                if cycle.response_complete:  # `settle` and `tell`, written out; heads of uvicorn's are bytes
                    head, duration, written = record.head, record.wrote - record.began, record.written
                    record.cycle = record.head = None
                    record.kinds[head[9]].append(duration)
                    record.sent, record._before = written - record._before, written
                    if finished is not None and record.kinds is not PASSED_OVER:
                        finished(record, cycle, STATUSES_BY_TEXT[head[9:12]], duration, False)
                else:
                    record.settle_late()
