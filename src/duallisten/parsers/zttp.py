"""What zttp leaves to do, uvicorn's parser for `--http zttp` and `--http2`: a lower limit on heads, and one refusal.

zttp refuses nearly all that has two readings, and no head that it gives out has more than `BUILT_IN` bytes, a line of
it more than 16 KiB (with HTTP/1.1, more than a hundred fields): nothing can raise that, and it needs no help. What is
left:

- A lower limit. uvicorn chooses between HTTP/1.1 and HTTP/2 after a connection has been handed over, so it is not kept
  by the protocol but in front of the application, which gets no request whose head is larger. The connection lives
  on, for the head was whole, and other streams of HTTP/2 may be in hand on it.
- Chunks in HTTP/1.0. zttp reads them and goes on with the next request, where others may read no body, or one up to
  the end of the connection (RFC 9112, 6.1). It is answered 400, and its connection closed.

What it must never do: cost anything with another parser. Not mended here: with zttp 0.0.35 and uvicorn 0.54 CONNECT
and a target that is not ASCII, which are refused, leave a traceback in the log.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable

from duallisten.endpoints import Application, Receive, Scope, Send, refusal
from duallisten.parsers.refusal import MESSAGES, bad_request

logger = logging.getLogger("uvicorn.error")

BUILT_IN = 1 << 16
"""Bytes of the largest head that zttp takes (0.0.35): HTTP/1.1's as it was sent, HTTP/2's as its settings announce."""


def in_order(app: Application, head_bytes: int) -> Application:
    """Make the application that is `app` for requests that are in order, and answers all others.

    head_bytes: how large the head of a request may be
    """
    refuse = refusal(431)
    is_limited = head_bytes < BUILT_IN

    def ask(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if is_limited and head_size(scope) > head_bytes:
            logger.warning(MESSAGES[431])
            return refuse(scope, receive, send)
        if scope["http_version"] == "1.0" and any(name == b"transfer-encoding" for name, _ in scope["headers"]):
            logger.warning(MESSAGES[400])
            return bad_request(scope, receive, send)
        return app(scope, receive, send)

    return ask


def head_size(scope: Scope) -> int:
    """Tell how many bytes a head has as HTTP/1.1, without optional white space (RFC 9112, 2.1); HTTP/2 packs it."""
    path = len(scope["raw_path"]) - len(scope["root_path"])
    query = len(scope["query_string"])
    first = len(scope.get("method", "GET")) + path + (query and query + 1) + len("  HTTP/1.1\r\n")
    return first + sum(len(name) + len(value) + len(": \r\n") for name, value in scope["headers"]) + len("\r\n")
