"""What a response begins with: its status line, header fields as they go out, and the answers that are our own.

Applications send the same few fields again and again, so a field that was checked once is remembered as it goes out.

An answer of our own, in the application's place or where there is none to ask, is an `Answer`. It tells a client
nothing about why; the reason goes to the log and to the observers.

Facts it rests on: what a field may consist of (RFC 9110, 5.5 and 5.6.2).

Invariants:
    - Nothing that the application sends can end a line, or begin another field.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from duallisten.http.head import Field

logger = logging.getLogger("uvicorn.error")

TEXTS = {
    400: "Invalid HTTP request received.",
    413: "Request body too large.",
    431: "Request head too large.",
}
"""What the body of an answer says, where that is not the status's own phrase."""

BODYLESS = frozenset((204, 304))
"""Statuses of responses that have no body, beside those below 200."""

BAD_NAME = re.compile(rb'[\x00-\x20\x7f()<>@,;:\\\[\]={}"/?]|[^\x00-\x7f]|^$')
"""What no name of a header field has in it."""

BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""What no value of a header field has in it."""

CHUNKED, CLOSE = -1, -2
"""What a field says of a response, beside a length: that it is chunked, that the connection ends with it."""

MAX_KNOWN_FIELDS = 2048
MAX_KNOWN_FIELD = 256
"""How many fields are remembered, and the bytes of the longest."""


def phrase_of(status: int) -> str:
    """Return the reason phrase of a status; empty for one that is not registered."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


STATUS_LINES = {status: f"HTTP/1.1 {status} {phrase_of(status)}\r\n".encode() for status in range(100, 600)}
"""The first line of a response, by status."""


class Answer(NamedTuple):
    """A whole response of our own.

    Attributes:
        status: Its status.
        body: Its body.
        fields: Its header fields, in lower case; the length of the body is added to them.
    """

    status: int
    body: bytes = b""
    fields: tuple[Field, ...] = ()

    @property
    def head(self) -> list[Field]:
        """All header fields, with the length."""
        return [*self.fields, (b"content-length", b"%d" % len(self.body))]

    def messages(self, prefix: str = "http.response", *, with_body: bool = True) -> tuple[dict[str, Any], ...]:
        """Return the ASGI messages that send it.

        Args:
            prefix: What their types begin with: `websocket.http.response` where it denies a handshake.
            with_body: Whether its body is sent, too; not where HEAD was asked.
        """
        start = {"type": f"{prefix}.start", "status": self.status, "headers": self.head}
        return start, {"type": f"{prefix}.body", "body": self.body if with_body else b""}

    async def send(self, scope: Any, send: Any) -> None:
        """Answer an HTTP request with it."""
        for message in self.messages(with_body=scope["method"] != "HEAD"):
            await send(message)

    def encode(self, default_fields: bytes = b"", *, with_body: bool = True) -> bytes:
        """Return the bytes that send it as the last answer on a connection.

        Args:
            default_fields: The fields that every response has, as `encode_fields` writes them.
            with_body: Whether its body is sent, too; not where HEAD was asked.
        """
        lines = encode_fields([*self.head, (b"connection", b"close")])
        return b"".join((STATUS_LINES[self.status], default_fields, lines, b"\r\n", self.body if with_body else b""))


def text_answer(status: int, *fields: Field) -> Answer:
    """Build the answer that says in plain text what its status means."""
    text = TEXTS.get(status) or phrase_of(status)
    return Answer(status, text.encode(), ((b"content-type", b"text/plain; charset=utf-8"), *fields))


async def unavailable(scope: Any, receive: Any, send: Any) -> None:
    """Answer 503 in an application's place: there are too many requests at a time."""
    await text_answer(503, (b"connection", b"close")).send(scope, send)


def encode_fields(fields: Iterable[Field]) -> bytes:
    """Write header fields of ours as they go out; they must be in order."""
    return b"".join(b"%s: %s\r\n" % field for field in fields)


def encode_checked(fields: Iterable[Any]) -> bytes:
    """Write header fields that an application gives as they go out; see `check_fields`."""
    return b"".join(line for line, _ in check_fields(fields))


def check_fields(fields: Iterable[Any]) -> list[tuple[bytes, int | None]]:
    """Check the header fields that an application gives: pairs of a name and a value, as tuples or lists.

    Returns:
        For each what goes out, and what it says of the response: a length, `CHUNKED`, `CLOSE` or nothing (None).

    Raises:
        RuntimeError: A name or a value has characters in it that could end its line or begin another field.
    """
    if not isinstance(fields, list):
        fields = list(fields)
    try:
        return list(map(_known_field, fields))
    except TypeError:  # lists, or values that cannot be looked up
        return [check_field(field) for field in fields]


def check_field(field: Any) -> tuple[bytes, int | None]:
    """Check one field; see `check_fields`."""
    given, value = map(bytes, field)
    if BAD_NAME.search(given):
        raise RuntimeError("Invalid HTTP header name.")
    if BAD_VALUE.search(value):
        raise RuntimeError("Invalid HTTP header value.")
    name = given.lower()
    says: int | None = None
    if name == b"content-length":
        says = int(value)
        if says < 0:
            raise RuntimeError("Invalid HTTP header value.")
    elif name == b"transfer-encoding" and value.lower() == b"chunked":
        says = CHUNKED
    elif name == b"connection" and b"close" in [token.strip() for token in value.lower().split(b",")]:
        says = CLOSE
    return b"%b: %b\r\n" % (name, value), says


class _KnownFields(dict[Any, tuple[bytes, int | None]]):
    """What `check_field` has returned, by field; checked when first looked up."""

    def __missing__(self, field: Any) -> tuple[bytes, int | None]:
        line, says = check_field(field)
        if len(self) < MAX_KNOWN_FIELDS and len(line) <= MAX_KNOWN_FIELD:
            self[tuple(map(bytes, field))] = line, says
        return line, says


_known_field = _KnownFields().__getitem__


_warned_of: set[str] = set()


def warn_once(message: str) -> None:
    """Log a warning, once in a process."""
    if message not in _warned_of:
        _warned_of.add(message)
        logger.warning(message)
