"""duallisten's own metrics: what the scoreboard tells of a launch, as families of `prometheus_client`.

Whichever process is scraped tells of all of them, for all share the board. What is decided here:

- The duration histogram has the side as its only label. A method and a status would make it a hundred times as large,
  and its sum is known for each side alone; `duallisten_http_requests_total` has both.
- Every series is there from the start, at 0: a counter that appears at 1 has not increased, as far as Prometheus knows.
- Nothing has a process id for a label: there would be series for each process that ever was.

What it must never do: give a counter that goes back, for that is taken for a restart.
"""

from __future__ import annotations

import platform
from collections.abc import Iterator
from importlib.metadata import version
from itertools import accumulate
from typing import NamedTuple

import uvicorn
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.utils import floatToGoString

from duallisten.admin.health import STATES
from duallisten.observability import BOUNDS, BUCKETS, METHODS, SIDES, STATUSES, Cell, Phase, SideView, View
from duallisten.sides import Side

OURS = "duallisten_"
"""What the names of our metrics begin with."""


class Told(NamedTuple):
    """A number of each side.

    name: without `OURS`, and without the `_total` that a counter's name ends with
    """

    name: str
    documentation: str
    cell: Cell


COUNTERS = (
    Told("sent_bytes", "Bytes that were sent, counted when their connection ends.", Cell.SENT),
    Told("connections_accepted", "Connections that were let in.", Cell.ACCEPTED),
    Told("bad_requests", "What was no request: answered with 400 or 431, and counted nowhere else.", Cell.BAD),
    Told(
        "busy_requests",
        "Requests above --limit-concurrency: answered with 503, and counted nowhere else.",
        Cell.BUSY,
    ),
)

GAUGES = (
    Told("http_requests_in_flight", "Requests in hand, as of the last second.", Cell.IN_FLIGHT),
    Told("connections_open", "Open connections, as of the last second.", Cell.OPEN),
    Told("websockets_open", "Open WebSockets.", Cell.WEBSOCKETS),
)

REFUSALS: dict[Side, tuple[tuple[str, Cell], ...]] = {
    "public": (("side door", Cell.REFUSED_SIDE_DOOR), ("limit", Cell.REFUSED_LIMIT)),
    "private": (("peer", Cell.REFUSED_PEER), ("limit", Cell.REFUSED_LIMIT)),
}
"""Why connections to a side may be refused."""


def families(view: View) -> Iterator[Metric]:
    """Return our metrics, as of one reading of the scoreboard."""
    sides = {side: view.sides[side] for side in SIDES}
    yield _requests(sides)
    yield _durations(sides)
    for name, documentation, cell in COUNTERS:
        counter = CounterMetricFamily(OURS + name, documentation, labels=["side"])
        for side, numbers in sides.items():
            counter.add_metric([side], numbers.cells[cell])
        yield counter
    for name, documentation, cell in GAUGES:
        gauge = GaugeMetricFamily(OURS + name, documentation, labels=["side"])
        for side, numbers in sides.items():
            gauge.add_metric([side], numbers.cells[cell])
        yield gauge
    yield from _public_side(sides["public"])
    yield _refusals(sides)
    yield from _launch(view)


def _requests(sides: dict[Side, SideView]) -> Metric:
    counter = CounterMetricFamily(
        OURS + "http_requests",
        "HTTP requests and WebSocket handshakes that have been answered or aborted.",
        labels=["side", "method", "status"],
    )
    for side, numbers in sides.items():
        begin = 0
        for method in METHODS:
            for status in STATUSES:
                counter.add_metric([side, method, status], sum(numbers.requests[begin : begin + BUCKETS]))
                begin += BUCKETS
    return counter


def _durations(sides: dict[Side, SideView]) -> Metric:
    """Return the histogram: on the board each bucket has what is in it, here it has all that is below, too."""
    histogram = HistogramMetricFamily(
        OURS + "http_request_duration_seconds",
        "From the call of the application to the end of its answer; HTTP requests, the aborted ones included.",
        labels=["side"],
        unit="seconds",
    )
    handshakes = METHODS.index("websocket") * len(STATUSES) * BUCKETS
    names = [*map(floatToGoString, BOUNDS), "+Inf"]
    for side, numbers in sides.items():
        each = (sum(numbers.requests[bucket:handshakes:BUCKETS]) for bucket in range(BUCKETS))
        buckets = list(zip(names, map(float, accumulate(each)), strict=True))
        histogram.add_metric([side], buckets, numbers.cells[Cell.SECONDS] / 1e9)
    return histogram


def _public_side(numbers: SideView) -> Iterator[Metric]:
    yield CounterMetricFamily(
        OURS + "hidden_requests",
        "Requests of the public side that path rules hid; their answers are among its requests.",
        numbers.cells[Cell.HIDDEN],
    )
    yield CounterMetricFamily(
        OURS + "side_door_connections",
        "Connections that were let in to the public side on a private address.",
        numbers.cells[Cell.SIDE_DOOR],
    )


def _refusals(sides: dict[Side, SideView]) -> Metric:
    counter = CounterMetricFamily(
        OURS + "connections_refused", "Connections that were closed unread.", labels=["side", "reason"]
    )
    for side, numbers in sides.items():
        for reason, cell in REFUSALS[side]:
            counter.add_metric([side, reason], numbers.cells[cell])
    return counter


def _launch(view: View) -> Iterator[Metric]:
    workers = GaugeMetricFamily(OURS + "workers", "Processes that serve, by how they stand.", labels=["state"])
    for state, name in STATES.items():
        workers.add_metric([name], sum(process.state is state for process in view.processes))
    yield workers
    yield CounterMetricFamily(OURS + "worker_restarts", "Workers that have died and were replaced.", view.restarts)
    yield GaugeMetricFamily(
        OURS + "heartbeat_age_seconds",
        "Of the workers that are ready, the longest time since an event loop has turned.",
        max((process.heartbeat_age for process in view.processes if process.state is Phase.READY), default=0.0),
        unit="seconds",
    )
    yield GaugeMetricFamily(
        OURS + "start_time_seconds", "When the launch began, since 1970.", view.epoch, unit="seconds"
    )
    versions = {
        "version": version("duallisten"),
        "uvicorn": uvicorn.__version__,
        "python": platform.python_version(),
    }
    yield InfoMetricFamily(OURS + "build", "What the launch runs on.", versions)
