"""The heads of requests in HTTP/2: joined from frames, decoded, and passed to the application.

Every complete head is decoded, even if its stream is refused, because both sides must keep the same compression table.
Decoding takes longer than all other work on a small request, and clients send the same head again and again. So the
result of a block that does not change the table is cached until another block changes the table.

Source: RFC 9113, 4.3 (blocks of fields), 5.1 (states of streams), 6.2, 6.10, 8.1 (the form of a head).

Invariants:
    - A block that is not decoded ends the connection.
    - Of an incomplete head at most `--max-head-size` bytes are kept, or one frame if that is larger.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from hpack import Decoder, HPACKError, OversizedHeaderListError

from duallisten.http.answers import text_answer
from duallisten.http.head import LARGE, BadRequest
from duallisten.http.http2 import frames
from duallisten.http.http2.exchange import Http2Exchange, encode_answer
from duallisten.http.http2.fields import BlockShape, Request, check_fields, read_request, shape_of
from duallisten.http.http2.frames import BadConnection, BadStream
from duallisten.http.http2.stream import Stream
from duallisten.http.request import make_scope

if TYPE_CHECKING:
    from duallisten.http.head import Field
    from duallisten.http.http2.connection import Http2Connection

MAX_CONTINUATIONS = 64
"""The most frames of one head."""

MAX_CRUMBS = 4
"""A large block with more than this many times `--max-head-fields` is refused without decoding. A block with fewer
fields may still be valid, because a cookie may come in several fields."""

COST_OF_REFUSAL = 10
"""The units that a refused request takes from the budget for frames, because it is answered and logged."""

MAX_KNOWN = 64
MAX_KNOWN_BLOCK = 512
"""The number of cached heads of a connection, and the size of the largest block in bytes."""


class Heads:
    """Reads the heads of one connection.

    Args:
        connection: The connection.

    Attributes:
        stream: The stream whose head is incomplete; 0 for none.
    """

    __slots__ = ("_block", "_connection", "_decoder", "_flags", "_frames", "_known", "stream")

    def __init__(self, connection: Http2Connection) -> None:
        self._connection = connection
        self._known: dict[bytes, Request] = {}
        self._decoder = Decoder(connection.context.limits.head_bytes or sys.maxsize)
        self.stream = 0
        self._block = bytearray()
        self._flags = self._frames = 0

    def take(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        """Process HEADERS."""
        at, end = frames.without_padding(data, at, end, flags)
        if number % 2 == 0:
            raise BadConnection(frames.PROTOCOL_ERROR, "HEADERS on an even stream id")
        if flags & frames.HAS_PRIORITY:
            if end - at < 5:
                raise BadConnection(frames.FRAME_SIZE_ERROR, "HEADERS too short for its priority fields")
            if frames.NUMBER.unpack_from(data, at)[0] & frames.MAX_STREAM == number:
                raise BadConnection(frames.PROTOCOL_ERROR, "stream depends on itself")
            at += 5
        if flags & frames.END_HEADERS:
            self._read_head(number, data[at:end], ends=bool(flags & frames.END_STREAM))
            return
        self._block[:] = data[at:end]
        self.stream, self._flags, self._frames = number, flags, 1
        self._connection.wait_for_head(is_begun=True)

    def take_continuation(self, flags: int, number: int, data: bytes, at: int, end: int) -> None:
        """Process CONTINUATION."""
        block = self._block
        if not self.stream:
            raise BadConnection(frames.PROTOCOL_ERROR, "CONTINUATION without HEADERS")
        block += data[at:end]
        self._frames += 1
        if at == end:
            self._connection.frames_left.spend()
        if len(block) > self._connection.context.max_head or self._frames > MAX_CONTINUATIONS:
            self._refuse_head(number, "header block too large (--max-head-size)")
        if flags & frames.END_HEADERS:
            self.stream = 0
            self._connection.wait_for_head(is_begun=False)
            self._read_head(number, bytes(block), ends=bool(self._flags & frames.END_STREAM))

    def _refuse_head(self, number: int, reason: str) -> None:
        """Answer 431 to a head that is not decoded, and end the connection."""
        connection = self._connection
        if number > connection.last:
            connection.last = number
            self._answer(number, BadRequest(431, reason))
        raise BadConnection(frames.ENHANCE_YOUR_CALM, reason)

    def _answer(self, number: int, bad: BadRequest) -> None:
        """Answer a request that does not become an exchange."""
        connection = self._connection
        connection.frames_left.spend(COST_OF_REFUSAL)
        answer = text_answer(bad.status)
        connection.tell_refused(bad)
        block = connection.sending.announce() + encode_answer(answer, connection.context.default_block)
        connection.write(
            frames.head(number, block, ends=False) + frames.frame(frames.DATA, frames.END_STREAM, number, answer.body)
        )

    def _decode(self, number: int, block: bytes, shape: BlockShape) -> list[Field]:
        """Decode a block; clear the cache if the block changes the table."""
        limits = self._connection.context.limits
        if len(block) > LARGE and limits.head_fields is not None and shape.fields > MAX_CRUMBS * limits.head_fields:
            self._refuse_head(number, "too many header fields (--max-head-fields)")
        if not shape.is_stateless:
            self._known.clear()
        try:
            return self._decoder.decode(block, raw=True)  # type: ignore[return-value]
        except OversizedHeaderListError:
            self._refuse_head(number, "header block too large (--max-head-size)")
            raise
        except (HPACKError, ValueError, IndexError) as error:
            raise BadConnection(frames.COMPRESSION_ERROR, f"hpack: {error}") from None

    def _read_head(self, number: int, block: bytes, *, ends: bool) -> None:
        """Read a complete head: of a request, or of the trailer section after its body."""
        connection = self._connection
        if number <= connection.last:
            self._read_trailers(number, self._decode(number, block, shape_of(block)), ends=ends)
            return
        request = self._known.get(block)
        bad: BadRequest | None = None
        if request is None:
            shape = shape_of(block)
            found = self._decode(number, block, shape)
            try:
                max_fields, takes_websockets = connection.context.limits.head_fields, connection.takes_websockets
                request = read_request(found, max_fields, takes_websockets=takes_websockets)
            except BadRequest as error:
                bad = error
            else:
                if len(block) <= MAX_KNOWN_BLOCK and len(self._known) < MAX_KNOWN and shape.is_stateless:
                    self._known[block] = request
        connection.last = number
        if connection.refuses(number):
            raise BadStream(frames.REFUSED_STREAM, "too many concurrent streams, or the connection is closing")
        if request is not None:
            bad = _check_length(request, connection.context.limits.body_bytes, ends=ends)
            if bad is None:
                self._begin(number, request, ends=ends)
                return
        assert bad is not None  # noqa: S101
        self._answer(number, bad)
        raise BadStream(frames.PROTOCOL_ERROR if bad.status == 400 else frames.NO_ERROR, bad.reason)

    def _begin(self, number: int, request: Request, *, ends: bool) -> None:
        """Start the application for a request."""
        connection = self._connection
        first = connection.connection
        scope = make_scope(first, request.line, request.fields.copy())
        if first.rewrite is not None:
            first.rewrite(scope)
        if request.is_handshake:
            from duallisten.http.http2.websocket import begin_websocket  # its library takes 30 ms to import

            begin_websocket(connection, number, scope)
            return
        stream = Stream(connection, number, has_body=not ends, length=request.length)
        stream.exchange = exchange = Http2Exchange(stream, scope, True, not ends)
        connection.opened(stream)
        if not ends:
            exchange.expects_continue = request.expects_continue
            stream.wait(connection.context.limits.body_seconds)
        context = connection.context
        context.call(context.begin(exchange), exchange)

    def _read_trailers(self, number: int, fields: list[Field], *, ends: bool) -> None:
        connection = self._connection
        stream = connection.streams.get(number)
        if stream is None:
            if number not in connection.ended:
                raise BadConnection(frames.PROTOCOL_ERROR, "HEADERS on a stream id lower than an earlier one")
            if not connection.ended[number]:
                raise BadConnection(frames.STREAM_CLOSED, "HEADERS on a closed stream")
            connection.frames_left.spend()  # sent before the peer knew of our reset
            return
        if not stream.has_body:
            raise BadStream(frames.STREAM_CLOSED, "HEADERS after END_STREAM")
        if not ends:
            raise BadStream(frames.PROTOCOL_ERROR, "trailer section without END_STREAM")
        check_fields(fields)
        stream.take(b"", 0, ends=True)


def _check_length(request: Request, most: int | None, *, ends: bool) -> BadRequest | None:
    """Return what is wrong with the length of a request's body, or None."""
    if ends and request.length:
        return BadRequest(400, "Content-Length without a body")
    if request.is_handshake and (ends or request.length is not None):
        return BadRequest(400, "WebSocket handshake with a body or with END_STREAM")
    if most is not None and request.length is not None and request.length > most:
        return BadRequest(413, f"body larger than {most} bytes (--max-body-size)")
    return None
