"""The status page: a page for a person, what it shows as JSON, and events that keep it up to date.

The page (`status.html`) is static; its script shows the JSON. That is one document in two parts:

- `launch`: who is admitted where, and what each side gets of each route, as `--check` and `--routes` show them. It is
  read anew for each document, for an application may add routes.
- `figures`: what changes by the second (`admin.figures`).

A stream of events (server-sent events; HTML standard, 9.2) begins with the whole document and goes on with the figures
alone, once a second. A client that has lost its stream comes back by itself after `RETRY`, to whatever process is there
then, and gets the whole document again: after a deployment, the page shows what is served now. A page without events
for a few seconds asks for the document, which is answered also while the event loop is blocked; it knows that from
`figures`, which say which process answers and when its event loop last turned.

What it rests on: the engine's `send` waits while a client reads nothing, and its `Abort` closes the connection.

Invariants:
- The page asks for nothing from elsewhere and runs nothing that is not ours: its policy (Content-Security-Policy, level
  3) allows its own style sheet and script, by their hashes, and requests to this side.
- Nothing that the application or a client has said is taken for HTML: the script writes text only.
- Streams are no burden: the scoreboard is read once a second for all of them together, there are at most `MOST`, and a
  client that does not read what it is sent loses its stream.
- Streams do not keep a server from ending: `end` ends them all before connections are drained, and cuts off clients
  that do not read. A client that comes back meanwhile gets one event.
"""

from __future__ import annotations

import asyncio
import json
import os
import threading
import time
from base64 import b64encode
from collections import deque
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duallisten.admin.pages import Page, Request
from duallisten.config import Config
from duallisten.http import Abort
from duallisten.listeners import ListenerSet, places, whole
from duallisten.observability import Scoreboard
from duallisten.sides import Receive, Scope, Send

if TYPE_CHECKING:
    from duallisten.admin.figures import Sample
    from duallisten.endpoints.route_table import AppRoutes

INTERVAL = 1.0
"""Seconds between two events."""

WINDOW = 10.0
"""Seconds that rates and percentiles are of, as soon as somebody has looked for as long."""

MOST = 16
"""Streams that a process has at a time."""

RETRY = 2.0
"""Seconds after which a client comes back."""

PATIENCE = 10.0
"""Seconds that a client has to take an event."""

CLOSE_TIMEOUT = 0.5
"""Seconds that a client has to take the end of its stream."""

EVENT_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]

FULL = Page(503, "text/plain; charset=utf-8", b"Too many clients watch this page")


class StatusPage:
    """The status page of a process: two answers (`admin.pages`), and an ASGI application for its events."""

    def __init__(self, config: Config, board: Scoreboard, listeners: ListenerSet) -> None:
        self._config = config
        self._listeners = listeners
        self._watch = Watch(board, config.options.health_stall)
        self._open = 0
        self._ended = asyncio.Event()

    def page(self, request: Request) -> Page:
        """Return the page for a person."""
        return static_page()

    def document(self, request: Request) -> Page:
        """Return what the page shows."""
        body = json.dumps({"launch": self._launch(), "figures": self._watch.look()}).encode() + b"\n"
        return Page(200, "application/json", body)

    async def events(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a stream of events."""
        if self._open >= MOST:
            await FULL.send(scope, send)
            return
        self._open += 1
        try:
            await self._stream(scope, receive, send)
        finally:
            self._open -= 1

    def end(self) -> None:
        """End all streams; further ones end after one event."""
        self._ended.set()

    def _launch(self) -> dict[str, Any]:
        from dataclasses import asdict
        from importlib.metadata import version

        from duallisten.listeners.report import make_report

        plan, bound = self._listeners.plan, self._listeners.bound
        assert plan is not None and bound is not None  # noqa: S101  # it serves
        report = make_report(self._config, whole(plan))
        urls = places(self._config, plan, bound)
        return {
            "version": version("duallisten"),
            "application": report.application,
            "platform": report.platform,
            "process_type": report.process_type,
            "notes": report.notes,
            "listeners": [
                {**asdict(listener), "urls": [url for side, url in urls if side == listener.side]}
                for listener in report.listeners
            ],
            "applications": [_application(section) for section in self._config.sections()],
        }

    async def _stream(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": EVENT_HEADERS})
        if scope["method"] == "HEAD":
            await send({"type": "http.response.body", "body": b""})
            return
        writing = asyncio.create_task(self._write(send))
        leaving = asyncio.create_task(_wait_for_disconnect(receive))
        ended = asyncio.create_task(self._ended.wait())
        try:
            await asyncio.wait({writing, leaving, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not leaving.done():
                async with asyncio.timeout(CLOSE_TIMEOUT):
                    await writing
                    await send({"type": "http.response.body", "body": b""})
        except TimeoutError:
            raise Abort from None
        finally:
            for task in (writing, leaving, ended):
                task.cancel()
            await asyncio.gather(writing, leaving, ended, return_exceptions=True)

    async def _write(self, send: Send) -> None:
        """Send events, a last one when all end; raises TimeoutError where the client takes none."""
        launch = {"launch": self._launch()}
        begin = f"retry: {RETRY * 1000:.0f}\n"
        while True:
            is_last = self._ended.is_set()
            event = f"{begin}data: {json.dumps({**launch, 'figures': self._watch.look(anew=is_last)})}\n\n"
            async with asyncio.timeout(PATIENCE):
                await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
            if is_last:
                return
            launch, begin = {}, ""
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._ended.wait()


class Watch:
    """Reads the scoreboard, not too often, and remembers as much of it as the next look needs.

    stall: seconds that an event loop may be stuck
    """

    def __init__(self, board: Scoreboard, stall: float) -> None:
        self._board = board
        self._stall = stall
        self._lock = threading.Lock()  # any thread may ask (`admin.pages`)
        self._samples: deque[Sample] = deque()
        self._latest: dict[str, Any] = {}

    def look(self, *, anew: bool = False) -> dict[str, Any]:
        """Return the figures as of less than a second ago, or as of now."""
        from duallisten.admin.figures import make_figures, read

        with self._lock:
            samples = self._samples
            if anew or not samples or time.monotonic() - samples[-1].now >= INTERVAL / 2:
                view = self._board.read()
                while samples and view.now - samples[0].now > WINDOW + INTERVAL / 2:
                    samples.popleft()
                now = read(view)
                figures = make_figures(view, now, samples[0] if samples else None, self._stall)
                self._latest = {"process": os.getpid(), **figures}
                samples.append(now)
            return self._latest


@cache
def static_page() -> Page:
    """Return the page, with its policy."""
    html = Path(__file__).with_name("status.html").read_text(encoding="utf-8")
    style, script = (_hash(html, element) for element in ("style", "script"))
    policy = (
        f"default-src 'none'; style-src '{style}'; script-src '{script}'; connect-src 'self'; img-src data:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    headers = (
        (b"content-security-policy", policy.encode()),
        (b"x-content-type-options", b"nosniff"),
        (b"referrer-policy", b"no-referrer"),
    )
    return Page(200, "text/html; charset=utf-8", html.encode(), headers)


def _application(section: AppRoutes) -> dict[str, Any]:
    """Return what each side gets of an application's routes, in the words of `--routes`; None where unknown."""
    from duallisten.endpoints.route_table import COLUMNS, cells

    routes, rules = section.routes, section.rules
    is_told = "public" in section.sides and (rules.hide_something or routes is None)
    return {
        "name": section.application,
        "sides": section.sides,
        "rules": str(rules) if is_told else None,
        "routes": None if routes is None else [dict(zip(COLUMNS, cells(route), strict=True)) for route in routes],
    }


def _hash(html: str, element: str) -> str:
    """Return the hash of an element's content, as a policy names it."""
    content = html.partition(f"<{element}>")[2].partition(f"</{element}>")[0]
    return f"sha256-{b64encode(sha256(content.encode()).digest()).decode()}"


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
