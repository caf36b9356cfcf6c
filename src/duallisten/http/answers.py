"""Answers that the engine gives itself, in the application's place or where there is none to ask.

There is one way to make them: status, phrase as text, and the end of the connection. They tell a client nothing about
why; the reason goes to the log and to the observers.
"""

from __future__ import annotations

from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

TEXTS = {
    400: "Invalid HTTP request received.",
    408: "Request Timeout",
    413: "Request body too large.",
    431: "Request head too large.",
    500: "Internal Server Error",
    503: "Service Unavailable",
}
"""What the body of an answer says, where that is not the status's own phrase."""


def _status_line(status: int) -> bytes:
    try:
        phrase = HTTPStatus(status).phrase
    except ValueError:
        phrase = ""
    return f"HTTP/1.1 {status} {phrase}\r\n".encode()


STATUS_LINES = {status: _status_line(status) for status in range(100, 600)}
"""The first line of a response, by status."""


def encode_fields(fields: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Write header fields as they go out; they must be in order."""
    return b"".join(b"%s: %s\r\n" % field for field in fields)


def closing_answer(status: int, default_fields: bytes = b"", *, with_body: bool = True) -> bytes:
    """Build the last answer on a connection.

    Args:
        status: Its status.
        default_fields: The fields that every response has, as `encode_fields` writes them.
        with_body: Whether its body is sent, too; not where HEAD was asked.
    """
    text = TEXTS.get(status, STATUS_LINES[status][13:-2].decode()).encode()
    head = b"content-type: text/plain; charset=utf-8\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % len(text)
    return b"".join((STATUS_LINES[status], default_fields, head, text if with_body else b""))


async def unavailable(scope: Any, receive: Any, send: Any) -> None:
    """Answer 503 in an application's place: there are too many requests at a time."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"19"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 503, "headers": headers})
    await send({"type": "http.response.body", "body": b"Service Unavailable"})
