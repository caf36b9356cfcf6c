"""An application to deploy: the demonstration, which also tells the scheme, and requests that take their time."""

from __future__ import annotations

import asyncio
import json

from duallisten.demo import app as demo
from duallisten.sides import Receive, Scope, Send, side

SECONDS = {"/slow": 1.0, "/stuck": 3600.0}
"""How long requests take."""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the side, the client and the scheme; print the path of a request that takes its time."""
    if scope["type"] != "http":
        await demo(scope, receive, send)
        return
    if seconds := SECONDS.get(scope["path"]):
        print(f"In hand: {scope['path']}", flush=True)
        await asyncio.sleep(seconds)
    host, port = scope["client"]
    you = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    body = json.dumps({"side": side(scope), "you": you, "scheme": scope["scheme"]}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
