"""The status of a launch in figures, for a person: what its processes do, and what each side has to do just now.

It is told from two readings of the scoreboard: the latest, and an earlier one. What only grows is divided by the time
between the two; without an earlier one they are the launch's own averages, since its counters began at zero then. So
every figure is true of the seconds that it says it is of (`SideStats.seconds`).

The scoreboard keeps durations in buckets, so a percentile is an estimate: within the bucket in which it lies, durations
are taken to lie evenly. One above the last bound is told as that bound. A WebSocket's handshake has no duration, and a
request that was aborted tells more of its client than of the application: neither is among them.

It must never: read or keep anything by itself. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from duallisten.admin.health import livez, readyz
from duallisten.observability import BOUNDS, BUCKETS, METHODS, STATUSES, Cell, ProcessView, SideView, View
from duallisten.sides import Side

_TIMED = tuple(index for index, method in enumerate(METHODS) if method != "websocket")


class Totals(NamedTuple):
    """What one side has had to do up to some time.

    statuses: answers, by class, in the order of `STATUSES`
    durations: of complete answers, by bucket
    """

    statuses: tuple[int, ...]
    durations: tuple[int, ...]

    @property
    def requests(self) -> int:
        """All of them."""
        return sum(self.statuses)


class Sample(NamedTuple):
    """What is kept of a view, to be compared with a later one.

    now: when that was, in seconds of the monotonic clock
    """

    now: float
    sides: dict[Side, Totals]


class SideStats(NamedTuple):
    """What one side has to do.

    seconds: of how long rate, shares and latencies are
    rate: requests a second
    client_errors, server_errors: shares of the requests, from 0 to 1
    median, p99: of the durations, in seconds; None where nothing was answered
    requests, aborted: since the launch began
    refused: connections that were closed unread, since then
    hidden: requests that path rules hid, since then
    bad: what was no request, since then
    """

    seconds: float
    rate: float
    client_errors: float
    server_errors: float
    median: float | None
    p99: float | None
    in_flight: int
    open: int
    websockets: int
    requests: int
    aborted: int
    refused: int
    hidden: int
    bad: int


class Status(NamedTuple):
    """How a launch stands.

    reasons: why it should get no requests, or needs a restart; empty where all is well
    stuck: the process ids of those whose event loop does not turn
    """

    view: View
    reasons: tuple[str, ...]
    stuck: frozenset[int]
    sides: dict[Side, SideStats]


def read(view: View) -> Sample:
    """Take of a view what is to be compared."""
    return Sample(view.now, {side: _totals(view.sides[side]) for side in view.expected})


def make_status(view: View, earlier: Sample | None, stall: float) -> Status:
    """Tell how a launch stands.

    earlier: an earlier reading; None to compare with the beginning of the launch
    stall: seconds that an event loop may be stuck
    """
    reading = read(view)
    seconds = view.age if earlier is None else view.now - earlier.now
    reasons = (*readyz(view, stall).reasons, *livez(view, stall).reasons)
    return Status(
        view=view,
        reasons=tuple(dict.fromkeys(reasons)),
        stuck=frozenset(one.pid for one in view.processes if _is_stuck(one, stall)),
        sides={
            side: _figures(view.sides[side], totals, _before(earlier, side), max(seconds, 1e-3))
            for side, totals in reading.sides.items()
        },
    )


def percentile(durations: Iterable[int], share: float) -> float | None:
    """Estimate the duration that `share` of the requests do not exceed, in seconds; None where there are none.

    durations: how many lie in each bucket
    """
    counts = tuple(durations)
    wanted = share * sum(counts)
    if not wanted:
        return None
    below, lower = 0, 0.0
    for count, upper in zip(counts, BOUNDS, strict=False):
        if count and below + count >= wanted:
            return lower + (upper - lower) * (wanted - below) / count
        below, lower = below + count, upper
    return BOUNDS[-1]


def _is_stuck(process: ProcessView, stall: float) -> bool:
    return process.heartbeat_age > stall


def _before(earlier: Sample | None, side: Side) -> Totals | None:
    return earlier.sides.get(side) if earlier is not None else None


def _totals(side: SideView) -> Totals:
    """Add up the requests of a side, over their methods."""
    requests = side.requests
    width = len(STATUSES) * BUCKETS
    statuses = [
        sum(sum(requests[at : at + BUCKETS]) for at in range(number * BUCKETS, len(requests), width))
        for number, _ in enumerate(STATUSES)
    ]
    statuses[STATUSES.index("5xx")] += side.cells[Cell.BUSY]
    complete = [
        requests[begin : begin + BUCKETS]
        for method in _TIMED
        for begin in range(method * width + BUCKETS, (method + 1) * width, BUCKETS)
    ]
    return Totals(tuple(statuses), tuple(map(sum, zip(*complete, strict=True))))


def _figures(side: SideView, now: Totals, before: Totals | None, seconds: float) -> SideStats:
    statuses, durations = now
    if before is not None:
        statuses = tuple(max(0, new - old) for new, old in zip(statuses, before.statuses, strict=True))
        durations = tuple(max(0, new - old) for new, old in zip(durations, before.durations, strict=True))
    count = sum(statuses)
    shares = {name: number / count if count else 0.0 for name, number in zip(STATUSES, statuses, strict=True)}
    cells = side.cells
    return SideStats(
        seconds=seconds,
        rate=count / seconds,
        client_errors=shares["4xx"],
        server_errors=shares["5xx"],
        median=percentile(durations, 0.5),
        p99=percentile(durations, 0.99),
        in_flight=cells[Cell.IN_FLIGHT],
        open=cells[Cell.OPEN],
        websockets=cells[Cell.WEBSOCKETS],
        requests=now.requests,
        aborted=now.statuses[STATUSES.index("aborted")],
        refused=cells[Cell.REFUSED_PEER] + cells[Cell.REFUSED_LIMIT] + cells[Cell.REFUSED_SIDE_DOOR],
        hidden=cells[Cell.HIDDEN],
        bad=cells[Cell.BAD],
    )
