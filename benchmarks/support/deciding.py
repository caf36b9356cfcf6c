"""The CPU time of deciding: what path rules add to the call between uvicorn and the application.

What is timed is the function that `endpoints.endpoint_set.endpoint_set` makes for the public side, called as uvicorn
calls it, around an application that does nothing. The same function made without rules is timed, too, and the
difference is the cost of the rules; the loop, the clock and the stamp of the side, which both pay, fall out of it.

Small batches of the calls without rules and with each set of them take turns, every second turn in reverse order:
a turn takes less than a millisecond as a rule, so a slow or disturbed machine meets all of them alike. The clock is the
thread's CPU time, in which waiting for the core is not counted. The cost is the mean over the turns, not the median,
because some of what remembering costs comes only once in thousands of calls (a table grows, or is emptied); turns in
which the machine stood still for a millisecond are left out.

Every call gets what a request would give it: a new scope, its path and raw path made anew from bytes, so that no
string knows its hash yet. The scopes of a batch are made before the clock starts. The memory of verdicts is full
before anything is timed, as it can be in a server that has run for a while; what paths never seen do to it, and what
that costs, is in their figures. A request that does not reach the application would be a wrong measurement, and ends
it.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from itertools import count
from statistics import fmean, median
from typing import Any
from urllib.parse import unquote

from duallisten.endpoints.endpoint_set import endpoint_set
from duallisten.endpoints.path_rules import REMEMBERED, Rules
from duallisten.sides import Application, Scope
from support.measuring import stop
from support.reporting import in_turn

BATCH = 50
TURNS = 200
DISTURBANCE = 1e6 / BATCH
"""Nanoseconds a call, in all a millisecond, that a batch may take more than usual: what rules do takes no such leaps, a
virtual machine that is stopped for a moment does."""

PRIVATE = tuple(f"/api/v1/internal-{number}" for number in range(100))
"""Rules of three segments that stand beside what is asked and cover none of it."""

RULE_SETS = {
    "1 rule": Rules(private=PRIVATE[:1]),
    "10 rules": Rules(private=PRIVATE[:10]),
    "100 rules": Rules(private=PRIVATE),
    "allow-list of 10": Rules(public=("/api/v1/users", "/static", *(f"/api/v1/public-{n}" for n in range(8)))),
}

PATHS = {
    "`/`, seen before": "/",
    "plain, seen before": "/api/v1/users/12345/orders",
    "plain, never seen": "/api/v1/users/{}/orders",
    "file extension, seen before": "/static/css/site-12345.min.css",
    "file extension, never seen": "/static/css/site-{}.min.css",
    "odd, seen before": "/api/v1/users/J%C3%BCrgen%20M-12345/orders",
    "odd, never seen": "/api/v1/users/J%C3%BCrgen%20M-{}/orders",
}
"""What is asked; `{}` becomes another number with each request."""

_numbers = count(10_000_000)
_NOTHING: Any = object()


def measure_deciding() -> dict[tuple[str, str], float]:
    """Nanoseconds of CPU that deciding adds to a request, by the path's name and that of the rules."""
    gc.disable()
    costs = {}
    for name, pattern in PATHS.items():
        # An allow-list that serves `/` serves everything, and hides nothing.
        sets = {rules: rule_set for rules, rule_set in RULE_SETS.items() if pattern != "/" or not rule_set.public}
        added = added_by(list(sets.values()), pattern)
        costs.update({(name, rules): cost for rules, cost in zip(sets, added, strict=True)})
    return costs


def added_by(sets: list[Rules], pattern: str) -> list[float]:
    """Nanoseconds that each set of rules adds to a call for a path of this pattern."""
    functions = [function(rules, pattern) for rules in (Rules(), *sets)]
    turns = []
    for number in range(TURNS):
        turns.append(in_turn([nanoseconds(ask, pattern) for ask in in_turn(functions, number)], number))
    none, *others = map(fmean, zip(*undisturbed(turns), strict=True))
    return [other - none for other in others]


def undisturbed(turns: list[tuple[float, ...]]) -> list[tuple[float, ...]]:
    """Leave out the turns in which a batch was held up for a millisecond."""
    usual = [median(batches) + DISTURBANCE for batches in zip(*turns, strict=True)]
    return [turn for turn in turns if all(took <= most for took, most in zip(turn, usual, strict=True))] or turns


def nanoseconds(ask: Callable[[Scope, Any, Any], Any], pattern: str) -> float:
    """CPU time of a call, as the mean of a batch."""
    scopes = [scope_of(pattern) for _ in range(BATCH)]
    begin = time.thread_time_ns()
    for scope in scopes:
        ask(scope, None, None)
    return (time.thread_time_ns() - begin) / BATCH


def function(rules: Rules, pattern: str) -> Application:
    """Make the public side's function, its memory full, the path seen if it is always the same."""
    ask: Any = endpoint_set(application, "public", rules, remember=True)
    for asked in (*(["/api/v1/users/{}"] * (REMEMBERED - 1)), pattern):
        if ask(scope_of(asked), None, None) is not _NOTHING:
            stop(f"{rules} hide {asked}, which is to be measured as served")
    return ask  # type: ignore[no-any-return]


def application(scope: Scope, receive: Any, send: Any) -> Any:
    """Do nothing; the application's own work is no part of the measurement."""
    return _NOTHING


def scope_of(pattern: str) -> Scope:
    """Make the scope that uvicorn makes of a request (`HttpToolsProtocol`), the path from the bytes as there."""
    raw_path = pattern.format(next(_numbers)).encode("ascii")
    path = raw_path.decode("ascii")
    if "%" in path:
        path = unquote(path)
    return {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "server": ("127.0.0.1", 8000),
        "client": ("127.0.0.1", 50000),
        "scheme": "http",
        "root_path": "",
        "headers": [(b"host", b"127.0.0.1:8000")],
        "state": {},
        "method": "GET",
        "path": path,
        "raw_path": raw_path,
        "query_string": b"",
    }
