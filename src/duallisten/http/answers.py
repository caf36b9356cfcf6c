"""The first lines of a response (status line, header fields), and the engine's own answers.

Applications send the same few fields again and again, so the encoded form of a checked field is cached.

An `Answer` is a response of the engine: instead of the application's, or before an application is called. It does not
tell the client the reason. The reason goes to the log and to the observers.

Facts it rests on: the characters of a field's name and value (RFC 9110, 5.5 and 5.6.2).

Invariants:
    - No header field of the application can end its line, or begin another field.
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
"""The body of an answer by status, where it is not the status's reason phrase."""

BODYLESS = frozenset((204, 304))
"""Statuses whose responses have no body, in addition to those below 200."""

BAD_NAME = re.compile(rb'[\x00-\x20\x7f()<>@,;:\\\[\]={}"/?]|[^\x00-\x7f]|^$')
"""Finds what a header field's name must not contain."""

BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""Finds what a header field's value must not contain."""

CHUNKED, CLOSE = -1, -2
"""The meaning of a field that announces no length: the response is chunked; the connection closes after it."""

MAX_KNOWN_FIELDS = 2048
MAX_KNOWN_FIELD = 256
"""The number of cached fields, and the size of the largest in bytes."""


def phrase_of(status: int) -> str:
    """Return the reason phrase of a status; empty for one that is not registered."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


STATUS_LINES = {status: f"HTTP/1.1 {status} {phrase_of(status)}\r\n".encode() for status in range(100, 600)}
"""The status line of a response, by status."""


class Answer(NamedTuple):
    """A whole response of the engine.

    Attributes:
        status: The status.
        body: The body.
        fields: The header fields, names in lower case, without Content-Length, which is added.
    """

    status: int
    body: bytes = b""
    fields: tuple[Field, ...] = ()

    @property
    def head(self) -> list[Field]:
        """All header fields, with Content-Length."""
        return [*self.fields, (b"content-length", b"%d" % len(self.body))]

    def messages(self, prefix: str = "http.response", *, with_body: bool = True) -> tuple[dict[str, Any], ...]:
        """Return the ASGI messages that send this answer.

        Args:
            prefix: The first part of their types; `websocket.http.response` denies a handshake.
            with_body: Whether to send the body, too; False for a HEAD request.
        """
        start = {"type": f"{prefix}.start", "status": self.status, "headers": self.head}
        return start, {"type": f"{prefix}.body", "body": self.body if with_body else b""}

    async def send(self, scope: Any, send: Any) -> None:
        """Answer an HTTP request with this answer."""
        for message in self.messages(with_body=scope["method"] != "HEAD"):
            await send(message)

    def encode(self, default_fields: bytes = b"", *, with_body: bool = True) -> bytes:
        """Return the bytes of this answer, with `Connection: close`.

        Args:
            default_fields: The fields of every response, as returned by `encode_fields`.
            with_body: Whether to send the body, too; False for a HEAD request.
        """
        lines = encode_fields([*self.head, (b"connection", b"close")])
        return b"".join((STATUS_LINES[self.status], default_fields, lines, b"\r\n", self.body if with_body else b""))


def text_answer(status: int, *fields: Field) -> Answer:
    """Build an answer with a short plain text about its status."""
    text = TEXTS.get(status) or phrase_of(status)
    return Answer(status, text.encode(), ((b"content-type", b"text/plain; charset=utf-8"), *fields))


async def unavailable(scope: Any, receive: Any, send: Any) -> None:
    """Answer 503, as an ASGI application: the concurrency limit is reached."""
    await text_answer(503, (b"connection", b"close")).send(scope, send)


def encode_fields(fields: Iterable[Field]) -> bytes:
    """Encode our own header fields; they are not checked."""
    return b"".join(b"%s: %s\r\n" % field for field in fields)


def encode_checked(fields: Iterable[Any]) -> bytes:
    """Check and encode an application's header fields; see `check_fields`."""
    return b"".join(line for line, _ in check_fields(fields))


def check_fields(fields: Iterable[Any]) -> list[tuple[bytes, int | None]]:
    """Check an application's header fields: pairs of a name and a value, as tuples or lists.

    Returns:
        For each field its encoded line, and its meaning for the response: a length, `CHUNKED`, `CLOSE`, or None.

    Raises:
        RuntimeError: A name or a value has characters that could end its line or begin another field.
    """
    if not isinstance(fields, list):
        fields = list(fields)
    try:
        return list(map(_known_field, fields))
    except TypeError:  # a list or another unhashable value
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
    """A cache of `check_field`'s results, by field."""

    def __missing__(self, field: Any) -> tuple[bytes, int | None]:
        line, says = check_field(field)
        if len(self) < MAX_KNOWN_FIELDS and len(line) <= MAX_KNOWN_FIELD:
            self[tuple(map(bytes, field))] = line, says
        return line, says


_known_field = _KnownFields().__getitem__


_warned_of: set[str] = set()


def warn_once(message: str) -> None:
    """Log a warning once per process."""
    if message not in _warned_of:
        _warned_of.add(message)
        logger.warning(message)
