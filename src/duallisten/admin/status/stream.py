"""The status page's events: how a launch stands, once a second, for as long as somebody looks (server-sent events).

A stream is a request without an end, and so must never be in the way of anything:

- of the process: the scoreboard is read once a second for all streams together, there are at most `MOST` of them, and a
  client that does not read what it is sent loses its stream;
- of a server that ends: `Streams.end` ends them all at once, before connections are drained. A client that reads
  nothing then is cut off, for its connection would wait for it. Who comes back meanwhile gets one event.

A client comes back by itself (`RETRY`), to whatever process is there then, and goes on, for the figures are those of
the launch. Where that shows another page than its own, after a deployment, it knows by the page's edition.

The facts it rests on: what an `EventSource` does is the HTML standard's, 9.2; the engine's `send` waits while a client
reads nothing, and its `Abort` closes the connection.
"""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from duallisten.admin.pages import Page, send_page
from duallisten.admin.status.figures import Sample, Status, make_status, read
from duallisten.admin.status.text import as_event
from duallisten.http import Abort
from duallisten.observability import Scoreboard
from duallisten.sides import Receive, Scope, Send

INTERVAL = 1.0
"""Seconds between two events."""

WINDOW = 10.0
"""Seconds that rates and latencies are of, as soon as somebody has looked for as long."""

MOST = 16
"""Streams that a process has at a time."""

RETRY = 2.0
"""Seconds after which a client comes back."""

PATIENCE = 10.0
"""Seconds that a client has to take an event."""

CLOSE_TIMEOUT = 0.5
"""Seconds that a client has to take the end of its stream."""

HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]

FULL = Page(503, "text/plain; charset=utf-8", b"Too many look at this page")


class Watch:
    """Looks at the scoreboard, not too often, and remembers as much of it as the next look needs.

    stall: seconds that an event loop may be stuck
    """

    def __init__(self, board: Scoreboard, stall: float) -> None:
        self._board = board
        self._stall = stall
        self._lock = threading.Lock()  # the page is given by any thread (`fallback_responder`)
        self._readings: deque[Sample] = deque()
        self._latest: Status | None = None

    def look(self, *, anew: bool = False) -> Status:
        """Tell how the launch stands, as of less than a second ago, or as of now."""
        with self._lock:
            if anew or self._latest is None or time.monotonic() - self._latest.view.now >= INTERVAL / 2:
                view = self._board.read()
                while self._readings and view.now - self._readings[0].now > WINDOW + INTERVAL / 2:
                    self._readings.popleft()
                self._latest = make_status(view, self._readings[0] if self._readings else None, self._stall)
                self._readings.append(read(view))
            return self._latest


class Streams:
    """The streams of a process: an ASGI application.

    edition: tells which page this process would show
    """

    def __init__(self, watch: Watch, edition: Callable[[], str]) -> None:
        self._watch = watch
        self._edition = edition
        self._open = 0
        self._ended = asyncio.Event()

    def end(self) -> None:
        """End them all, and begin none that lasts."""
        self._ended.set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request for events."""
        if self._open >= MOST:
            await send_page(FULL, scope, send)
        else:
            self._open += 1
            try:
                await self._stream(scope, receive, send)
            finally:
                self._open -= 1

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
        writing = asyncio.ensure_future(self._write(send) if scope["method"] == "GET" else asyncio.sleep(0))
        gone = asyncio.ensure_future(_left(receive))
        ended = asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({writing, gone, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not gone.done():
                await self._finish(writing, gone, send)
        finally:
            for task in (writing, gone, ended):
                task.cancel()
            await asyncio.gather(writing, gone, ended, return_exceptions=True)

    async def _write(self, send: Send) -> None:
        """Send events, a last one when told to end; raises TimeoutError where the client takes none."""
        first = f"retry: {RETRY * 1000:.0f}\nevent: edition\ndata: {self._edition()}\n\n"
        while True:
            is_last = self._ended.is_set()
            event = f"{first}data: {json.dumps(as_event(self._watch.look(anew=is_last)))}\n\n"
            async with asyncio.timeout(PATIENCE):
                await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
            if is_last:
                return
            first = ""
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._ended.wait()

    async def _finish(self, writing: asyncio.Future[Any], gone: asyncio.Future[Any], send: Send) -> None:
        """End the answer, or the connection where its client does not even take that."""
        try:
            async with asyncio.timeout(CLOSE_TIMEOUT):
                await writing
                await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            raise Abort from None


async def _left(receive: Receive) -> None:
    """Wait until the client has left."""
    while (await receive())["type"] != "http.disconnect":
        pass
