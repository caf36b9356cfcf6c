"""A WebSocket, as its application sees it: a handshake that it accepts or denies, and then messages.

A handshake is an exchange: a request that is answered in its turn, on a connection that lives on when the answer is no.
So a `WebSocket` is an `Exchange` with other messages. When the application accepts, the transport goes on with a
`WebSocketProtocol`, and the `WebSocket` stands between that and the application.

The rules are ASGI's (HTTP & WebSocket message format, 2.4, with the extension `websocket.http.response`) and, where
that leaves something open, uvicorn's, down to codes and the texts of errors. Two things differ: a denied handshake does
not end the connection, and `receive` tells of the end as often as it is asked.

Facts it rests on: RFC 6455, 4.2 (the handshake), 4.4 (a refusal names the version that is spoken), 7.4 (close codes);
1005 and 1006 are never sent, they say that no code was.

Invariants:
    - Each handshake gets one answer, and `handshake_ended` is told of it once.
    - Messages reach the application in their order, before the end is told.
    - What the application sends after the end raises `ClientDisconnected`, and does nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from websockets.datastructures import Headers
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request, Response
from websockets.protocol import State
from websockets.server import ServerProtocol

from duallisten.http.answers import STATUS_LINES, Answer, encode_checked, phrase_of
from duallisten.http.exchange import Abort, Exchange
from duallisten.http.websocket_protocol import WebSocketProtocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from duallisten.http.channel import WebSocketChannel
    from duallisten.http.head import Field
    from duallisten.http.settings import WebSocketSettings
    from duallisten.sides import Application, Scope

logger = logging.getLogger("uvicorn.error")

NO_STATUS, ABNORMAL = 1005, 1006
"""Codes of an end without a Close: after the handshake, and before."""

MAX_WAITING = 1 << 16
"""Bytes, or characters, of messages that wait for the application before nothing more is read."""


class ClientDisconnected(OSError):  # noqa: N818
    """Raised by `send` when the client is gone."""


class WebSocket(Exchange):
    """One WebSocket handshake, and the WebSocket that it becomes.

    Args:
        connection: What the handshake came on.
        scope: The scope of the request, which is made one of a WebSocket.
        keep_alive: Whether the connection may live on when the handshake is denied.

    Attributes:
        accepted_status: The status of an answer that accepts a handshake.
        status: How the handshake was answered; 0 before that.
        sent: Bytes of the answer.
        complete: Whether the answer is complete.
        disconnected: Whether the client is gone, or the engine has answered in the application's place.
    """

    accepted_status = 101

    connection: WebSocketChannel
    _offer: Response  # the answer that accepts it, if nothing is wrong with it

    def __init__(self, connection: WebSocketChannel, scope: Scope, *, keep_alive: bool) -> None:
        super().__init__(connection, scope, keep_alive, False)
        settings = connection.context.settings.websocket
        assert settings is not None  # noqa: S101
        self._frames = _make_frames(settings)
        self._max_queue = settings.max_queue
        self._protocol: WebSocketProtocol | None = None  # once it is open
        self._denial: Any = None  # the start of a response that denies the handshake, until its body comes
        self._messages: deque[dict[str, Any]] = deque()
        self._size = 0  # bytes of the messages since the last time when none waited
        self._disconnect: dict[str, Any] | None = None  # the last message
        self._has_closed = False  # the application has sent a Close
        self._waiters: list[asyncio.Future[None]] = []
        _make_websocket_scope(scope)

    # What the connection calls.

    def start(self) -> None:
        """Call the application, unless the handshake is malformed."""
        connection = self.connection
        context = connection.context
        connection.exchange = self
        if context.is_timed:
            self.began = time.perf_counter()
        if context.on_begin is not None:
            context.on_begin(self)
        self._offer = self._frames.accept(self._as_request())
        if self._offer.status_code != 101:
            self.by_engine = True
            fields = ((b"content-type", b"text/plain; charset=utf-8"), (b"sec-websocket-version", b"13"))
            self._deny(Answer(self._offer.status_code, bytes(self._offer.body), fields))
            return
        self._messages.append({"type": "websocket.connect"})
        context.call(context.app, self)

    def half_close(self) -> None:
        """End: a client that sends nothing more wants no WebSocket."""
        self.disconnect()

    def disconnect(self) -> None:
        """Tell the application that the client is gone; nothing more is sent."""
        self.disconnected = True
        self.tell_end(NO_STATUS if self._protocol is not None else ABNORMAL)
        self._end()

    def shutdown(self) -> None:
        """Answer 503 if the application has not decided yet, for the server ends: the client may try elsewhere."""
        self.keep_alive = False
        if not self.status:
            self.disconnected = True
            self.tell_end(ABNORMAL)
            self.answer_and_close(503)

    @property
    def is_accepted(self) -> bool:
        """Whether the handshake was accepted."""
        return self._protocol is not None

    # What the protocol calls.

    def put(self, message: dict[str, Any], size: int) -> None:
        """Take a message for the application."""
        self._messages.append(message)
        self._size += size
        if self._waiters:
            self._wake()

    def tell_end(self, code: int, reason: str | None = None) -> None:
        """Tell the application, after the messages that wait, that it was the last; a second end is not told."""
        if self._disconnect is None:
            self._disconnect = {"type": "websocket.disconnect", "code": code}
            if reason is not None:
                self._disconnect["reason"] = reason
            self._wake()

    @property
    def is_full(self) -> bool:
        """Whether so much waits for the application that nothing more should be read."""
        return self._size > MAX_WAITING or len(self._messages) >= self._max_queue

    # What the application calls.

    async def run(self, app: Application) -> None:
        """Call the application, and ensure that there is an answer, and an end."""
        context = self.connection.context
        try:
            result: Any = await app(self.scope, self.receive, self.send)  # type: ignore[func-returns-value]
        except ClientDisconnected:
            pass
        except Abort:
            self.connection.abort()
        except BaseException as error:
            self._fail("Exception in ASGI application\n", error=error)
        else:
            if not (self.complete or self.disconnected):
                self._fail("ASGI callable returned without completing handshake.")
            elif result is not None:
                context.log_error("ASGI callable should return None, but returned '%s'.", result, about=self)
        finally:
            if self.task is not None:
                context.tasks.discard(self.task)
            if self._protocol is not None:
                self._protocol.end()
            elif not (self.complete or self.disconnected):
                self.answer_and_close(500)

    async def receive(self) -> dict[str, Any]:
        """Return the next message: a client asks to connect, has sent something, or is gone (ASGI's `receive`)."""
        messages = self._messages
        while not messages:
            if self._disconnect is not None:
                return self._disconnect
            waiter = self.connection.context.loop.create_future()
            self._waiters.append(waiter)
            await waiter
        message = messages.popleft()
        if not messages:
            self._size = 0
            if self._protocol is not None:
                self._protocol.resume_reading()
        return message

    async def send(self, message: Any) -> None:
        """Accept or deny the handshake, send a message, or close (ASGI's `send`).

        Raises:
            ClientDisconnected: The client is gone.
            RuntimeError: The message is out of order, or malformed.
            websockets.exceptions.ProtocolError: A close code or a reason that cannot be sent.
        """
        flow = self._protocol or self.connection
        if flow.is_write_paused:
            await flow.wait_for_room()
        if self.disconnected:
            raise ClientDisconnected
        if self._protocol is not None:
            self._send(self._protocol, message)
            return
        if self.complete:
            raise RuntimeError(f"Unexpected ASGI message '{message['type']}', after sending 'websocket.close'.")
        if self._denial is not None or self.status:
            self._send_denial(message)
        else:
            self._decide(message)

    def _send(self, protocol: WebSocketProtocol, message: Any) -> None:
        """Send a message, or a Close."""
        kind = message["type"]
        if self._has_closed:
            raise RuntimeError(f"Unexpected ASGI message '{kind}', after sending 'websocket.close'.")
        if kind not in ("websocket.send", "websocket.close"):
            raise RuntimeError(f"Expected ASGI message 'websocket.send' or 'websocket.close', but got '{kind}'.")
        if not protocol.is_open:
            raise ClientDisconnected
        if kind == "websocket.send":
            protocol.send(message.get("bytes"), message.get("text"))
        else:
            code, reason = message.get("code", 1000), message.get("reason") or ""
            protocol.send_close(code, reason)
            self._has_closed = True
            self.tell_end(code, reason)

    # The answer.

    def _decide(self, message: Any) -> None:
        """Accept or deny the handshake, as the application says."""
        kind = message["type"]
        if kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.close":
            self._deny(Answer(403))
        elif kind == "websocket.http.response.start":
            if not 200 <= message["status"] < 600:
                raise RuntimeError(f"Invalid HTTP status code '{message['status']}' in response.")
            self._denial = message
        else:
            raise RuntimeError(
                "Expected ASGI message 'websocket.accept', 'websocket.close' "
                f"or 'websocket.http.response.start' but got '{kind}'."
            )

    def _accept(self, message: Any) -> None:
        """Answer that the handshake is accepted, and let the transport go on as a WebSocket."""
        connection = self.connection
        if connection.transport.is_closing():
            raise ClientDisconnected
        fields = list(message.get("headers", ()))
        subprotocol = message.get("subprotocol")
        if subprotocol:
            fields.append((b"sec-websocket-protocol", subprotocol.encode("latin-1")))
        offered = self._offer.headers.raw_items()
        own = [(name.lower().encode(), value.encode()) for name, value in offered if name != "Date"]
        head = self._encode_acceptance(own, fields)
        logger.info("connection open")
        self.status = self.accepted_status
        connection.write(head)
        self.complete = True
        self._protocol = protocol = WebSocketProtocol(self, self._frames)
        self._end()
        protocol.start(connection.hand_over(protocol))

    def _encode_acceptance(self, own: Sequence[Field], fields: Sequence[Any]) -> bytes:
        """Write the answer that accepts the handshake: with our own fields, and those of the application."""
        default = self.connection.context.default_fields
        return b"".join((STATUS_LINES[101], encode_checked(own), default, encode_checked(fields), b"\r\n"))

    def _deny(self, answer: Answer) -> None:
        """Deny the handshake with an answer of our own."""
        start, body = answer.messages()
        self._start_denial(start)
        self._send_body(body)

    def _send_denial(self, message: Any) -> None:
        """Send a part of the response that the application denies the handshake with.

        A response that comes in one piece gets a length: clients of WebSockets often know no chunks.
        """
        if message["type"] != "websocket.http.response.body":
            raise RuntimeError(f"Expected ASGI message 'websocket.http.response.body' but got '{message['type']}'.")
        start, self._denial = self._denial, None
        if start is not None:
            fields = list(start.get("headers", ()))
            names = {bytes(name).lower() for name, _ in fields}
            if not (message.get("more_body", False) or names & {b"content-length", b"transfer-encoding"}):
                fields.append((b"content-length", b"%d" % len(message.get("body", b""))))
            self._start_denial({"status": start["status"], "headers": fields})
        self._send_body(message)

    def _start_denial(self, start: dict[str, Any]) -> None:
        """Begin a response that denies the handshake.

        It ends the connection, as clients of WebSockets wait for it, unless a request was sent ahead.
        """
        logger.info("connection rejected (%d %s)", start["status"], phrase_of(start["status"]))
        self.tell_end(ABNORMAL)
        self.keep_alive = self.keep_alive and self.connection.has_received()
        self._start(start)

    def _tell_start(self, hook: Callable[[Exchange], None]) -> None:
        pass  # `handshake_ended` says it

    def _end(self) -> None:
        hook = self.connection.context.hooks.handshake_ended
        if hook is not None and not self.ended:
            self.ended = time.perf_counter()
            hook(self)

    def _as_request(self) -> Request:
        """Write the handshake as websockets wants it."""
        headers = Headers([(name.decode("ascii"), value.decode("latin-1")) for name, value in self.scope["headers"]])
        return Request(self.scope["raw_path"].decode("ascii"), headers)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def _make_frames(settings: WebSocketSettings) -> ServerProtocol:
    """Build what decides about a handshake, and then parses and writes frames; compression is as in uvicorn.

    It is open from the start, for it never sees the bytes of the handshake.
    """
    deflate = ServerPerMessageDeflateFactory(
        server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
    )
    extensions = [deflate] if settings.per_message_deflate else []
    return ServerProtocol(extensions=extensions, state=State.OPEN, max_size=settings.max_size, logger=logger)


def _make_websocket_scope(scope: Scope) -> None:
    """Turn the scope of a request into that of a WebSocket."""
    extensions: dict[str, Any] = {"websocket.http.response": {}}
    if "tls" in scope["extensions"]:
        extensions["tls"] = scope["extensions"]["tls"]
    offered = [value.decode("latin-1") for name, value in scope["headers"] if name == b"sec-websocket-protocol"]
    del scope["method"]
    scope["type"] = "websocket"
    scope["asgi"]["spec_version"] = "2.4"
    scope["scheme"] = "wss" if scope["scheme"] == "https" else "ws"
    scope["extensions"] = extensions
    scope["subprotocols"] = [token.strip() for value in offered for token in value.split(",")]
