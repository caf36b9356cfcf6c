"""uvicorn's h11 protocol with a limit on whole heads, as strict as httptools about how a request is framed.

h11 is lenient where RFC 9112 lets it be, and uvicorn trusts it. What is refused here beyond that:

- a line of the head that ends in a bare LF, a bare CR, and folded headers (RFC 9112, 2.2 and 5.2: a proxy may have
  read the lines otherwise), and control characters;
- a length together with chunks (6.1: the connection must not live on; h11 keeps it);
- CONNECT, on whose answer uvicorn and h11 disagree, with a traceback;
- a head above the limit, also one that has come whole; h11 by itself looks at incomplete ones only.

An `h11.Connection` of ours looks at the bytes of each head, once when they come or when the request before it is done
with (`trailing_data` is h11's public name for what it has not read yet). It is given to uvicorn's protocol in the place
of its own.
"""

from __future__ import annotations

import logging
import re
import sys
from typing import Any, NamedTuple

import h11

from duallisten.limits import NO_LIMIT
from duallisten.parsers.refusal import MESSAGES, abandon, linger, refuse

logger = logging.getLogger("uvicorn.error")

LINE = rb"[\t\x20-\x7e\x80-\xff]++"
"""What a line of a head may consist of: no control character but the tab."""

CODING = b"\ntransfer-encoding:"

WHOLE = re.compile(rb"(?!CONNECT )(?:" + LINE + rb"\r\n(?![\t ]))++\r\n")
BEGUN = re.compile(rb"(?:" + LINE + rb"\r\n(?![\t ]))*+(?:" + LINE + rb")?\r?\Z")
"""A head in lines that end in CRLF, none of them folded; and the beginning of one."""


class Finding(NamedTuple):
    """What there is to say about the bytes of a head.

    status: how it is refused; 0 where it is in order so far
    end: where it ends; 0 where it has not
    """

    status: int
    end: int


def inspect_head(data: bytes, limit: int) -> Finding:
    """Look at all that has come from the first byte of a head on.

    limit: the largest head, in bytes
    """
    whole = WHOLE.match(data)
    if whole is None:
        if b"\r\n\r\n" in data:
            return Finding(400, 0)
        return Finding(431 if len(data) > limit else 0 if BEGUN.match(data) else 400, 0)
    end = whole.end()
    if end > limit:
        return Finding(431, end)
    lower = whole[0].lower()
    return Finding(400 if CODING in lower and b"\ncontent-length:" in lower else 0, end)


class StrictConnection(h11.Connection):
    """h11's, which reads no request whose head is not in order."""

    def __init__(self, head_bytes: int | None, incomplete_bytes: int | None) -> None:
        """Take the limits of a head and of what h11 may hold of one line or head, None for uvicorn's default."""
        most = incomplete_bytes or head_bytes
        super().__init__(h11.SERVER, **({"max_incomplete_event_size": most} if most else {}))
        self.head_limit = head_bytes or NO_LIMIT
        self.status = 0
        self._is_partial = False  # the beginning of the head came with an earlier read
        self._has_more = False  # than the head there was in what has come

    def receive_data(self, data: bytes) -> None:
        """Take what has come, as h11 does; a complaint is raised by `next_event`, where uvicorn awaits it."""
        super().receive_data(data)
        if self.their_state is not h11.IDLE:
            self._has_more = True
        elif data:
            self._inspect(self.trailing_data[0] if self._is_partial else data)

    def start_next_cycle(self) -> None:
        """Go on to the next request, as h11 does."""
        super().start_next_cycle()
        if self._has_more and (data := self.trailing_data[0]):
            self._inspect(data)

    def _inspect(self, data: bytes) -> None:
        whole = WHOLE.match(data)
        if whole is not None and (end := whole.end()) <= self.head_limit and CODING not in data.lower():
            self._is_partial, self._has_more = False, len(data) > end  # as nearly all are
            return
        self.status, end = inspect_head(data, self.head_limit)
        self._is_partial, self._has_more = not end, len(data) > end
        if self.status:
            self.next_event = self._complain  # type: ignore[method-assign]

    def _complain(self) -> Any:
        raise h11.RemoteProtocolError("not in order", error_status_hint=self.status)


class Guard:
    """What goes before uvicorn's `H11Protocol`."""

    head_bytes: int | None

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.conn = StrictConnection(self.head_bytes, self.config.h11_max_incomplete_event_size)

    def send_400_response(self: Any, msg: str) -> None:
        """Answer what h11 cannot read; it reads no further head while a request is in hand."""
        cycle = self.cycle
        if cycle is not None and not cycle.response_complete:
            abandon(self, cycle)
        elif self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            error = sys.exc_info()[1]  # uvicorn answers where it has caught it
            too_large = isinstance(error, h11.RemoteProtocolError) and error.error_status_hint == 431
            if too_large:
                logger.warning(MESSAGES[431])
            refuse(self, 431 if too_large else 400)
        else:  # the end of a body that nobody waits for
            linger(self)


def guarded_h11(base: Any, head_bytes: int | None) -> Any:
    """Make the guarded subclass of uvicorn's `H11Protocol`."""
    return type(base.__name__, (Guard, base), {"head_bytes": head_bytes})
