"""The demonstration, held up by files in the folder that it runs in; it leaves files there that say how far it is.

- It does not start while there is `gate`, and blocks its event loop in its start while there is `blocking`.
  `starting-PID`, `shutdown-PID` and `ended-PID` say where the lifespan of a process is.
- `/block` blocks the event loop and `/wait` only waits, until there is `released`; `blocked` and `waiting` say so.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

from duallisten.demo import app as demo
from duallisten.sides import Receive, Scope, Send

SHOP = "from tests.support.gated import app\n"
"""A module of a test's own that has this application."""


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve the demonstration, as far as the files let it."""
    if scope["type"] == "lifespan":
        await _live(receive, send)
        return
    if scope["path"] == "/block":
        Path("blocked").touch()
        while not Path("released").exists():
            time.sleep(0.01)
    elif scope["path"] == "/wait":
        Path("waiting").touch()
        while not Path("released").exists():
            await asyncio.sleep(0.01)
    await demo({**scope, "path": "/"}, receive, send)


async def _live(receive: Receive, send: Send) -> None:
    Path(f"starting-{os.getpid()}").touch()
    await receive()
    try:
        while Path("blocking").exists():
            time.sleep(0.01)
        while Path("gate").exists():
            await asyncio.sleep(0.01)
        await send({"type": "lifespan.startup.complete"})
        await receive()
        Path(f"shutdown-{os.getpid()}").touch()
        await send({"type": "lifespan.shutdown.complete"})
    finally:
        Path(f"ended-{os.getpid()}").touch()
