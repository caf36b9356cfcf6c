"""The id of a request: the one that a trusted peer has given it, else one that is made here.

It goes through the logs of every service that a request passes, so a router's or a neighbour's id is kept. Whoever may
not be believed (the same that `forwarded` asks about forwarded headers) gets an id of ours, whatever it sends; so does
a request whose id is too long, or has characters in it that a log should not have: what cannot be seen, or is written
otherwise in JSON, where nobody would find it again.

An id of ours is the start of a random number, one for each process, and the count of its requests: unique, cheap, and
not a secret.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import count

from duallisten.http import Channel, Exchange, Observer

ID = re.compile(rb"[!#-\[\]-~]{1,128}")
"""What an id may consist of: visible characters of ASCII that a line of JSON has as they are, and not too many."""

_LAST_DIGITS = tuple(f"{number:02d}" for number in range(100))  # few, so that they are at hand


class RequestIds(Observer):
    """Gives each request of a side its id: in `exchange.request_id`, and for the application in its scope.

    Args:
        header: The name of the request header that holds the id that a peer has given it.
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
    """Find the id that a peer has given a request; None where there is none that can be kept.

    name: of the header that holds it, in lower case
    """
    for key, value in headers:
        if key == name and ID.fullmatch(value):
            return value.decode()
    return None


def make_ids() -> Iterator[str]:
    """Yield ids without end: two texts joined, which takes half as long as to format a number."""
    prefix = os.urandom(8).hex()
    for hundreds in count():
        begin = f"{prefix}-{hundreds}"
        for digits in _LAST_DIGITS:
            yield begin + digits
