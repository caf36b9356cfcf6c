"""The id of a request: the one that a trusted peer sends, otherwise a new one.

The id appears in the logs of every service that the request passes through, so the id of a router or of another service
is kept. A request from an untrusted peer always gets a new id. On the private side all peers are trusted; on the public
side, peers whose forwarded headers are trusted and that do not pass on ids of clients (`config.trust`). A request also
gets a new id if its own is too long, or contains characters that are invisible or escaped in JSON, where a search in
the logs would miss it.

A new id is a random prefix, one for each side of each process, and a counter: unique, cheap, and not a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import count

from duallisten.http import Channel, Exchange, Observer

ID = re.compile(rb"[!#-\[\]-~]{1,128}")
"""A valid id: up to 128 visible ASCII characters that JSON does not escape."""

_LAST_DIGITS = tuple(f"{number:02d}" for number in range(100))  # few, so that they stay in the CPU's cache


class RequestIds(Observer):
    """Sets the id of each request of a side: in `exchange.request_id`, and for the application in its scope.

    Args:
        header: The name of the request header that holds the peer's id.
        trusts: Whether the ids of a connection's peer are kept.
    """

    def __init__(self, header: str, trusts: Callable[[Channel], bool]) -> None:
        self._header = header.lower().encode()
        self._trusts = trusts
        self._make = make_ids().__next__

    def exchange_began(self, exchange: Exchange) -> None:
        """Set the id of a request; `endpoints.endpoint_set` adds the side to this part of the scope."""
        if exchange.is_own:
            return
        scope = exchange.scope
        kept = claimed(scope["headers"], self._header) if self._trusts(exchange.connection) else None
        exchange.request_id = identity = kept or self._make()
        scope["extensions"]["duallisten"] = {"request_id": identity}


def claimed(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """Return the id that a peer has sent with a request; None if there is no valid one.

    name: the name of the header, in lower case
    """
    for key, value in headers:
        if key == name and ID.fullmatch(value):
            return value.decode()
    return None


def make_ids() -> Iterator[str]:
    """Yield ids without end. Joining two texts takes half as long as formatting a number."""
    prefix = os.urandom(8).hex()
    for hundreds in count():
        begin = f"{prefix}-{hundreds}"
        for digits in _LAST_DIGITS:
            yield begin + digits
