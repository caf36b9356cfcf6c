"""A tiny application to try duallisten with: `duallisten duallisten.demo:app`.

`/` returns the side of the request, and the two addresses of its connection.
"""

from __future__ import annotations

import json
import os

from duallisten.sides import Receive, Scope, Send, side


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer `/` with the side, the two addresses of the connection, and the process."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    if scope["type"] != "http":
        await send({"type": "websocket.close"})
        return
    found = scope["path"] == "/"
    answer = {
        "side": side(scope),
        "you": _address(scope.get("client")),
        "me": _address(scope.get("server")),
        "process": os.getpid(),
    }
    body = json.dumps(answer if found else {"error": "not found; look at /"}).encode() + b"\n"
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200 if found else 404, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _live(receive: Receive, send: Send) -> None:
    while (await receive())["type"] == "lifespan.startup":
        await send({"type": "lifespan.startup.complete"})
    await send({"type": "lifespan.shutdown.complete"})


def _address(address: tuple[str, int | None] | None) -> str | None:
    if address is None:
        return None
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}" if port is not None else host
