"""An exchange: one request and its response, as the application sees them.

`receive` returns the parts of the body, `send` writes the response. The rules are ASGI's (HTTP & WebSocket message
format, 2.3) and, where ASGI leaves something open, uvicorn's, including the texts of its errors.

The head of a response is held back until the first part of its body, so that both leave in one write: with
TCP_NODELAY, two writes are two system calls and two segments. The head is held at most until the end of the turn of
the event loop in which the application sent it.

Facts it rests on: which responses have no body (RFC 9112, 6.3), chunked coding (7.1) and its absence in HTTP/1.0 (6.1),
`Connection: close` (9.6); 100 Continue (RFC 9110, 10.1.1); no length in a 204 (8.6).

Invariants:
    - No field of the application can end its line or begin another, and no body can exceed its announced length.
    - `exchange_ended` is called once, when the response is complete or never will be.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from duallisten.http.answers import (
    BODYLESS,
    CHUNKED,
    STATUS_LINES,
    check_fields,
    encode_checked,
    text_answer,
    warn_once,
)

if TYPE_CHECKING:
    from duallisten.http.channel import Channel
    from duallisten.sides import Application, Scope

MAX_COPIED = 1 << 16
"""Bytes; a body up to this size is appended to its head, because the copy costs less than a second write."""

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"


class Abort(Exception):  # noqa: N818
    """Raised by one of our own applications to close the connection at once, without a log record."""


class Exchange:
    """One request and its response.

    Attributes:
        connection: The channel of the request: a connection of HTTP/1.1, or a stream of HTTP/2.
        scope: The ASGI scope.
        status: The status of the response; 0 before it has begun.
        held: The head, in parts, while it is held back; else None.
        expects_continue: Whether the client waits for 100 before it sends its body.
        complete: Whether the response is complete.
        began: When the application was called, by `time.perf_counter`; 0 if no observer needs it.
        ended: When the response was complete, or the exchange was aborted; 0 likewise.
        by_engine: Whether the engine answers in the application's place (503).
        request_id: The request's id, if an observer has set one.
        is_own: For observers: whether the request is not for the application.
    """

    __slots__ = (
        "_body",
        "_bodyless",
        "_chunked",
        "_event",
        "_expects_trailers",
        "_has_news",
        "_knows_of_end",
        "_left",
        "_more_body",
        "_sent_before",
        "began",
        "body_bytes",
        "by_engine",
        "complete",
        "connection",
        "disconnected",
        "ended",
        "expects_continue",
        "held",
        "is_own",
        "keep_alive",
        "method",
        "request_id",
        "scope",
        "status",
        "task",
    )

    def __init__(self, connection: Channel, scope: Scope, keep_alive: bool, has_body: bool) -> None:
        self.connection = connection
        self.scope = scope
        self.keep_alive = keep_alive
        self.method = scope["method"]
        self.task: asyncio.Task[None] | None = None
        self._more_body = has_body
        self._has_news = not has_body
        self._body: list[bytes] = []
        self.body_bytes = 0
        self._event: asyncio.Event | None = None
        self.expects_continue = self._expects_trailers = False
        self._knows_of_end = False
        self.disconnected = self.complete = self.by_engine = self.is_own = False
        self.status = 0
        self._sent_before = connection.sent
        self.held: list[bytes] | None = None
        self.began = self.ended = 0.0
        self.request_id: str | None = None

    @property
    def sent(self) -> int:
        """Bytes of the response written so far, including interim responses."""
        return self.connection.sent - self._sent_before

    # What the connection calls.

    def feed(self, pieces: list[bytes]) -> int:
        """Add pieces of the body; return the number of bytes that wait for the application."""
        if not (self.complete or self.disconnected):
            self._body += pieces
            self.body_bytes += sum(map(len, pieces))
            self._wake()
        return self.body_bytes

    def end_body(self) -> None:
        """Note that the body is complete."""
        self._more_body = False
        self._wake()

    def disconnect(self) -> None:
        """Tell the application that the client is gone; stop sending."""
        self.disconnected = True
        if self._event is not None:
            self._event.set()
        self._end()

    def half_close(self) -> None:
        """Tell the application that the client has closed its sending half; it may still read."""
        if self._more_body:
            self.disconnect()
        elif self._event is not None:
            self._event.set()

    def shutdown(self) -> None:
        """Close the connection after the response: the server shuts down."""
        self.keep_alive = False

    def flush(self) -> None:
        """Send the head, if it is held back."""
        head = self.held
        if head is not None:
            self.held = None
            self.connection.write(b"".join(head))

    async def run(self, app: Application) -> None:
        """Call the application, and ensure that the client gets a response."""
        try:
            result: Any = await app(  # type: ignore[func-returns-value]
                self.scope, self.receive, self.send
            )
        except Abort:
            self.connection.abort()
        except BaseException as error:
            self._fail("Exception in ASGI application\n", error=error)
        else:
            if result is not None:
                self.connection.context.log_error(
                    "ASGI callable should return None, but returned '%s'.", result, about=self
                )
                self.flush()
                self.connection.close()
            elif self._knows_of_end and not self.complete:  # it stopped after `http.disconnect`, which is allowed
                self.disconnect()
                self.connection.close()
            elif not self.complete and not self.disconnected:
                what = "completing" if self.status else "starting"
                self._fail(f"ASGI callable returned without {what} response.")
        finally:
            if self.task is not None:
                self.connection.context.tasks.discard(self.task)

    def _fail(self, message: str, *, error: BaseException | None = None) -> None:
        """Log an error, and answer 500 if the response has not begun; else close the connection."""
        connection = self.connection
        connection.context.log_error(message, about=self, error=error)
        if self.disconnected or self.complete:
            return
        if self.status:
            self.flush()
            connection.close()
        else:
            self.answer_and_close(500)

    def answer_and_close(self, status: int) -> None:
        """Answer in the application's place, and close the connection."""
        context = self.connection.context
        self.status = status
        if context.on_start is not None:
            self._tell_start(context.on_start)
        self.connection.write(text_answer(status).encode(context.default_fields, with_body=self.method != "HEAD"))
        self.keep_alive = False
        self._finish()

    def _tell_start(self, hook: Callable[[Exchange], None]) -> None:
        hook(self)

    # What the application calls.

    async def receive(self) -> dict[str, Any]:
        """Return the next part of the body, or `http.disconnect` if the client is gone or has the whole response."""
        connection = self.connection
        if self.expects_continue and self._more_body and not (self.status or self.disconnected):
            self.expects_continue = False
            self._continue()
        while not (self._has_news or self.disconnected or self.complete or connection.is_half_closed):
            connection.resume_reading()
            if self._event is None:
                self._event = asyncio.Event()
            self._event.clear()
            await self._event.wait()
        if self.disconnected or self.complete or not self._has_news:
            self._knows_of_end = True
            return {"type": "http.disconnect"}
        self._has_news = False
        pieces, self._body = self._body, []
        self.body_bytes = 0
        if self._more_body:
            connection.resume_reading()
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        return {"type": "http.request", "body": body, "more_body": self._more_body}

    async def send(self, message: Any) -> None:
        """Send a part of the response (ASGI's `send`); do nothing if the client is gone.

        Raises:
            RuntimeError: The message is out of order, or malformed.
        """
        connection = self.connection
        if connection.is_write_paused and not self.disconnected:
            await connection.wait_for_room()
        if self.disconnected:
            return
        kind = message["type"]
        if not self.status:
            if kind == "http.response.start":
                self._start(message)
            elif kind == "http.response.early_hint":
                self._hint(message)
            else:
                raise RuntimeError(f"Expected ASGI message 'http.response.start', but got '{kind}'.")
        elif self.complete:
            raise RuntimeError(f"Unexpected ASGI message '{kind}' sent, after response already completed.")
        elif kind == "http.response.body":
            self._send_body(message)
        elif kind == "http.response.trailers" and self._expects_trailers:
            self._send_trailers(message)
        else:
            raise RuntimeError(f"Expected ASGI message 'http.response.body', but got '{kind}'.")

    # The response.

    def _start(self, message: Any) -> None:
        """Build the head, and hold it back."""
        connection = self.connection
        context = connection.context
        self.status = status = message["status"]
        parts = [STATUS_LINES[status], context.default_fields]
        length: int | None = None
        chunked = says_close = False
        for line, says in check_fields(message.get("headers", ())):
            parts.append(line)
            if says is None:
                continue
            if says >= 0:
                length = says if length is None else length
            elif says == CHUNKED:
                chunked = True
            else:
                says_close = True
        if says_close or context.is_ending or (self.expects_continue and self._more_body):
            self.keep_alive = False
        self._bodyless = bodyless = self.method == "HEAD" or status in BODYLESS or status < 200
        if length is None or chunked or bodyless or connection.is_http_1_0:
            length, chunked = self._frame(parts, length, chunked)
        self._left, self._chunked = length, chunked
        if message.get("trailers"):
            self._expects_trailers = chunked and not bodyless
        parts.append(b"\r\n" if self.keep_alive or says_close else b"connection: close\r\n\r\n")
        self.held = parts
        if context.on_start is not None:
            self._tell_start(context.on_start)
        if not connection.is_starting:
            context.hold(self)

    def _frame(self, parts: list[bytes], length: int | None, chunked: bool) -> tuple[int | None, bool]:
        """Decide the framing of a response, unless it is simply a body of known length.

        Returns:
            The length of the body, and whether it is chunked; None and False for a body that ends with the connection.
        """
        is_old = self.connection.is_http_1_0
        dropped: tuple[bytes, ...] = ()
        if self.status == 204 or self.status < 200:
            dropped = (b"content-length: ", b"transfer-encoding: ")
            length, chunked = None, False
        elif chunked and is_old:
            dropped, chunked = (b"transfer-encoding: ",), False
        elif chunked and length is not None:
            dropped, length = (b"content-length: ",), None
        if dropped:
            parts[2:] = [part for part in parts[2:] if not part.startswith(dropped)]
        if length is None and not chunked and not self._bodyless:
            if is_old:
                self.keep_alive = False
            else:
                chunked = True
                parts.append(b"transfer-encoding: chunked\r\n")
        return length, chunked

    def _continue(self) -> None:
        """Send 100 Continue: ask the client to send its body."""
        self.connection.write(CONTINUE)

    def _hint(self, message: Any) -> None:
        """Send a 103 with links (ASGI's extension `http.response.early_hint`)."""
        if not self.connection.is_http_1_0:
            lines = encode_checked((b"link", link) for link in message["links"])
            self.connection.write(b"".join((STATUS_LINES[103], lines, b"\r\n")))

    def _send_body(self, message: Any) -> None:
        body = message.get("body", b"")
        more = message.get("more_body", False)
        if self._left is not None and not self._bodyless:
            self._left -= len(body)
            if self._left < 0:
                self.flush()
                raise RuntimeError("Response content longer than Content-Length")
        elif self._bodyless or self._chunked:
            body = self._encode(body, more)
        head = self.held
        if head is not None and len(body) <= MAX_COPIED:
            self.held = None
            head.append(body)
            self.connection.write(b"".join(head))
        elif body:
            self.flush()
            self.connection.write(body)
        if not more and not self._expects_trailers:
            if self._left and not self._bodyless:
                raise RuntimeError("Response content shorter than Content-Length")
            self._finish()

    def _encode(self, body: bytes, more: bool) -> bytes:
        """Return the encoded part of the body: nothing for a bodyless response, else a chunk."""
        if self._bodyless:
            if body and self.method != "HEAD":
                warn_once(f"A response with status {self.status} has no body; the application's was dropped.")
            return b""
        end = b"" if more or self._expects_trailers else b"0\r\n\r\n"
        return b"".join((b"%x\r\n" % len(body), body, b"\r\n", end)) if body else end

    def _send_trailers(self, message: Any) -> None:
        """Send the trailer section (ASGI's extension `http.response.trailers`)."""
        self.flush()
        lines = encode_checked(message.get("headers", ()))
        more = message.get("more_trailers", False)
        start = b"0\r\n" if self._expects_trailers and self._left is None else b""
        self._left = 0  # the last chunk has been sent
        self.connection.write(b"".join((start, lines, b"" if more else b"\r\n")))
        if not more:
            self._finish()

    def _finish(self) -> None:
        """Mark the response as complete, and tell the channel."""
        self.complete = True
        if self._event is not None:
            self._event.set()
        connection = self.connection
        if connection.context.is_timed:
            self._end()
        connection.response_complete(self)

    def _end(self) -> None:
        hook = self.connection.context.on_end
        if hook is not None and not self.ended:
            self.ended = time.perf_counter()
            hook(self)

    def _wake(self) -> None:
        self._has_news = True
        if self._event is not None:
            self._event.set()
