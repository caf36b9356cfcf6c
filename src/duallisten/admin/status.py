"""The status page: an HTML page, its content as JSON, and an event stream that keeps the page up to date.

The page (`status.html`) is static; its script shows the JSON. The JSON is one document with three parts:

- `launch`: the listeners and who is admitted to them, and which side reaches each route, as `--check` and `--routes`
  show them. It is read again for each document, because an application may add routes.
- `figures`: the figures that change by the second (`admin.figures`).
- `history`: the load of each side in the last minutes (`admin.history`).

A stream of server-sent events (HTML standard, 9.2) begins with the whole document, followed once a second by the
figures only. A client whose stream breaks reconnects after `RETRY`, to any process that is then there, and gets the
whole document again: after a deployment, the page shows the new launch. A page that gets no events for a few seconds
requests the document, which is answered even while the event loop is blocked. The page detects that from `figures`,
which contain the id of the answering process and when its event loop last turned.

This relies on two facts: the engine's `send` waits while the client does not read, and its `Abort` closes the
connection.

Invariants:
- The page loads nothing from other origins and runs only our script: its policy (Content-Security-Policy, level 3)
  allows its own style sheet and script, by their hashes, and requests to this side.
- Data from the application or a client is never treated as HTML: the script writes only text.
- Streams are cheap: the scoreboard is read once a second for all of them, there are at most `MOST`, and a client that
  does not read its events loses its stream.
- Streams do not delay a shutdown: `end` ends them all before connections are drained, and aborts those of clients that
  do not read. A client that reconnects meanwhile gets one event.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import re
import threading
import time
from base64 import b64encode
from collections import deque
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from duallisten.admin.pages import TEXT, Request, page
from duallisten.config import Config
from duallisten.http import Abort
from duallisten.listeners import BoundSocket, ListenerSet, Plan, served_listeners
from duallisten.observability import Scoreboard, resident_bytes
from duallisten.sides import Receive, Scope, Send, Side

if TYPE_CHECKING:
    from duallisten.admin.figures import Sample
    from duallisten.admin.history import History
    from duallisten.endpoints.routes import AppRoutes
    from duallisten.http.answers import Answer

INTERVAL = 1.0
"""Seconds between two events."""

WINDOW = 10.0
"""The period of rates and percentiles, in seconds, once the page has been watched for as long."""

MOST = 16
"""The most streams of a process at a time."""

RETRY = 2.0
"""Seconds after which a client reconnects."""

PATIENCE = 10.0
"""The most seconds that a client may take to receive an event."""

CLOSE_TIMEOUT = 0.5
"""The most seconds that a client may take to receive the end of its stream."""

EVENT_HEADERS = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # otherwise nginx buffers the events
]

WEIGHT = re.compile(r"0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?")

FULL = page(503, TEXT, b"Too many clients watch this page")


class StatusPage:
    """The status page of a process: two page functions (`admin.pages`), and an ASGI application for its events."""

    def __init__(self, config: Config, board: Scoreboard, listeners: ListenerSet) -> None:
        from duallisten.admin.history import History

        self._config = config
        self._listeners = listeners
        self.history = History(board)
        self._watch = Watch(board, self.history, config.options.health_stall)
        self._open = 0
        self._ended = asyncio.Event()

    def page(self, request: Request) -> Answer:
        """Return the HTML page, or the JSON document if the client prefers JSON (RFC 9110, 12.5.1)."""
        accept = request.header(b"accept")
        is_person = quality(accept, "text/html") >= quality(accept, "application/json")
        answer = static_page() if is_person else self.document(request)
        return answer._replace(fields=((b"vary", b"accept"), *answer.fields))

    def document(self, request: Request) -> Answer:
        """Return the JSON document that the page shows."""
        return page(200, "application/json", json.dumps(self._document()).encode() + b"\n")

    def _document(self) -> dict[str, Any]:
        figures, history = self._watch.look(), self._watch.look_back()
        return {"launch": self._launch(), "figures": figures, "history": history}

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
        """End all streams; later streams end after one event."""
        self._ended.set()

    def _launch(self) -> dict[str, Any]:
        plan, bound = self._listeners.plan, self._listeners.bound
        assert plan is not None and bound is not None  # noqa: S101  # it serves
        applications = [_application(section) for section in self._config.sections()]
        return {**describe_launch(self._config, plan, bound), "applications": applications}

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
        """Send events, and a last one after `end`; raises TimeoutError if the client does not read."""
        told = self._document()
        begin = f"retry: {RETRY * 1000:.0f}\n"
        while True:
            is_last = self._ended.is_set()
            event = f"{begin}data: {json.dumps({**told, 'figures': self._watch.look(anew=is_last)})}\n\n"
            async with asyncio.timeout(PATIENCE):
                await send({"type": "http.response.body", "body": event.encode(), "more_body": True})
            if is_last:
                return
            told, begin = {}, ""
            with suppress(TimeoutError):
                async with asyncio.timeout(INTERVAL):
                    await self._ended.wait()


class Watch:
    """Reads the scoreboard at a limited rate, and remembers the samples that the next reading is compared with.

    stall: seconds after which an event loop that does not turn counts as stuck
    """

    def __init__(self, board: Scoreboard, history: History, stall: float) -> None:
        self._board = board
        self._history = history
        self._stall = stall
        self._spent: dict[int, tuple[float, float]] = {}  # by process id: time of the reading, and CPU seconds so far
        self._lock = threading.Lock()  # any thread may call (`admin.pages`)
        self._samples: deque[Sample] = deque()
        self._latest: dict[str, Any] = {}

    def look(self, *, anew: bool = False) -> dict[str, Any]:
        """Return the figures; they are up to half an `INTERVAL` old, unless `anew`."""
        from duallisten.admin.figures import make_figures, read

        with self._lock:
            samples = self._samples
            if anew or not samples or time.monotonic() - samples[-1].now >= INTERVAL / 2:
                view = self._board.read()
                while samples and view.now - samples[0].now > WINDOW + INTERVAL / 2:
                    samples.popleft()
                if not samples:
                    samples.extend(self._recent(view.now))
                now = read(view)
                figures = make_figures(view, now, samples[0] if samples else None, self._stall)
                self._add_usage(figures["processes"], view.now)
                self._latest = {"process": os.getpid(), **figures}
                samples.append(now)
            return self._latest

    def look_back(self) -> dict[Side, list[dict[str, float | None]]]:
        """Return the points of the charts, up to the latest figures."""
        from duallisten.admin.figures import make_history
        from duallisten.admin.history import STEP

        with self._lock:
            return make_history(self._history.samples(), self._samples[-1], 3 * STEP)

    def _recent(self, now: float) -> list[Sample]:
        """Return samples from the history to compare with, at least one if there is any; for a first reading."""
        kept = [sample for sample in self._history.samples() if now - sample.now >= INTERVAL]
        return [sample for sample in kept if now - sample.now <= WINDOW] or kept[-1:]

    def _add_usage(self, processes: list[dict[str, Any]], now: float) -> None:
        """Add memory (bytes) and CPU (share of one CPU, since the last reading or the start of the process)."""
        before, self._spent = self._spent, {}
        for process in processes:
            pid, used = process["pid"], usage(process["pid"])
            process["memory"] = process["cpu"] = None
            if used is not None:
                process["memory"], spent, age = used
                since, spent_before = before.get(pid, (now - age, 0.0))
                process["cpu"] = round(max(0.0, spent - spent_before) / max(now - since, 0.1), 3)
                self._spent[pid] = now, spent


def describe_launch(config: Config, plan: Plan, bound: Iterable[BoundSocket]) -> dict[str, Any]:
    """Describe a launch without its application: versions, and each listener with its limits."""
    from dataclasses import asdict
    from importlib.metadata import version

    from duallisten.listeners.report import make_report

    report = make_report(config, plan.whole)
    served = list(served_listeners(config, plan, bound))
    root, metrics = config.side("private").root_path, config.options.private_metrics
    return {
        "version": version("duallisten"),
        "uvicorn": version("uvicorn"),
        "python": platform.python_version(),
        "metrics": None if metrics is None else root + metrics,
        "application": report.application,
        "platform": report.platform,
        "process_type": report.process_type,
        "fence": report.fence,
        "fence_reason": report.fence_reason,
        "notes": report.notes,
        "listeners": [
            {
                **asdict(listener),
                "urls": [url for one in served if one.side == listener.side for url in one.urls],
                "limits": _limits(config, listener.side),
            }
            for listener in report.listeners
        ],
    }


def usage(pid: int) -> tuple[int, float, float] | None:
    """Return the memory (resident, in bytes), the CPU time and the age (in seconds) of a process; None if unknown.

    The times are ticks in /proc/PID/stat: fields 14 and 15 for the CPU time, and 22 for the start, counted from boot
    (see proc(5)).
    """
    try:
        memory = resident_bytes(pid)
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()  # from field 3 on
    except OSError:
        return None
    user, system, started = (int(fields[number - 3]) / os.sysconf("SC_CLK_TCK") for number in (14, 15, 22))
    return memory, user + system, time.clock_gettime(time.CLOCK_BOOTTIME) - started


def quality(accept: str, media: str) -> float:
    """Return the weight of a media type in a client's Accept header, from 0 to 1 (RFC 9110, 12.5.1)."""
    ranges = ("*/*", f"{media.partition('/')[0]}/*", media)
    found = (-1, 0.0 if accept else 1.0)
    for item in accept.lower().split(","):
        name, *parameters = (part.strip() for part in item.split(";"))
        weight = next((part.removeprefix("q=") for part in parameters if part.startswith("q=")), "1")
        if name in ranges and WEIGHT.fullmatch(weight):
            found = max(found, (ranges.index(name), float(weight)))
    return found[1]


@cache
def static_page() -> Answer:
    """Return the HTML page, with its Content-Security-Policy."""
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
    return page(200, "text/html; charset=utf-8", html.encode(), *headers)


def _limits(config: Config, side: Side) -> dict[str, float | None]:
    """Return the limits of a side; None for no limit."""
    one = config.side(side)
    return {
        "connections": one.limit_connections,
        "connections_per_peer": one.limit_connections_per_peer,
        "concurrency": one.uvicorn["limit_concurrency"],
        **one.limits._asdict(),
    }


def _application(section: AppRoutes) -> dict[str, Any]:
    """Return an application's routes and which side reaches them, in the words of `--routes`; None if unknown."""
    from duallisten.endpoints.routes import COLUMNS, cells

    routes, rules = section.routes, section.rules
    is_told = "public" in section.sides and (rules.hide_something or routes is None)
    return {
        "name": section.application,
        "sides": section.sides,
        "rules": str(rules) if is_told else None,
        "routes": None
        if routes is None
        else [{**dict(zip(COLUMNS, cells(route), strict=True)), "decided": route.decided} for route in routes],
    }


def _hash(html: str, element: str) -> str:
    """Return the hash of an element's content, in the form of a Content-Security-Policy."""
    content = html.partition(f"<{element}>")[2].partition(f"</{element}>")[0]
    return f"sha256-{b64encode(sha256(content.encode()).digest()).decode()}"


async def _wait_for_disconnect(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
