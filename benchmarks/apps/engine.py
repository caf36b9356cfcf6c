"""What `engine.py` serves: a WebSocket echo, an upload that is thrown away, a download, and a short answer."""

from __future__ import annotations

from typing import Any

PIECE = bytes(1 << 20)
PIECES = 1024
"""Of a download: 1 GiB."""


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "websocket":
        await echo(receive, send)
    elif scope["type"] == "http":
        await answer(scope, receive, send)
    else:
        raise RuntimeError("this application has no lifespan")


async def echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "bytes": message.get("bytes"), "text": message.get("text")})


async def answer(scope: Any, receive: Any, send: Any) -> None:
    size = 0
    while True:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            break
    pieces = PIECES if scope["path"] == "/down" else 0
    body = b"%d" % size
    length = b"%d" % (pieces * len(PIECE) or len(body))
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    for number in range(pieces):
        await send({"type": "http.response.body", "body": PIECE, "more_body": number < pieces - 1})
    if not pieces:
        await send({"type": "http.response.body", "body": body})
