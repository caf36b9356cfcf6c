"""How figures read on the status page: the only place that makes words of them, for the page and for its events.

A text is known by the id of the element of the page that shows it. Pure.
"""

from __future__ import annotations

from typing import Any

from duallisten.admin.health import STATES
from duallisten.admin.status.figures import SideStats, Status
from duallisten.observability import BOUNDS, Phase, ProcessView
from duallisten.sides import Side

NONE = "\u2013"
"""Stands for a figure that there is not."""

LONGEST = 30.0
"""Seconds of which a point of a chart may be, at most."""


def texts(status: Status) -> dict[str, str]:
    """Return every text of the page that changes, by the id of its element."""
    view = status.view
    supervisor = view.supervisor_age
    told = {
        "phase": view.phase.label,
        "tone": _tone(status),
        "age": span(view.age),
        "reasons": "; ".join(one for one in status.reasons if one != view.phase.label),
        "restarts": str(view.restarts),
        "supervisor": "none: one process" if supervisor is None else f"looked around {ago(supervisor)}",
    }
    for side, figures in status.sides.items():
        told |= {f"{side}-{name}": text for name, text in _side(figures).items()}
    return told


def _tone(status: Status) -> str:
    """Return how well all is, in a word that the style sheet knows."""
    if status.view.phase is Phase.READY:
        return "bad" if status.reasons else "good"
    return "fair"


def _side(figures: SideStats) -> dict[str, str]:
    return {
        "rate": f"{number(figures.rate)} /s",
        "client_errors": share(figures.client_errors),
        "server_errors": share(figures.server_errors),
        "median": duration(figures.median),
        "p99": duration(figures.p99),
        "in_flight": f"{figures.in_flight:,}",
        "open": f"{figures.open:,}",
        "seconds": span(figures.seconds),
        "requests": f"{figures.requests:,}",
        "aborted": f"{figures.aborted:,}",
        "websockets": f"{figures.websockets:,}",
        "refused": f"{figures.refused:,}",
        "hidden": f"{figures.hidden:,}",
        "bad": f"{figures.bad:,}",
    }


def points(status: Status) -> dict[Side, dict[str, float | None]]:
    """Return what the charts of each side go on with; an average of a long time is no point of them."""
    told: dict[Side, dict[str, float | None]] = {}
    for side, figures in status.sides.items():
        told[side] = {"in_flight": figures.in_flight, "open": figures.open}
        if figures.seconds <= LONGEST:
            told[side] |= {
                "rate": _round(figures.rate),
                "client_errors": _round(100 * figures.client_errors),
                "server_errors": _round(100 * figures.server_errors),
                "median": _round(figures.median),
                "p99": _round(figures.p99),
            }
    return told


def rows(status: Status) -> list[list[str]]:
    """Return the rows of the table of processes."""
    return [_row(one, one.pid in status.stuck) for one in status.view.processes]


def as_event(status: Status) -> dict[str, Any]:
    """Return all that changes, for the page's script."""
    return {"texts": texts(status), "points": points(status), "processes": rows(status)}


def _row(process: ProcessView, is_stuck: bool) -> list[str]:
    state = STATES[process.state]
    if is_stuck and process.state is Phase.READY:
        state = "stuck"
    sides = " and ".join(process.sides) or NONE
    return [str(process.pid), state, sides, ago(process.heartbeat_age), span(process.age)]


def number(value: float) -> str:
    """Write a number with about three digits."""
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}".rstrip("0").rstrip(".")


def share(value: float) -> str:
    """Write a share as per cent; one that is there is never 0."""
    return f"{number(100 * value)} %" if value == 0 or value >= 0.0001 else "< 0.01 %"


def duration(seconds: float | None) -> str:
    """Write how long a request took."""
    if seconds is None:
        return NONE
    if seconds >= BOUNDS[-1]:
        return f"over {BOUNDS[-1]:g} s"
    return f"{number(seconds)} s" if seconds >= 1 else f"{number(1000 * seconds)} ms"


def span(seconds: float) -> str:
    """Write how long something lasts, in its two largest units."""
    whole = int(seconds)
    for size, name, part, part_name in ((86400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // part
            return f"{whole // size} {name} {rest} {part_name}" if rest else f"{whole // size} {name}"
    return f"{whole} s"


def ago(seconds: float) -> str:
    """Write when something was."""
    return f"{span(seconds)} ago" if seconds >= 2 else "just now"


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")
