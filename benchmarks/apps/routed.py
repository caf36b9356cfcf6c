"""What others do for two sides: one application behind two addresses, and a middleware that tells them apart.

A request under `/internal` that came in on the public port is answered with 404. The port is the socket's own, as the
server tells it in `scope["server"]`; nothing is done about other spellings of a path, so this is the least that such a
middleware can cost.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

from apps.hello import BODY
from apps.hello import app as hello

NOT_FOUND = {
    "type": "http.response.start",
    "status": 404,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"5")],
}

PUBLIC_PORT = int(os.environ.get("PUBLIC_PORT", "0"))


class SideMiddleware:
    """Hides a prefix from one port, as a pure ASGI middleware: the cheapest kind."""

    def __init__(self, app: Callable[..., Awaitable[None]], port: int, prefix: str) -> None:
        self.app = app
        self.port = port
        self.prefix = prefix

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Pass a request on, or answer that there is nothing."""
        if scope["type"] == "http" and scope["server"][1] == self.port and scope["path"].startswith(self.prefix):
            await send(NOT_FOUND)
            await send(BODY)
            return
        await self.app(scope, receive, send)


app = SideMiddleware(hello, PUBLIC_PORT, "/internal")
