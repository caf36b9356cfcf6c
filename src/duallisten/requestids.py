"""The id of a request: the one that a trusted peer has given it, else one that is made here.

It goes through the logs of every service that a request passes, so a router's or a neighbour's id is kept. Whoever may
not be believed (the same that `forwarded` asks about forwarded headers) gets an id of ours, whatever it sends; so does
a request whose id is too long, or has characters in it that a log should not have.

An id of ours is the start of a random number, one for each process, and the count of its requests: unique, cheap, and
not a secret.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Callable
from typing import Any

from duallisten.endpoints import REQUEST_ID

ID = re.compile(rb"[\x21-\x7e]{1,128}")
"""What an id may consist of: visible characters of ASCII, and not too many."""


def naming(header: str, trusts: Callable[[str | None], bool]) -> Callable[[Any, Any], None]:
    """Make what gives a request its id, in its scope and its record.

    header: the request header that holds the id that a peer has given it
    trusts: tells whether a peer, by the host part of its address, is believed
    """
    name = header.lower().encode()
    prefix, number = os.urandom(8).hex(), itertools.count(1).__next__

    def give(scope: Any, record: Any) -> None:
        if record.trusted is None:
            record.trusted = trusts(scope["client"][0] if scope.get("client") else None)
        if record.trusted:
            for key, value in scope["headers"]:
                if key == name and ID.fullmatch(value):
                    scope[REQUEST_ID] = record.request_id = value.decode()
                    return
        scope[REQUEST_ID] = record.request_id = f"{prefix}-{number()}"

    return give
