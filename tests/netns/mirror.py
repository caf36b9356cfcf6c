"""An application that tells a peer what the forwarded headers have made of it."""

from __future__ import annotations

import json

from duallisten import side
from duallisten.sides import Receive, Scope, Send


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the side, the scheme and the peer's address."""
    assert scope["type"] == "http"  # a lifespan is optional, and this is how to say so
    host, port = scope["client"]
    body = json.dumps({"side": side(scope), "scheme": scope["scheme"], "you": f"{host}:{port}"}).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
