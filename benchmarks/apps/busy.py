"""An application that does its work on the event loop, as too many do: `/busy` takes 2 ms of CPU, `/block` 5 s.

Every other path is answered at once, with `hello`.
"""

from __future__ import annotations

import time
from typing import Any

from apps.hello import app as hello

BUSY_SECONDS, BLOCK_SECONDS = 0.002, 5.0


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Do the path's work, and answer."""
    path = scope.get("path")
    if path == "/busy":
        done = time.thread_time() + BUSY_SECONDS
        while time.thread_time() < done:
            pass
    elif path == "/block":
        time.sleep(BLOCK_SECONDS)  # that is the point
    await hello(scope, receive, send)
