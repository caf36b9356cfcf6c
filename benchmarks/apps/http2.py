"""What floods of `http2.py` are measured with: `engine.py`'s answers, and at `/lag` the longest turn of the event loop.

That is CPU time of its thread between two looks, two milliseconds and a turn apart: what others wait for at most,
whatever else the machine does. Each answer begins anew.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

from apps import engine


class Lag:
    """The longest turn, in seconds of CPU."""

    def __init__(self) -> None:
        self.longest = 0.0
        self.task: asyncio.Task[None] | None = None

    async def watch(self) -> None:
        """Note how long the turns take, for ever."""
        last = time.thread_time()
        while True:
            await asyncio.sleep(0.002)
            now = time.thread_time()
            self.longest = max(self.longest, now - last)
            last = now

    async def answer(self, send: Any) -> None:
        """Answer with the longest in milliseconds, and begin anew."""
        if self.task is None:
            self.task = asyncio.ensure_future(self.watch())
        body = b"%.3f" % (self.longest * 1e3)
        self.longest = 0.0
        headers = [(b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


LAG = Lag()


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http" and scope["path"] == "/lag":
        await LAG.answer(send)
    else:
        await engine.app(scope, receive, send)
