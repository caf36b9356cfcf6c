"""Metrics for Prometheus: duallisten's own, from the scoreboard of the launch, and the application's.

Every process reports on all processes, because they share the scoreboard. `prometheus_client` writes the text, in the
format that the scraper accepts. The application's metrics come from the default registry of `prometheus_client` or,
with several processes, from the files that these share (`admin.metrics_multiprocess`). Metrics of the application whose
names begin with `duallisten_` are left out, with one log line each: Prometheus rejects a whole scrape if two families
have the same name.

Design decisions:

- The side is the only label of the histogram of durations. Method and status would make it a hundred times as large,
  and its sum is known only per side. `duallisten_http_requests_total` has both labels.
- Every series exists from the start, at 0: for Prometheus, a counter that appears at 1 has not increased.
- No label is a process id: every process that ever ran would leave series behind.

Invariants:
- A counter never decreases, because Prometheus would take that for a restart.
- If a collector of the application fails, our metrics are still served.
- A scrape may be answered in any thread. It takes as long as the application's collectors, so the event loop never
  waits for a scrape (`admin.routes`).
"""

from __future__ import annotations

import logging
import platform
import time
from collections.abc import Iterator
from importlib.metadata import version
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

import uvicorn
from prometheus_client import REGISTRY
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.utils import floatToGoString

from duallisten.admin.health import STATES
from duallisten.admin.metrics_multiprocess import directory
from duallisten.admin.pages import Request, page
from duallisten.http.answers import Answer
from duallisten.logs import RateLimiter
from duallisten.observability import BOUNDS, BUCKETS, METHODS, SIDES, STATUSES, Cell, Phase, Scoreboard, SideView, View
from duallisten.sides import Side

logger = logging.getLogger("uvicorn.error")

OURS = "duallisten_"
"""The prefix of the names of our metrics."""

COUNTERS = (
    ("sent_bytes", "Bytes sent to clients; a connection's bytes are counted when it closes.", Cell.SENT),
    ("connections_accepted", "Connections accepted.", Cell.ACCEPTED),
    (
        "bad_requests",
        "Malformed requests, answered with 400, 408, 413, 431 or 501; no other metric counts them.",
        Cell.BAD,
    ),
    ("busy_requests", "Requests above --limit-concurrency, answered with 503; no other metric counts them.", Cell.BUSY),
)
"""Counters of each side: the name without `OURS` and `_total`, the help text, and the scoreboard cell."""

GAUGES = (
    ("http_requests_in_flight", "Requests in flight, updated once a second.", Cell.IN_FLIGHT),
    ("connections_open", "Open connections, updated once a second.", Cell.OPEN),
    ("websockets_open", "Open WebSockets.", Cell.WEBSOCKETS),
)
"""Gauges of each side, in the form of `COUNTERS`."""

REFUSALS: dict[Side, tuple[tuple[str, Cell], ...]] = {
    "public": (("side door", Cell.REFUSED_SIDE_DOOR), ("limit", Cell.REFUSED_LIMIT), ("proxy", Cell.REFUSED_PROXY)),
    "private": (("peer", Cell.REFUSED_PEER), ("limit", Cell.REFUSED_LIMIT), ("proxy", Cell.REFUSED_PROXY)),
}
"""The reasons for refusing connections to a side, and their scoreboard cells."""


class MetricsPage:
    """The metrics page of a process, a `PageFunction` (`admin.pages`)."""

    def __init__(self, board: Scoreboard) -> None:
        self._board = board
        self._left_out: set[str] = set()
        self._throttle = RateLimiter()

    def __call__(self, request: Request) -> Answer:
        """Answer a scrape."""
        try:
            encode, content_type = choose_encoder(request.header(b"accept"))
        except (TypeError, ValueError):  # prometheus_client cannot parse the requested version
            encode, content_type = choose_encoder("")
        ours = list(families(self._board.read()))
        collected: Any = SimpleNamespace(collect=lambda: [*ours, *self._applications()])  # `encode` uses only `collect`
        try:
            body = encode(collected)
        except Exception as error:  # a collector of the application may raise anything
            if self._throttle.lets_through(time.monotonic()):
                logger.error(
                    "The application's metrics are missing from the metrics page: a collector raised %r", error
                )
            collected.collect = lambda: ours
            body = encode(collected)
        return page(200, content_type, body)

    def _applications(self) -> Iterator[Metric]:
        shared = directory()
        registry: Any = REGISTRY
        if shared is not None:
            from prometheus_client.multiprocess import MultiProcessCollector

            registry = MultiProcessCollector(None, path=shared)  # type: ignore[no-untyped-call]
        for family in registry.collect():
            if not family.name.startswith(OURS):
                yield family
            elif family.name not in self._left_out:
                self._left_out.add(family.name)
                logger.warning(
                    "The application's metric %s is missing from the metrics page: %s is duallisten's prefix",
                    family.name,
                    OURS,
                )


def families(view: View) -> Iterator[Metric]:
    """Yield our metrics, from one reading of the scoreboard."""
    sides = {side: view.sides[side] for side in SIDES}
    yield _requests(sides)
    yield _durations(sides)
    for kind, numbers in ((CounterMetricFamily, COUNTERS), (GaugeMetricFamily, GAUGES)):
        for name, documentation, cell in numbers:
            family = kind(OURS + name, documentation, labels=["side"])
            for side, seen in sides.items():
                family.add_metric([side], seen.cells[cell])
            yield family
    refused = CounterMetricFamily(
        OURS + "connections_refused",
        "Connections refused: closed before a request was read.",
        labels=["side", "reason"],
    )
    for side, seen in sides.items():
        for reason, cell in REFUSALS[side]:
            refused.add_metric([side, reason], seen.cells[cell])
    yield refused
    yield CounterMetricFamily(
        OURS + "hidden_requests",
        "Public requests that path rules hid; also counted in duallisten_http_requests_total.",
        sides["public"].cells[Cell.HIDDEN],
    )
    yield CounterMetricFamily(
        OURS + "side_door_connections",
        "Connections to a private address that were served as public (--side-door).",
        sides["public"].cells[Cell.SIDE_DOOR],
    )
    yield from _launch(view)


def _requests(sides: dict[Side, SideView]) -> Metric:
    counter = CounterMetricFamily(
        OURS + "http_requests",
        "HTTP requests and WebSocket handshakes, answered or aborted.",
        labels=["side", "method", "status"],
    )
    for side, seen in sides.items():
        begin = 0
        for method in METHODS:
            for status in STATUSES:
                counter.add_metric([side, method, status], sum(seen.requests[begin : begin + BUCKETS]))
                begin += BUCKETS
    return counter


def _durations(sides: dict[Side, SideView]) -> Metric:
    """Return the histogram. Its buckets are cumulative, those of the scoreboard are not."""
    histogram = HistogramMetricFamily(
        OURS + "http_request_duration_seconds",
        "Time from the call of the application to the end of the response; HTTP requests only, aborted ones included.",
        labels=["side"],
        unit="seconds",
    )
    handshakes = METHODS.index("websocket") * len(STATUSES) * BUCKETS
    names = [*map(floatToGoString, BOUNDS), "+Inf"]
    for side, seen in sides.items():
        counts = (sum(seen.requests[bucket:handshakes:BUCKETS]) for bucket in range(BUCKETS))
        buckets = list(zip(names, map(float, accumulate(counts)), strict=True))
        histogram.add_metric([side], buckets, seen.cells[Cell.SECONDS] / 1e9)
    return histogram


def _launch(view: View) -> Iterator[Metric]:
    workers = GaugeMetricFamily(
        OURS + "workers", "Worker processes by state: starting, ready or draining.", labels=["state"]
    )
    for state, name in STATES.items():
        workers.add_metric([name], sum(process.state is state for process in view.processes))
    yield workers
    yield CounterMetricFamily(OURS + "worker_restarts", "Workers that died and were replaced.", view.restarts)
    yield GaugeMetricFamily(
        OURS + "heartbeat_age_seconds",
        "Longest time since the event loop of a ready worker last ran.",
        max((process.heartbeat_age for process in view.processes if process.state is Phase.READY), default=0.0),
        unit="seconds",
    )
    begun = "Start time of the launch in seconds since the Unix epoch."
    yield GaugeMetricFamily(OURS + "start_time_seconds", begun, view.epoch, unit="seconds")
    versions = {"version": version("duallisten"), "uvicorn": uvicorn.__version__, "python": platform.python_version()}
    yield InfoMetricFamily(OURS + "build", "Versions of duallisten, uvicorn and Python.", versions)
