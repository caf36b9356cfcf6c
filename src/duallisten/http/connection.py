"""A connection that speaks HTTP/1.1: bytes in, exchanges out, in order.

The engine serves one request at a time. Bytes that arrive meanwhile wait in an inbox, and reading pauses when it is
full. So pipelined requests are answered in order without a queue of their own. The current request ends when its
response is complete *and* its body has been read; the part of the body that the application does not read is dropped.

For each request the engine finds the end of the head, checks its bytes (`head`), parses it (`parsers`), decides the
framing (`head` again), and calls the application in a task (`exchange`). The parser never gets a byte behind the head
and the body, so a WebSocket handshake or an ignored upgrade cannot swallow the next request.

How it ends. A bad request gets one answer, after the answers to earlier requests, and the connection lingers: our
sending half is closed, and bytes of the peer are dropped for a second (`flow`). A peer that has closed its sending half
(RFC 9293, 3.6) still gets its answer. But `receive` reports a disconnect, because a closed client looks the same.

Fairness. A read may hold thousands of chunks, or requests. After `MAX_LINES` lines of framing, and after each request
whose answer is complete, the remaining bytes wait for the next turn of the event loop.

Invariants:
    - The bytes of one request never reach the parser, or the application, as part of another.
    - No answer is written into the middle of another.
    - A connection has a deadline whenever it waits for the peer.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from duallisten.http.answers import text_answer
from duallisten.http.exchange import Exchange
from duallisten.http.flow import NEVER, Flow
from duallisten.http.head import PLAIN, PREFACE, PREFACE_HEAD, BadRequest, Framing
from duallisten.http.request import Inbox, RequestReader, connection_scope, make_scope, own_address, peer_address

if TYPE_CHECKING:
    from duallisten.http.context import Context
    from duallisten.sides import Scope

HIGH_WATER = 1 << 16
"""Reading pauses when more bytes than this wait, of a body or of further requests."""

HEAD, EXCHANGE, LINGER, CLOSED = range(4)
"""The stages of a connection. HEAD: it waits for a request's head. EXCHANGE: a request is being served. LINGER: our
sending half is closed, and bytes of the peer are dropped. CLOSED: the transport is closed, or handed over."""


class Connection(Flow):
    """One connection of a listener.

    Args:
        context: The state that the listener's connections share.

    Attributes:
        server: The server's address, as in an ASGI scope.
        scheme: `http` or `https`.
        scope, extensions: The common part of the scopes of its requests.
        is_trusted: Whether the peer's forwarded headers are trusted.
        rewrite: Rewrites a scope by trusted forwarded headers; None if they are not trusted.
        exchange: The current request.
        sent: Bytes written so far, of all kinds.
        note: For observers.
    """

    __slots__ = (
        "_inbox",
        "_reader",
        "exchange",
        "extensions",
        "is_half_closed",
        "is_http_1_0",
        "is_starting",
        "is_trusted",
        "note",
        "rewrite",
        "scheme",
        "scope",
        "sent",
        "server",
        "stage",
    )

    def __init__(self, context: Context) -> None:
        super().__init__(context)
        self.stage, self.sent = HEAD, 0
        self._inbox = Inbox()
        self._reader = RequestReader(context.make_parser(), context.limits)
        self.exchange: Exchange | None = None
        self.is_http_1_0 = self.is_starting = self.is_trusted = self.is_half_closed = False
        self.note: Any = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for a request."""
        context = self.context
        self.transport = transport
        self.server = own_address(transport.get_extra_info("sockname"))
        self.client = peer_address(transport.get_extra_info("peername"))
        self.scheme = "http"
        if transport.get_extra_info("sslcontext") is not None:
            from duallisten.http.tls import describe_tls, has_chosen_http2

            self.scheme = "https"
            self.tls = describe_tls(transport)
        self.scope = connection_scope(self)
        self.extensions: dict[str, Any] = {"http.response.trailers": {}, "http.response.early_hint": {}}
        if self.tls is not None:
            self.extensions["tls"] = self.tls
        self.rewrite = None
        if context.believe is not None:
            self.rewrite = context.believe(self.client[0] if self.client else None)
            self.is_trusted = self.rewrite is not None
        context.connections.add(self)
        self.deadline = context.clock.after(context.limits.head_seconds)
        self._trace("HTTP connection made")
        if context.hooks.connection_made is not None:
            context.hooks.connection_made(self)
        if self.tls is not None and context.settings.http2 and has_chosen_http2(transport):
            self._begin_http2(PREFACE, b"")

    def connection_lost(self, exc: Exception | None) -> None:
        """Release everything: the connection is closed."""
        context = self.context
        context.connections.discard(self)
        self.stage, self.deadline = CLOSED, NEVER
        self._reader.close()
        self._inbox.clear()
        self.resume_writing()
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.disconnect()
        self._trace("HTTP connection lost")
        if context.hooks.connection_lost is not None:
            context.hooks.connection_lost(self)

    def data_received(self, data: bytes) -> None:
        """Process bytes from the peer."""
        try:
            if self.stage == HEAD and not self._inbox:
                self._read_head(data)
            elif self.stage == EXCHANGE and self._reader.has_body and not self._inbox:
                self._read_body(data)
            elif self.stage in (HEAD, EXCHANGE):
                self._inbox.extend(data)
                self._read_on()
        except BadRequest as bad:
            self.refuse(bad)

    def eof_received(self) -> bool:
        """Keep our sending half open while a request must be answered: the peer has closed its own."""
        self.is_half_closed = True
        if self.tls is not None:
            return False
        if self.stage == EXCHANGE and self.exchange is not None:
            self.exchange.half_close()
            return not self.exchange.disconnected
        return self._is_scheduled  # a pipelined request is about to be read

    # Reading.

    def _read_on(self) -> None:
        """Process the inbox as far as possible now."""
        inbox = self._inbox
        if self.stage == HEAD:
            if inbox.has_head(self.context.max_head):
                self._read_head(inbox.take())
            elif self.is_half_closed:
                self.close()
        elif self._reader.has_body:
            self._read_body(inbox.take())
        elif len(inbox) > HIGH_WATER:
            self.pause_reading()

    def _read_head(self, data: bytes) -> None:
        """Read the head of a request, if it is complete, and call the application; the inbox is empty."""
        context = self.context
        end = data.find(b"\r\n\r\n") + 4
        if end < 4 or data[0] == 13:  # it is incomplete, or an empty line precedes it
            self._inbox.extend(data)
            self._read_on()
            if self.stage == HEAD and self._inbox and self._reader.host is not None:
                self.deadline = context.clock.after(context.limits.head_seconds)  # from its first byte on
            return
        if end > context.max_head:
            raise BadRequest(431, f"request head larger than {context.max_head} bytes (--max-head-size)")
        rest = b""
        if end != len(data):
            rest = data[end:]
            data = data[:end]
        try:
            line, fields, framing = self._reader.read_head(data)
        except BadRequest:
            if data != PREFACE_HEAD or self._reader.host is not None or not context.settings.http2:
                raise
            self._begin_http2(PREFACE.removeprefix(PREFACE_HEAD), rest)
            return
        if framing.wants_websocket and context.hand_over is not None:
            self.connection_lost(None)  # for this protocol and its observers
            context.hand_over(self.transport, data + rest)
            return
        scope = make_scope(self, line, fields)
        if self.rewrite is not None:
            self.rewrite(scope)
        if framing.wants_websocket and context.settings.websocket is not None:
            self._begin_websocket(scope, framing, rest)
        else:
            self._begin(scope, framing, rest)

    def _begin_websocket(self, scope: Scope, framing: Framing, rest: bytes) -> None:
        """Ask the application whether it accepts the WebSocket; `rest` was received after the handshake."""
        if framing.length != 0:
            raise BadRequest(400, "WebSocket handshake with a body")
        from duallisten.http.websocket import WebSocket  # its library takes 30 ms to import

        self.stage, self.deadline = EXCHANGE, NEVER
        self._inbox.extend(rest)
        WebSocket(self, scope, keep_alive=framing.keep_alive).start()

    def _begin_http2(self, preface: bytes, data: bytes) -> None:
        """Continue as HTTP/2; `preface` must come next from the client, and `data` was already received."""
        from duallisten.http.http2 import Http2Connection

        http2 = Http2Connection(self, preface)
        http2.start(self.hand_over(http2) + data)

    def _begin(self, scope: Scope, framing: Framing, rest: bytes) -> None:
        """Build the exchange, use the bytes received after the head (`rest`), and start the application."""
        context = self.context
        length, most = framing.length, context.limits.body_bytes
        if most is not None and length is not None and length > most:
            raise BadRequest(413, f"body larger than {most} bytes (--max-body-size)")
        self.exchange = exchange = Exchange(self, scope, framing.keep_alive, length != 0)
        self.stage, self.deadline = EXCHANGE, NEVER
        if framing is not PLAIN:
            self.is_http_1_0 = scope["http_version"] == "1.0"
            if length != 0:
                self._reader.begin_body(length)
                if framing.expects_continue and not rest:
                    exchange.expects_continue = True
                self._set_deadline()
        app = context.begin(exchange)
        if rest:
            self._inbox.extend(rest)
            self._read_on()
        context.call(app, exchange)

    def _read_body(self, data: bytes) -> None:
        """Pass bytes of the body to the exchange, which drops them if the response is complete."""
        exchange, reader = self.exchange, self._reader
        assert exchange is not None  # noqa: S101
        pieces, size = reader.read_body(data)
        waiting = exchange.feed(pieces) if pieces else exchange.body_bytes
        if size < len(data):
            self._inbox.extend(data[size:])
        if not reader.has_body:
            exchange.end_body()
            self._set_deadline()
            if exchange.complete:
                self._end_exchange()
        elif waiting > HIGH_WATER and not exchange.complete:
            self.pause_reading()
        elif self._inbox:  # the limit of work for this turn is reached
            self.pause_reading()
            self.resume_reading()
        else:
            self._set_deadline()

    def _go_on(self) -> None:
        """Process the inbox, in another turn of the event loop."""
        self._is_scheduled = False
        if self.stage in (HEAD, EXCHANGE):
            try:
                self._read_on()
            except BadRequest as bad:
                self.refuse(bad)
            if self.stage == HEAD or not self._inbox:
                self._resume()

    def _reading_has_changed(self) -> None:
        self._set_deadline()

    def has_received(self) -> bool:
        """Whether received bytes wait to be used."""
        return bool(self._inbox) and self.stage != LINGER

    def response_complete(self, exchange: Exchange) -> None:
        """Continue after a response: with the rest of the body, the next request, or the end."""
        context = self.context
        context.state.total_requests += 1
        if not exchange.keep_alive:
            self.exchange = None
            if not (self._reader.has_body or self._inbox):
                self.close()
            else:
                self.linger()
        elif self._reader.has_body:
            self.resume_reading()
            self._set_deadline()
        elif self._inbox or self.is_read_paused or self.is_half_closed:
            self._end_exchange()
        else:  # the usual case
            self.exchange = None
            self.stage = HEAD
            self.deadline = context.clock.now + context.keep_alive

    def _end_exchange(self) -> None:
        """Start to wait for the next request; a part of it may be in the inbox."""
        self.exchange = None
        self.stage = HEAD
        if self._inbox:
            self.deadline = self.context.clock.after(self.context.limits.head_seconds)
            self._schedule()
        elif self.is_half_closed:
            self.close()
        else:
            self.deadline = self.context.clock.now + self.context.keep_alive
            self._resume()

    @property
    def has_request(self) -> bool:
        """Whether there is a current request, and its response is not complete."""
        return self.exchange is not None and not self.exchange.complete

    def refuse(self, bad: BadRequest) -> None:
        """Answer a bad request, unless a response has begun, and end the connection."""
        exchange, self.exchange = self.exchange, None
        answer = text_answer(bad.status)
        self.context.tell_refused(self, bad.status, bad.reason)
        self.context.log_warning(answer.body.decode(), self)
        if exchange is None or not exchange.status:
            self.write(answer.encode(self.context.default_fields))
        else:
            exchange.flush()
        if exchange is not None:
            exchange.disconnect()
        self.linger()

    def write(self, data: bytes) -> None:
        """Write bytes, and count them."""
        self.sent += len(data)
        self.transport.write(data)

    tunnel = write

    def linger(self) -> None:
        """Close our sending half, drop what the peer sends for `LINGER_SECONDS`, and then close the connection."""
        self._inbox.clear()
        if self._close_half():
            self.stage = LINGER
            self._resume()
        else:
            self.close()

    def hand_over(self, protocol: Flow) -> bytes:
        """Give the transport to `protocol`, which calls our `connection_lost` later; return the unused bytes."""
        self.stage, self.deadline = CLOSED, NEVER
        self.exchange = None
        self._reader.close()
        self._give_transport(protocol)
        data = self._inbox.take()
        self.resume_reading()
        return data

    def close(self) -> None:
        """Close the connection when the write buffer has been sent."""
        if self.stage != CLOSED:
            self.stage = CLOSED
            self._give_time_to_send()
            self.transport.close()

    def abort(self) -> None:
        """Close the connection at once."""
        self.stage = CLOSED
        self.transport.abort()

    def shutdown(self) -> None:
        """End after the current request, or at once if there is none: the server shuts down."""
        if self.exchange is not None and not self.exchange.complete:
            self.exchange.shutdown()
        elif self.stage != LINGER:
            self.close()

    def _set_deadline(self) -> None:
        """Set the deadline for the peer to send more of the current request's body."""
        if self.stage == EXCHANGE and not self.is_write_paused:
            waits = self._reader.has_body and not self.is_read_paused
            self.deadline = self.context.clock.after(self.context.limits.body_seconds) if waits else NEVER

    def expire(self) -> None:
        """Handle a passed deadline: the peer was too slow."""
        if self.stage == LINGER:
            self.close()
        elif self.stage == CLOSED or self.is_write_paused:
            if self._is_stuck():
                self.context.tell_refused(self, 0, "client stopped reading the response (--timeout-send)")
                self.abort()
        elif self.stage == EXCHANGE:
            self.refuse(BadRequest(408, "request body timed out (--timeout-request-body)"))
        else:
            if self._inbox or self._reader.host is None:
                self.context.tell_refused(self, 0, "request head timed out (--timeout-request-header)")
            self.close()
