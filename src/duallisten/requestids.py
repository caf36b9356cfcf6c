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
from typing import NamedTuple

ID = re.compile(rb"[!#-\[\]-~]{1,128}")
"""What an id may consist of: visible characters of ASCII that a line of JSON has as they are, and not too many."""

_LAST_DIGITS = tuple(f"{number:02d}" for number in range(100))  # few, so that they are at hand


class Naming(NamedTuple):
    """How requests get their ids.

    header: the name of the request header that holds the id that a peer has given it, in lower case
    make: makes an id
    """

    header: bytes
    make: Callable[[], str]


def naming(header: str) -> Naming:
    """Make what gives requests their ids.

    header: the request header that holds the id that a peer has given it
    """
    return Naming(header.lower().encode(), _ids().__next__)


def claimed(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    """Find the id that a peer has given a request; None where there is none that can be kept.

    name: of the header that holds it, in lower case
    """
    for key, value in headers:
        if key == name and ID.fullmatch(value):
            return value.decode()
    return None


def _ids() -> Iterator[str]:
    """Make ids without end: two texts joined, which is half as dear as a number formatted."""
    prefix = os.urandom(8).hex()
    for hundreds in count():
        begin = f"{prefix}-{hundreds}"
        for digits in _LAST_DIGITS:
            yield begin + digits
