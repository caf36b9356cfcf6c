"""Routes: what an application has declared, what each side gets of it, and both as `--routes` prints them.

A `Route` is read from a framework (`endpoints.frameworks`). With the path rules it becomes an `Exposure`, and those of
one application are an `AppRoutes`. A route is *decided* if a mark or a rule puts it on a side. One that is on the
public side by default is not, and `--strict-routes` refuses it.

A rule is applied to the path of a route as it is declared, in which a parameter (`{name}`, `<int:pk>`) is a segment
like any other. Where a rule hides only some of the paths that a route matches, the route is reached with that
exception.

Invariants:

- This shows what the endpoint sets do; it decides nothing for a request.
- Pure, but for `print_table`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from duallisten.endpoints.frameworks import read_routes, root_paths
from duallisten.endpoints.path_rules import Rules, folded
from duallisten.sides import Side

_PARAMETER = re.compile(r"\{[^}]*\}|<[^>]*>|\(.*\)")
_REST = re.compile(r"\{[^}]*:path\}|<path:[^>]*>|\(.*\)")

COLUMNS = ("path", "methods", "public", "private", "decided by")
"""What a person is shown of a route: see `cells`."""


NAMED = 5
"""Routes that are named of those that a rule or a mark hides."""


class Route(NamedTuple):
    """An endpoint as its framework has it.

    path: with the prefixes of what it is mounted or included in
    methods: HTTP methods, in order; none where all are, or where the framework does not say
    kind: `mount` is an application of which only the prefix is known
    mark: the side it was declared to be on, or the nearest around it that says something
    host: the host name that it is bound to
    per_side: the framework's own, which shows each side what is its own, such as an OpenAPI schema
    """

    path: str
    methods: tuple[str, ...] = ()
    kind: Literal["http", "websocket", "mount"] = "http"
    mark: Side | None = None
    host: str = ""
    per_side: bool = False

    @property
    def name(self) -> str:
        """The path, with the host where there is one."""
        return f"{self.host}{self.path}"


class Exposure(NamedTuple):
    """What each side gets of a route.

    public, private: whether the side reaches it
    why: the mark or rule that decides
    exceptions: prefixes below the route that the public side does not reach
    decided: whether a mark or rule decides
    """

    route: Route
    public: bool
    private: bool
    why: str
    exceptions: tuple[str, ...] = ()
    decided: bool = True


class AppRoutes(NamedTuple):
    """The routes of one application.

    sides: the sides that it is served on
    rules: what path rules leave of it to the public side
    routes: what each side gets of each route; None where they cannot be read
    roots: path prefixes that are taken off what the public side is asked for
    """

    application: str
    sides: tuple[Side, ...]
    rules: Rules
    routes: tuple[Exposure, ...] | None
    roots: tuple[str, ...] = ()


def read_section(application: str, app: Any, rules: Rules, sides: tuple[Side, ...], root_path: str = "") -> AppRoutes:
    """Read the routes of `app`, which is called `application` and served on `sides`, the public below `root_path`."""
    routes, roots = read_routes(app), (*root_paths(app), root_path)
    exposures = None if routes is None else tuple(reach(route, rules, sides, roots) for route in routes)
    return AppRoutes(application, sides, rules, exposures, roots)


def reach(route: Route, rules: Rules, sides: tuple[Side, ...], roots: tuple[str, ...] = ()) -> Exposure:
    """Return what each side gets of a route of an application that is served on `sides`, below `roots`."""
    private = "private" in sides
    if why := _why_hidden(route, rules, sides, roots):
        return Exposure(route, public=False, private=private, why=why)
    why = _why_shown(route, rules)
    exceptions = tuple(prefix for prefix in rules.private if _hides_some(prefix, route, roots))
    return Exposure(route, True, private, why or "default", exceptions, decided=bool(why))


def matches(route: Route, path: str) -> bool:
    """Whether a route matches a path, which has no parameters, as far as its declaration says."""
    return _begins(route, path, str, is_whole=True)


def is_general(route: Route) -> bool:
    """Whether a route names no path at all: it takes whatever no other route does."""
    return all(not segment or _PARAMETER.search(segment) for segment in route.path.split("/"))


def _why_hidden(route: Route, rules: Rules, sides: tuple[Side, ...], roots: tuple[str, ...]) -> str:
    """Say what keeps a route from the public side; empty where it is reached there."""
    if "public" not in sides:
        return "of the private application"
    if route.mark == "private":
        return "marked private"
    for prefix in rules.private:
        if Rules(private=(prefix,)).below(roots).hide(route.path):
            return f"--private-path {prefix}"
    return "in no --public-path" if rules.hide(route.path) else ""


def _why_shown(route: Route, rules: Rules) -> str:
    """Say what puts a route that is not hidden on the public side; empty where it is there by default."""
    for prefix in rules.public:
        if not Rules(public=(prefix,)).hide(route.path):
            return f"--public-path {prefix}"
    if route.mark == "public":
        return "marked public"
    return "shows each side its own" if route.per_side else ""


def _hides_some(prefix: str, route: Route, roots: tuple[str, ...]) -> bool:
    """Whether a private prefix covers some of the paths that a route matches."""
    return any(_begins(route, below, folded, is_whole=False) for below in Rules((prefix,)).below(roots).private)


def _begins(route: Route, path: str, fold: Callable[[str], str], *, is_whole: bool) -> bool:
    """Whether some path that a route matches begins with all segments of `path`.

    fold: makes segments alike that count as one
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


def strict_errors(sections: Iterable[AppRoutes]) -> str:
    """Say which routes have no side; empty where all have one."""
    for section in sections:
        if section.routes is None and "public" in section.sides and not section.rules.public:
            return (
                f"--strict-routes: the routes of {section.application} cannot be read: not a Starlette, FastAPI or "
                "Django application; say with --public-path what is public"
            )
        if undecided := [exposure.route.name for exposure in section.routes or () if not exposure.decided]:
            return (
                f"--strict-routes: these routes have no side: {', '.join(undecided)}; "
                "declare them public or private in the code, or with --public-path or --private-path"
            )
    return ""


def describe_public(section: AppRoutes) -> str:
    """Say what the public side serves: the rules, and how many routes each of them and each mark hides, and which."""
    hidden: dict[str, list[str]] = {}
    for exposure in section.routes or ():
        if not exposure.public:
            hidden.setdefault(exposure.why, []).append(exposure.route.name)
    if not hidden:
        return str(section.rules)
    count = f"{sum(map(len, hidden.values()))} of {len(section.routes or ())} routes"
    reasons = "; ".join(f"{len(names)} {why} ({_listed(names)})" for why, names in hidden.items())
    return (
        f"{section.rules}; hides {count}: {reasons}" if section.rules.hide_something else f"all but {count}: {reasons}"
    )


def _listed(names: list[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def unused_rules(sections: Iterable[AppRoutes]) -> str:
    """Say which rules cover no route, with the nearest route; empty where all cover one, or routes cannot be read."""
    return "; ".join(
        f"{option} {prefix} covers no route of {section.application}{_nearest(prefix, section.routes)}"
        for section in sections
        if section.routes is not None and "public" in section.sides
        for option, prefixes in (("--private-path", section.rules.private), ("--public-path", section.rules.public))
        for prefix in prefixes
        if not any(_concerns(option, prefix, exposure.route, section.roots) for exposure in section.routes)
    )


def _concerns(option: str, prefix: str, route: Route, roots: tuple[str, ...]) -> bool:
    """Whether a rule covers a route, or some of the paths that it matches."""
    if option == "--public-path":
        return not Rules(public=(prefix,)).hide(route.path) or _begins(route, prefix, str, is_whole=False)
    return Rules((prefix,)).below(roots).hide(route.path) or _hides_some(prefix, route, roots)


def _nearest(prefix: str, exposures: Iterable[Exposure]) -> str:
    """Say which route begins most like a prefix."""
    from difflib import SequenceMatcher

    def likeness(path: str) -> float:
        beginning = "/".join(path.split("/")[: prefix.count("/") + 1])
        return SequenceMatcher(None, prefix.casefold(), beginning.casefold()).ratio()

    nearest = max((exposure.route.path for exposure in exposures), key=likeness, default="")
    return f" (nearest: {nearest})" if nearest else ""


def as_json(sections: Iterable[AppRoutes]) -> str:
    """Return the routes as JSON."""
    return json.dumps(
        [
            {
                "application": section.application,
                "sides": section.sides,
                "public_paths": section.rules.public,
                "private_paths": section.rules.private,
                "routes": section.routes and [_as_dict(exposure) for exposure in section.routes],
            }
            for section in sections
        ],
        indent=2,
    )


def _as_dict(exposure: Exposure) -> dict[str, Any]:
    route, *rest = exposure
    about = {name: getattr(route, name) for name in ("path", "methods", "kind", "host")}
    return {**about, **dict(zip(("public", "private", "why", "except", "decided"), rest, strict=True))}


def print_table(sections: Iterable[AppRoutes]) -> None:
    """Print the routes as tables on standard output, a framework's own after the user's."""
    from duallisten.logs import print_line, print_rows

    for section in sections:
        print_line(f"{section.application} on the {' and the '.join(section.sides)} side")
        if section.routes is None:
            print_line("Its routes cannot be read: not a Starlette, FastAPI or Django application.")
        else:
            in_order = sorted(section.routes, key=lambda one: one.route.per_side)
            print_rows(COLUMNS, map(cells, in_order), always=section.sides)
        if "public" in section.sides and (section.rules.hide_something or section.routes is None):
            print_line(f"The public side serves: {section.rules}")
        for text in (_undecided(section), unused_rules([section])):
            if text:
                print_line(text)


def _undecided(section: AppRoutes) -> str:
    """Say how many routes are public by default, and what makes that an error; empty where there are none."""
    count = sum(not exposure.decided for exposure in section.routes or ())
    if not count:
        return ""
    routes = "1 route is" if count == 1 else f"{count} routes are"
    return f"{routes} public because no mark and no rule says otherwise; --strict-routes makes that an error."


def cells(exposure: Exposure) -> tuple[str, ...]:
    """Return what a person is shown of a route, by `COLUMNS`."""
    route = exposure.route
    kinds = {"http": " ".join(route.methods) or "all", "websocket": "WebSocket", "mount": "all below"}
    public = f"except {', '.join(exposure.exceptions)}" if exposure.exceptions else "yes"
    return (
        route.name,
        kinds[route.kind],
        public if exposure.public else "-",
        "yes" if exposure.private else "-",
        exposure.why,
    )
