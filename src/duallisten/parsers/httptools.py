"""uvicorn's httptools protocol with a limit on heads, whose trailers stay outside of the headers.

httptools is llhttp, strict about framing; what is left to do:

- It has no limit. The URL, a header's name and its value each grow until they are complete, before any callback hears
  of them. So the bytes are counted, read by read, while a head is under way.
- uvicorn adds the fields of a trailer section to the headers of the scope, which the application may already have read
  (RFC 9112, 7.1.2: they must not be merged). They are dropped here, and their bytes counted like those of a head.
- uvicorn answers 400 at once, also into the middle of another answer. Here requests in hand are answered first.

A head is under way when uvicorn's `scope`, made at a request's first byte, is not yet the one of `cycle`, made at its
head's end. The common case, a small read after a request that is done with, is told by the keep-alive timer, which
uvicorn stops at the next byte: then nothing is counted. A head that begins with such a read may be larger than the
limit by as much as a small read is, a sixteenth of it; one that begins in the middle of a read by the limit.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Any

from duallisten.parsers.refusal import MESSAGES, abandon, bad_request, end_after, linger, refuse

logger = logging.getLogger("uvicorn.error")


class Guard:
    """What goes before uvicorn's `HttpToolsProtocol`."""

    __slots__ = ("_before_data", "_deaf", "_head_bytes")  # beside uvicorn's attributes, whose dictionary is full

    head_limit: int
    _receive: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Make uvicorn's protocol, and three values beside it.

        _before_data: of a chunk only the size has come so far; if it was 0, trailers follow
        _deaf: nothing more is read of this peer: requests in hand are answered, then it ends
        _head_bytes: what has come of the head under way, or of the trailer section
        """
        super().__init__(*args, **kwargs)
        self._before_data = self._deaf = False
        self._head_bytes = 0

    def _measure(self: Any, data: bytes) -> None:
        """Give the parser a read in pieces, so that a head is complete within the limit or refused."""
        while data and not self._deaf and not self.transport.is_closing():
            cycle, under_way = self.cycle, self._is_under_way()
            is_head = under_way or self.scope is None or (cycle.response_complete and not cycle.more_body)
            if not under_way and not self._before_data:
                self._head_bytes = 0
            piece = data[: self.head_limit - self._head_bytes] if is_head else data[: self.head_limit]
            if not piece:
                self._refuse_head()
                return
            before_data = self._before_data
            self._receive(self, piece)
            if self.transport.get_protocol() is not self:  # a WebSocket's by now, or nobody's
                return
            data = data[len(piece) :]
            if is_head and self._is_under_way():
                self._head_bytes += len(piece)
            elif before_data and self._before_data:
                self._count_trailer(len(piece))
            else:
                self._head_bytes = 0

    def _is_under_way(self: Any) -> bool:
        return self.scope is not None and (self.cycle is None or self.cycle.scope is not self.scope)

    def _refuse_head(self: Any) -> None:
        logger.warning(MESSAGES[431])
        self._deaf = True
        if self.cycle is None or self.cycle.response_complete:
            refuse(self, 431)
        else:
            end_after(self, self.cycle)

    def _count_trailer(self: Any, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.head_limit:
            logger.warning(MESSAGES[431])
            self.send_400_response(MESSAGES[400])

    def on_chunk_header(self: Any) -> None:
        """Hear of a chunk's size: what comes as a header from now on is in the trailer section."""
        self.headers: deque[Any] = deque(maxlen=0)  # keeps nothing
        self._before_data = True

    def send_400_response(self: Any, msg: str) -> None:
        """Answer what the parser cannot read: what came before it first, and never within another answer."""
        cycle = self.cycle
        self._deaf = True
        if cycle is None:
            refuse(self, 400)
        elif cycle.scope is not self.scope or not cycle.more_body:  # the head of another request is broken
            if cycle.response_complete:
                refuse(self, 400)
            else:
                end_after(self, cycle)
        elif cycle.response_complete:  # the end of a body that nobody waits for
            linger(self)
        elif self.pipeline:  # the request in `cycle` is the last of those that wait
            self.pipeline[0] = (cycle, bad_request)
            if (note := getattr(self, "note_unasked", None)) is not None:  # where requests are recorded
                note(cycle)
            end_after(self, cycle)
        else:
            abandon(self, cycle)


def guarded_httptools(base: Any, head_bytes: int) -> Any:
    """Make the guarded subclass of uvicorn's `HttpToolsProtocol`."""
    small = head_bytes // 16
    receive, take_body = base.data_received, base.on_body

    def data_received(self: Any, data: bytes) -> None:
        if self.timeout_keep_alive_task is not None and len(data) <= small:
            receive(self, data)
        else:
            self._measure(data)

    def on_body(self: Any, body: bytes) -> None:
        self._before_data = False
        take_body(self, body)

    members = {"head_limit": head_bytes, "_receive": staticmethod(receive)}
    return type(base.__name__, (Guard, base), {**members, "data_received": data_received, "on_body": on_body})
