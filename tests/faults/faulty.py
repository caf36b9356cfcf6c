"""An application that breaks when it is asked to: by a path, or by a file in the current directory."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

from duallisten.demo import app as demo
from duallisten.sides import Receive, Scope, Send
from tests.support.gated import app as gated

CHUNK = bytes(1 << 16)
CHUNKS = 800
"""Of a big answer, which is 50 MiB long."""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the demonstration, unless something is to break."""
    if scope["type"] == "lifespan":
        await live(receive, send)
    elif scope["path"] == "/block":
        await gated(scope, receive, send)
    elif scope["path"].startswith("/cut"):
        await cut(scope, send)
    elif scope["path"] == "/slow":
        await be_slow(scope, receive, send)
    elif scope["path"] == "/big":
        await send_big(send)
    else:
        await demo(scope, receive, send)


async def live(receive: Receive, send: Send) -> None:
    """Start; fail in the shutdown where there is a file `bad-end`, crash a moment later where there is `crash`."""
    await receive()
    await send({"type": "lifespan.startup.complete"})
    if Path("crash").exists():
        asyncio.get_running_loop().call_later(0.05, os._exit, 9)
    await receive()
    if Path("bad-end").exists():
        raise RuntimeError("not so good an end")
    await send({"type": "lifespan.shutdown.complete"})


async def be_slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer when there is `released`; say with a file for each request, `slow-PORT`, that it has come."""
    Path(f"slow-{scope['client'][1]}").touch()
    while not Path("released").exists():
        await asyncio.sleep(0.01)
    await demo({**scope, "path": "/"}, receive, send)


async def cut(scope: Scope, send: Send) -> None:
    """Begin an answer, with `/length` of one that is told, send some of it with `/part`, and raise."""
    headers = [(b"content-length", b"1000")] if "/length" in scope["path"] else []
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    if "/part" in scope["path"]:
        await send({"type": "http.response.body", "body": b"a part", "more_body": True})
    raise RuntimeError("amid an answer")


async def send_big(send: Send) -> None:
    """Send the big answer, as fast as it is taken."""
    length = b"%d" % (len(CHUNK) * CHUNKS)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", length)]})
    for _ in range(CHUNKS):
        await send({"type": "http.response.body", "body": CHUNK, "more_body": True})
    await send({"type": "http.response.body", "body": b""})
