"""The head of a response: which fields an application may send, and what they say of the response.

Applications send the same few fields again and again, so what was found in order once is remembered as it goes out.

Facts it rests on: what a field may consist of (RFC 9110, 5.5 and 5.6.2), which responses have no body (RFC 9112, 6.3).

Invariants:
    - Nothing that the application sends can end a line, or begin another field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

BAD_NAME = re.compile(rb'[\x00-\x20\x7f()<>@,;:\\\[\]={}"/?]|[^\x00-\x7f]|^$')
"""What no name of a header field has in it."""

BAD_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
"""What no value of a header field has in it."""

CHUNKED, CLOSE = -1, -2
"""What a field says of a response, beside a length: that it is chunked, that the connection ends with it."""

MAX_LINES = 2048
MAX_LINE = 256
"""How many of them are kept, and the bytes of the longest."""

BODYLESS = frozenset((204, 304))
"""Statuses of responses that have no body, beside those below 200 (RFC 9112, 6.3)."""


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
        return list(map(_known_line, fields))
    except TypeError:  # lists, or values that cannot be looked up
        return [_check(field) for field in fields]


def encode_checked(fields: Iterable[Any]) -> bytes:
    """Write header fields that an application gives as they go out; see `check_fields`."""
    return b"".join(line for line, _ in check_fields(fields))


def _check(field: Any) -> tuple[bytes, int | None]:
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


class _Lines(dict[Any, tuple[bytes, int | None]]):
    """Fields that were found in order before, each as it goes out and what it says; checked when first looked up."""

    def __missing__(self, field: Any) -> tuple[bytes, int | None]:
        line, says = _check(field)
        if len(self) < MAX_LINES and len(line) <= MAX_LINE:
            self[tuple(map(bytes, field))] = line, says
        return line, says


_known_line = _Lines().__getitem__
