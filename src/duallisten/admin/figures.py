"""The figures of the status page: what the processes of a launch do, and what each side has to do. Pure.

They compare two readings of the scoreboard: the latest and an earlier one. What only grows is divided by the time
between the two. Without an earlier one, figures are averages since the launch began, when all counters were zero.

The scoreboard keeps durations in buckets, so a percentile is an estimate: durations are taken to lie evenly within a
bucket. One above the last bound counts as that bound. The handshake of a WebSocket has no duration, and an aborted
request tells more of its client than of the application: neither counts for percentiles.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from duallisten.admin.health import describe, is_stuck, livez, readyz
from duallisten.observability import BOUNDS, BUCKETS, METHODS, STATUSES, Cell, SideView, View
from duallisten.sides import Side

COUNTED = {
    "in_flight": (Cell.IN_FLIGHT,),
    "open": (Cell.OPEN,),
    "websockets": (Cell.WEBSOCKETS,),
    "refused": (Cell.REFUSED_PEER, Cell.REFUSED_LIMIT, Cell.REFUSED_SIDE_DOOR),
    "hidden": (Cell.HIDDEN,),
    "bad": (Cell.BAD,),
}
"""The figures of a side that stand on the scoreboard, and the cells that are added up for each."""


class Totals(NamedTuple):
    """The requests of one side up to some time.

    statuses: how many, by class of their status, in the order of `STATUSES`
    durations: those of complete answers, by bucket
    """

    statuses: tuple[int, ...] = (0,) * len(STATUSES)
    durations: tuple[int, ...] = (0,) * BUCKETS


class Sample(NamedTuple):
    """What is kept of a reading, to be compared with a later one.

    now: when that was, in seconds of the monotonic clock
    """

    now: float
    sides: dict[Side, Totals]


def read(view: View) -> Sample:
    """Take what is to be compared from a view."""
    return Sample(view.now, {side: _totals(view.sides[side]) for side in view.expected})


def make_figures(view: View, now: Sample, earlier: Sample | None, stall: float) -> dict[str, Any]:
    """Return the figures of a launch, as the status page's JSON has them.

    `reasons` says why the launch should get no requests or needs a restart; empty where all is well. For each side:

    - `seconds`: how long the time is that rate, shares and percentiles are of
    - `rate`: requests a second
    - `client_errors`, `server_errors`: shares of the requests, from 0 to 1
    - `median`, `p99`: of the durations, in seconds; None where nothing was answered
    - `in_flight`, `open`, `websockets`: requests, connections and WebSockets, now
    - `requests`, `aborted`, `hidden`, `bad`: requests since the launch began: all, not brought to their end, hidden by
      path rules, malformed; `refused`: connections that were closed unread, since then

    now: what was read of `view`
    earlier: an earlier reading; None to compare with the beginning of the launch
    stall: seconds that an event loop may be stuck
    """
    earlier = earlier or Sample(view.now - view.age, {})
    seconds = max(now.now - earlier.now, 1e-3)
    reasons = dict.fromkeys((*readyz(view, stall).reasons, *livez(view, stall).reasons))
    return {
        "phase": view.phase.label,
        "reasons": [reason for reason in reasons if reason != view.phase.label],
        "age": view.age,
        "restarts": view.restarts,
        "supervisor_age": view.supervisor_age,
        "processes": [{**describe(process), "stuck": is_stuck(process, stall)} for process in view.processes],
        "sides": {
            side: _side(view.sides[side], totals, earlier.sides.get(side, Totals()), seconds)
            for side, totals in now.sides.items()
        },
    }


def percentile(durations: Sequence[int], share: float) -> float | None:
    """Estimate the duration that `share` of the requests do not exceed, in seconds; None where there are none.

    durations: how many lie in each bucket
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
    return Totals(tuple(statuses), tuple(durations))


def _side(view: SideView, now: Totals, earlier: Totals, seconds: float) -> dict[str, float | None]:
    answered = dict(zip(STATUSES, _difference(now.statuses, earlier.statuses), strict=True))
    durations = _difference(now.durations, earlier.durations)
    count = sum(answered.values())
    return {
        "seconds": seconds,
        "rate": count / seconds,
        "client_errors": answered["4xx"] / count if count else 0.0,
        "server_errors": answered["5xx"] / count if count else 0.0,
        "median": percentile(durations, 0.5),
        "p99": percentile(durations, 0.99),
        "requests": sum(now.statuses),
        "aborted": now.statuses[STATUSES.index("aborted")],
        **{name: sum(view.cells[cell] for cell in cells) for name, cells in COUNTED.items()},
    }


def _difference(now: tuple[int, ...], earlier: tuple[int, ...]) -> list[int]:
    return [max(0, new - old) for new, old in zip(now, earlier, strict=True)]
