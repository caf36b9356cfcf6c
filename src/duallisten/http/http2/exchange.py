"""An exchange on a stream of HTTP/2: the same as on HTTP/1.1, except for how its response is written.

A head is held back until the first part of its body, as on HTTP/1.1. `send` returns when the whole part of the body has
fitted the windows of the stream and of the connection, and the transport's buffer.

Source: RFC 9113, 8.1 (heads, bodies, trailers).
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from duallisten.http.answers import BODYLESS, Answer, text_answer
from duallisten.http.exchange import Exchange
from duallisten.http.http2.fields import STATUSES, encode_block, encode_checked

if TYPE_CHECKING:
    from duallisten.http.head import Field
    from duallisten.http.http2.stream import Stream
    from duallisten.sides import Application, Scope


class Http2Exchange(Exchange):
    """One request on a stream, and its response."""

    __slots__ = ("_is_last", "_trailers", "stream")

    def __init__(self, stream: Stream, scope: Scope, keep_alive: bool, has_body: bool) -> None:
        super().__init__(stream, scope, keep_alive, has_body)
        self.stream = stream
        self._is_last = False  # the part being sent is the end of the response
        self._trailers: list[Field] = []

    @property
    def is_over(self) -> bool:
        """Whether the request is finished."""
        return self.complete

    async def run(self, app: Application) -> None:
        """Call the application; see `Exchange`."""
        try:
            await super().run(app)
        finally:
            self.stream.application_ended()

    async def send(self, message: Any) -> None:
        """Send a part of the response, and wait until it was written; see `Exchange`."""
        if self.disconnected:
            await asyncio.sleep(0)  # an application that sends without end must not block the event loop
        await super().send(message)
        if self.stream.pending is not None:
            await self.stream.wait_until_sent()
            self._sent_all()

    def flush(self) -> None:
        """Send the head, if it is held back."""
        head = self.held
        if head is not None:
            self.held = None
            self.stream.send_head(b"".join(head), ends=False)

    def answer_and_close(self, status: int) -> None:
        """Answer in the application's place."""
        context = self.connection.context
        self.status = status
        if context.on_start is not None:
            self._tell_start(context.on_start)
        self.stream.answer(text_answer(status), with_body=self.method != "HEAD")
        self._finish()

    def _start(self, message: Any) -> None:
        context = self.connection.context
        self.status = status = message["status"]
        parts = [STATUSES[status], context.default_block]
        length: int | None = None
        is_empty = status == 204 or status < 200  # such a response must not have a length (RFC 9110, 8.6)
        for block, says in encode_checked(message.get("headers", ())):
            if says is not None:
                if is_empty:
                    continue
                length = says if length is None else length
            parts.append(block)
        self._bodyless = self.method == "HEAD" or status in BODYLESS or status < 200
        self._left = length
        self._expects_trailers = bool(message.get("trailers")) and not self._bodyless
        self.held = parts
        if context.on_start is not None:
            self._tell_start(context.on_start)
        if not self.connection.is_starting:
            context.hold(self)

    def _continue(self) -> None:
        self.stream.send_head(STATUSES[100], ends=False)

    def _hint(self, message: Any) -> None:
        fields = encode_checked((b"link", link) for link in message["links"])
        self.stream.send_head(b"".join((STATUSES[103], *(block for block, _ in fields))), ends=False)

    def _send_body(self, message: Any) -> None:
        body = message.get("body", b"")
        is_last = not message.get("more_body", False) and not self._expects_trailers
        if self._bodyless:
            body = self._encode(body, not is_last)
        elif self._left is not None:
            self._left -= len(body)
            if self._left < 0:
                self.flush()
                raise RuntimeError("Response content longer than Content-Length")
            if is_last and self._left:
                self.flush()
                raise RuntimeError("Response content shorter than Content-Length")
        self._is_last = is_last
        head, self.held = self.held, None
        if head is not None:
            self.stream.send_head(b"".join(head), ends=is_last and not body)
        if body or (is_last and head is None):
            self.stream.send_data(body, ends=is_last)
        if self.stream.pending is None:
            self._sent_all()

    def _sent_all(self) -> None:
        """Finish the response, if its last part was sent."""
        if self._is_last and not self.disconnected:
            self._finish()

    def _send_trailers(self, message: Any) -> None:
        self.flush()
        self._trailers += [(bytes(name), bytes(value)) for name, value in message.get("headers", ())]
        if not message.get("more_trailers", False):
            block = b"".join(block for block, _ in encode_checked(self._trailers))
            self.stream.send_head(block, ends=True)
            self._finish()


def encode_answer(answer: Answer, default_block: bytes) -> bytes:
    """Encode the head of one of the engine's own answers."""
    return STATUSES[answer.status] + default_block + encode_block(answer.head)
