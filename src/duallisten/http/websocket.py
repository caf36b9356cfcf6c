"""A WebSocket, as the application sees it: a handshake that it accepts or denies, and then messages.

A handshake is an exchange: a request that is answered in order, on a connection that may stay open after a denial. So
a `WebSocket` is an `Exchange` with other messages. When the application accepts, a `WebSocketProtocol` takes over the
transport, and the `WebSocket` passes messages between the protocol and the application.

The rules are ASGI's (HTTP & WebSocket message format, 2.4, with the extension `websocket.http.response`) and, where
ASGI leaves something open, uvicorn's, including codes and the texts of errors. Two things differ: a denied handshake
does not always end the connection, and `receive` returns `websocket.disconnect` again at every further call.

Facts it rests on: RFC 6455, 4.2 (the handshake), 4.4 (a refusal names the supported version), 7.4 (close codes; 1005
and 1006 are never sent: they mean that the peer sent no code, or no Close).

Invariants:
    - Each handshake gets at most one answer, and `handshake_ended` is called once.
    - Messages reach the application in order, and before `websocket.disconnect`.
    - `send` after the end raises `ClientDisconnected`, and has no other effect.
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
"""The codes of an end without a Close: after the handshake, and before it."""

MAX_WAITING = 1 << 16
"""Reading pauses when messages of more than this many bytes wait for the application."""


class ClientDisconnected(OSError):  # noqa: N818
    """Raised by `send` when the client is gone."""


class WebSocket(Exchange):
    """One WebSocket handshake, and the WebSocket that it becomes.

    Args:
        connection: The channel of the handshake.
        scope: The scope of the request; it is changed into the scope of a WebSocket.
        keep_alive: Whether the connection may stay open when the handshake is denied.

    Attributes:
        accepted_status: The status of an answer that accepts a handshake.
        status: The status of the answer to the handshake; 0 before it.
        sent: Bytes of the answer.
        complete: Whether the answer is complete.
        disconnected: Whether the client is gone, or the engine has answered in the application's place.
    """

    accepted_status = 101

    connection: WebSocketChannel
    _offer: Response  # websockets' answer to the handshake: it accepts, or reports a malformed handshake

    def __init__(self, connection: WebSocketChannel, scope: Scope, *, keep_alive: bool) -> None:
        super().__init__(connection, scope, keep_alive, False)
        settings = connection.context.settings.websocket
        assert settings is not None  # noqa: S101
        self._frames = _make_frames(settings)
        self._max_queue = settings.max_queue
        self._protocol: WebSocketProtocol | None = None  # set when the handshake is accepted
        self._denial: Any = None  # the start of a response that denies the handshake, until its body is sent
        self._messages: deque[dict[str, Any]] = deque()
        self._size = 0  # bytes of the messages added since the queue was last empty
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
        """End: a client that has closed its sending half cannot use a WebSocket."""
        self.disconnect()

    def disconnect(self) -> None:
        """Tell the application that the client is gone; stop sending."""
        self.disconnected = True
        self.tell_end(NO_STATUS if self._protocol is not None else ABNORMAL)
        self._end()

    def shutdown(self) -> None:
        """Answer 503 if the application has not answered: the server shuts down, and the client may try elsewhere."""
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
        """Add a message for the application."""
        self._messages.append(message)
        self._size += size
        if self._waiters:
            self._wake()

    def tell_end(self, code: int, reason: str | None = None) -> None:
        """Queue `websocket.disconnect` behind the messages that wait; a second call does nothing."""
        if self._disconnect is None:
            self._disconnect = {"type": "websocket.disconnect", "code": code}
            if reason is not None:
                self._disconnect["reason"] = reason
            self._wake()

    @property
    def is_full(self) -> bool:
        """Whether reading should pause because many messages wait for the application."""
        return self._size > MAX_WAITING or len(self._messages) >= self._max_queue

    # What the application calls.

    async def run(self, app: Application) -> None:
        """Call the application, and ensure that the handshake is answered and the WebSocket is closed."""
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
        """Return the next message: `websocket.connect`, `websocket.receive` or `websocket.disconnect`."""
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
            websockets.exceptions.ProtocolError: The close code or the reason cannot be sent.
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
        """Send a message or a Close."""
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
        """Accept or deny the handshake, by the application's message."""
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
        """Accept the handshake, and give the transport to a `WebSocketProtocol`."""
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
        """Encode the answer that accepts the handshake, with our fields and the application's."""
        default = self.connection.context.default_fields
        return b"".join((STATUS_LINES[101], encode_checked(own), default, encode_checked(fields), b"\r\n"))

    def _deny(self, answer: Answer) -> None:
        """Deny the handshake with the engine's own answer."""
        start, body = answer.messages()
        self._start_denial(start)
        self._send_body(body)

    def _send_denial(self, message: Any) -> None:
        """Send a part of the application's response that denies the handshake.

        A response with a single body message gets a length: WebSocket clients often cannot read chunks.
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

        It closes the connection, as WebSocket clients expect, unless another request was sent ahead.
        """
        logger.info("connection rejected (%d %s)", start["status"], phrase_of(start["status"]))
        self.tell_end(ABNORMAL)
        self.keep_alive = self.keep_alive and self.connection.has_received()
        self._start(start)

    def _tell_start(self, hook: Callable[[Exchange], None]) -> None:
        pass  # observers get `handshake_ended` instead

    def _end(self) -> None:
        hook = self.connection.context.hooks.handshake_ended
        if hook is not None and not self.ended:
            self.ended = time.perf_counter()
            hook(self)

    def _as_request(self) -> Request:
        """Return the handshake as a request of the websockets library."""
        headers = Headers([(name.decode("ascii"), value.decode("latin-1")) for name, value in self.scope["headers"]])
        return Request(self.scope["raw_path"].decode("ascii"), headers)

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)


def _make_frames(settings: WebSocketSettings) -> ServerProtocol:
    """Build the protocol object that checks a handshake, and then parses and encodes frames.

    Compression is set as in uvicorn. The state is OPEN from the start, because the object never gets the bytes of the
    handshake.
    """
    deflate = ServerPerMessageDeflateFactory(
        server_max_window_bits=12, client_max_window_bits=12, compress_settings={"memLevel": 5}
    )
    extensions = [deflate] if settings.per_message_deflate else []
    return ServerProtocol(extensions=extensions, state=State.OPEN, max_size=settings.max_size, logger=logger)


def _make_websocket_scope(scope: Scope) -> None:
    """Change the scope of a request into the scope of a WebSocket."""
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
