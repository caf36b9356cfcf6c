"""The smallest ASGI application that answers: what a server costs shows best where the application costs nothing."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"text/plain"), (b"content-length", b"5")],
}
BODY = {"type": "http.response.body", "body": b"hello"}


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer every HTTP request with `hello`; the raise is how an ASGI application declines the lifespan protocol."""
    if scope["type"] != "http":
        raise RuntimeError("this application speaks HTTP only")
    await send(START)
    await send(BODY)
