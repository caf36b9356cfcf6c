"""What the peers of a listener may take up, as a value; what keeps to it is in `parsers`, `stalls` and `listening`."""

from __future__ import annotations

import sys
from typing import NamedTuple

NO_LIMIT = sys.maxsize
"""Stands for none where a number is compared with."""


class Limits(NamedTuple):
    """The limits of one listener in one process; None is none.

    head_seconds: how long the head of a request may take, and a TLS handshake
    head_bytes: how large it may be
    connections: how many may be open at a time
    """

    head_seconds: float | None = None
    head_bytes: int | None = None
    connections: int | None = None


NONE = Limits()
