"""The figures of the status page: the state of the processes, and the load of each side. Pure.

They compare two readings of the scoreboard: the latest and an earlier one. Rates are the growth of counters, divided by
the time between the two. Without an earlier reading they are averages since the launch began, when all were zero.

The scoreboard keeps durations in buckets, so a percentile is an estimate: durations are assumed to be spread evenly
within a bucket. A duration above the last bound counts as that bound. WebSocket handshakes have no duration, and
aborted requests say more about the client than about the application, so percentiles leave both out.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

from duallisten.admin.health import STATES, describe, is_stuck, livez, readyz
from duallisten.observability import BOUNDS, BUCKETS, METHODS, STATUSES, Cell, Phase, SideView, View
from duallisten.sides import Side

COUNTED = {
    "in_flight": (Cell.IN_FLIGHT,),
    "open": (Cell.OPEN,),
    "websockets": (Cell.WEBSOCKETS,),
    "refused": (Cell.REFUSED_PEER, Cell.REFUSED_LIMIT, Cell.REFUSED_SIDE_DOOR, Cell.REFUSED_PROXY),
    "hidden": (Cell.HIDDEN,),
    "bad": (Cell.BAD,),
}
"""The figures of a side that are sums of scoreboard cells, and these cells."""


LATEST_EVENTS = 10
"""The most events of a launch that are shown."""


class Totals(NamedTuple):
    """The requests of one side up to some time, and the open connections then.

    statuses: number of requests by class of status, in the order of `STATUSES`
    durations: number of complete responses by bucket of duration
    hidden: number of requests hidden by path rules; `statuses` includes them
    open, in_flight: number of connections and of requests
    """

    statuses: tuple[int, ...] = (0,) * len(STATUSES)
    durations: tuple[int, ...] = (0,) * BUCKETS
    hidden: int = 0
    open: int = 0
    in_flight: int = 0


class Sample(NamedTuple):
    """The part of a reading that is kept to compare it with a later one.

    now: the time of the reading, in seconds of the monotonic clock
    """

    now: float
    sides: dict[Side, Totals]


def read(view: View) -> Sample:
    """Take a sample from a view."""
    return Sample(view.now, {side: _totals(view.sides[side]) for side in view.expected})


def make_figures(view: View, now: Sample, earlier: Sample | None, stall: float) -> dict[str, Any]:
    """Return the figures of a launch, as in the status page's JSON.

    `reasons` says why the launch should get no requests or needs a restart; empty if all is well. For each side:

    - `seconds`: the length of the period of rates, shares and percentiles
    - `rate`, `hidden_rate`: requests per second: all requests, and those hidden by path rules
    - `client_errors`, `server_errors`: shares of the requests, from 0 to 1; hidden requests are not errors
    - `median`, `p99`: of the durations, in seconds; None if no request was answered
    - `in_flight`, `open`, `websockets`: requests, connections and WebSockets, now
    - `requests`, `aborted`, `hidden`, `bad`: requests since the launch began: all, aborted, hidden by path rules,
      malformed; `refused`: connections closed unread, since then

    `events` are the latest events of the launch, each with its age in seconds.

    now: the sample of `view`
    earlier: an earlier sample; None to compare with the beginning of the launch
    stall: seconds after which an event loop that does not turn counts as stuck
    """
    earlier = earlier or Sample(view.now - view.age, {})
    seconds = max(now.now - earlier.now, 1e-3)
    reasons = dict.fromkeys((*readyz(view, stall).reasons, *livez(view, stall).reasons))
    return {
        "phase": view.phase.label,
        "reasons": [reason for reason in reasons if reason != view.phase.label],
        "age": view.age,
        "drained": view.is_drained,
        "restarts": view.restarts,
        "supervisor_age": view.supervisor_age,
        "events": _events(view),
        "processes": [{**describe(process), "stuck": is_stuck(process, stall)} for process in view.processes],
        "sides": {
            side: _side(view.sides[side], totals, earlier.sides.get(side, Totals()), seconds)
            for side, totals in now.sides.items()
        },
    }


def make_history(samples: Sequence[Sample], now: Sample, longest: float) -> dict[Side, list[dict[str, float | None]]]:
    """Return the load of each side between one sample and the next, for charts, with the age of each in seconds.

    samples: in order of time
    now: the latest sample
    longest: the longest period, in seconds, for which rates are given
    """
    history: dict[Side, list[dict[str, float | None]]] = {side: [] for side in now.sides}
    for earlier, later in itertools.pairwise(samples):
        seconds = later.now - earlier.now
        for side, points in history.items():
            totals = later.sides[side]
            rates = _rates(totals, earlier.sides[side], seconds) if 0 < seconds <= longest else {}
            told = {"age": now.now - later.now, "open": totals.open, "in_flight": totals.in_flight, **rates}
            points.append({name: None if value is None else round(value, 6) for name, value in told.items()})
    return history


def percentile(durations: Sequence[int], share: float) -> float | None:
    """Estimate the duration that `share` of the requests do not exceed, in seconds; None without requests.

    durations: the number of requests in each bucket
    """
    wanted = share * sum(durations)
    if not wanted:
        return None
    below, lower = 0, 0.0
    for count, upper in zip(durations, BOUNDS, strict=False):
        if count and below + count >= wanted:
            return lower + (upper - lower) * (wanted - below) / count
        below, lower = below + count, upper
    return BOUNDS[-1]


def _totals(side: SideView) -> Totals:
    """Add up the requests of a side, over their methods."""
    statuses = [0] * len(STATUSES)
    durations = [0] * BUCKETS
    begin = 0
    for method in METHODS:
        for index, status in enumerate(STATUSES):
            buckets = side.requests[begin : begin + BUCKETS]
            begin += BUCKETS
            statuses[index] += sum(buckets)
            if method != "websocket" and status != "aborted":
                durations = [total + count for total, count in zip(durations, buckets, strict=True)]
    statuses[STATUSES.index("5xx")] += side.cells[Cell.BUSY]
    cells = side.cells
    return Totals(
        tuple(statuses), tuple(durations), cells[Cell.HIDDEN], max(0, cells[Cell.OPEN]), max(0, cells[Cell.IN_FLIGHT])
    )


def _side(view: SideView, now: Totals, earlier: Totals, seconds: float) -> dict[str, float | None]:
    return {
        "seconds": seconds,
        **_rates(now, earlier, seconds),
        "requests": sum(now.statuses),
        "aborted": now.statuses[STATUSES.index("aborted")],
        **{name: sum(view.cells[cell] for cell in cells) for name, cells in COUNTED.items()},
    }


def _rates(now: Totals, earlier: Totals, seconds: float) -> dict[str, float | None]:
    """Return the figures of `make_figures` that concern the time between two readings."""
    answered = dict(zip(STATUSES, _difference(now.statuses, earlier.statuses), strict=True))
    durations = _difference(now.durations, earlier.durations)
    count = sum(answered.values())
    hidden = min(max(0, now.hidden - earlier.hidden), answered["4xx"])  # counted a moment before their responses
    return {
        "rate": count / seconds,
        "hidden_rate": hidden / seconds,
        "client_errors": (answered["4xx"] - hidden) / count if count else 0.0,
        "server_errors": answered["5xx"] / count if count else 0.0,
        "median": percentile(durations, 0.5),
        "p99": percentile(durations, 0.99),
    }


def _events(view: View) -> list[dict[str, Any]]:
    """Return the events of the processes of a launch, the latest first."""
    events = [(view.age, "launched")]
    for process in view.processes:
        events.append((process.age, f"process {process.pid} started"))
        if process.state is not Phase.STARTING:
            events.append((process.state_age, f"process {process.pid} is {STATES[process.state]}"))
    for gone in view.gone:
        events.append((gone.age, f"process {gone.pid} {'ended' if gone.state is Phase.DRAINING else 'died'}"))
    return [{"age": round(age, 1), "event": event} for age, event in sorted(events)[:LATEST_EVENTS]]


def _difference(now: tuple[int, ...], earlier: tuple[int, ...]) -> list[int]:
    return [max(0, new - old) for new, old in zip(now, earlier, strict=True)]
