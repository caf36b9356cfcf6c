"""Routes as duallisten shows them: what an application has declared, and what each side gets of it.

A `Route` is read from a framework (`endpoints.frameworks`); with the path rules it becomes a `Exposure`. A route is
*decided* if a mark or a rule puts it on a side; one that is on the public side because nobody said anything is not,
and `--strict-routes` refuses it.

A rule is applied to the path of a route as it is declared, in which a parameter (`{name}`, `<int:pk>`) is a segment
like any other. Where a rule hides only some of the paths that a route matches, the route is reached with that
exception. This shows what the endpoint sets do; it decides nothing for a request. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from typing import Literal, NamedTuple

from duallisten.endpoints.path_rules import Rules
from duallisten.sides import Side

_PARAMETER = re.compile(r"\{[^}]*\}|<[^>]*>|\(.*\)")
_REST = re.compile(r"\{[^}]*:path\}|<path:[^>]*>|\(.*\)")


class Route(NamedTuple):
    """An endpoint as its framework has it.

    path: with the prefixes of what it is mounted or included in
    methods: HTTP methods, in order; none where all are, or where the framework does not tell
    kind: `mount` is an application of which only the prefix is known
    mark: the side that it, or the nearest around it that says something, was declared to be on
    host: the host name that it is bound to
    per_side: the framework's own, which shows each side what is its own, such as an OpenAPI schema
    """

    path: str
    methods: tuple[str, ...] = ()
    kind: Literal["http", "websocket", "mount"] = "http"
    mark: Side | None = None
    host: str = ""
    per_side: bool = False


class Exposure(NamedTuple):
    """What each side gets of a route.

    public, private: whether the side reaches it
    why: decided by
    exceptions: prefixes below the route that the public side does not reach
    decided: whether anybody has said so
    """

    route: Route
    public: bool
    private: bool
    why: str
    exceptions: tuple[str, ...] = ()
    decided: bool = True


def reach(route: Route, rules: Rules, sides: Iterable[Side]) -> Exposure:
    """Return what each side gets of a route.

    sides: those that this application is served on
    """
    served = tuple(sides)
    private = "private" in served
    if why := _why_hidden(route, rules, served):
        return Exposure(route, public=False, private=private, why=why)
    why = _why_shown(route, rules)
    exceptions = tuple(prefix for prefix in rules.private if _may_match(route, prefix))
    return Exposure(route, True, private, why or "default", exceptions, decided=bool(why))


def matches(route: Route, path: str) -> bool:
    """Whether a route matches a path, which has no parameters, as far as can be told from its declaration."""
    return _begins(route, path, str, is_whole=True)


def is_general(route: Route) -> bool:
    """Whether a route names no path at all: it takes whatever no other route does."""
    return all(not segment or _PARAMETER.search(segment) for segment in route.path.split("/"))


def _why_hidden(route: Route, rules: Rules, sides: tuple[Side, ...]) -> str:
    """Say what keeps a route from the public side; nothing where it is reached there."""
    if "public" not in sides:
        return "of the private application"
    if route.mark == "private":
        return "marked private"
    for prefix in rules.private:
        if Rules(private=(prefix,)).hide(route.path):
            return f"--private-path {prefix}"
    return "in no --public-path" if rules.hide(route.path) else ""


def _why_shown(route: Route, rules: Rules) -> str:
    """Say what puts a route that is not hidden on the public side; nothing where that is only the default."""
    for prefix in rules.public:
        if not Rules(public=(prefix,)).hide(route.path):
            return f"--public-path {prefix}"
    if route.mark == "public":
        return "marked public"
    return "shows each side its own" if route.per_side else ""


def _may_match(route: Route, prefix: str) -> bool:
    """Whether some path that `route` matches lies under `prefix`, in whatever case."""
    return _begins(route, prefix, str.casefold, is_whole=False)


def _begins(route: Route, path: str, fold: Callable[[str], str], *, is_whole: bool) -> bool:
    """Whether some path that a route matches begins with all segments of `path`.

    fold: makes segments alike that are to be one
    is_whole: whether it must have no others
    """
    pattern, wanted = route.path.strip("/").split("/"), path.strip("/").split("/")
    for index, segment in enumerate(wanted):
        if index == len(pattern):
            return route.kind == "mount"
        if _REST.search(pattern[index]):
            return True
        if fold(pattern[index]) != fold(segment) and not _PARAMETER.search(pattern[index]):
            return pattern == [""] and route.kind == "mount"
    return not is_whole or len(pattern) == len(wanted)
