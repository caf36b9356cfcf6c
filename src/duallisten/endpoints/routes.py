"""The routes of an application, which side reaches each of them, and the output of `--routes`.

A `Route` is read from a framework (`endpoints.frameworks`). The path rules turn it into an `Exposure`. An `AppRoutes`
holds the exposures of one application. A route is *decided* if a mark or a rule puts it on a side. A route that is
public only by default is undecided, and `--strict-routes` refuses it.

A rule is applied to the declared path of a route. A parameter (`{name}`, `<int:pk>`) is a segment like any other. If a
rule hides only some of the paths that a route matches, the public side reaches the route with that exception.

Invariants:

- This module describes what the endpoint sets do; it decides nothing for a request.
- Pure, except for `print_table`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from typing import Any, Literal, NamedTuple

from duallisten.endpoints.frameworks import read_routes, root_paths
from duallisten.endpoints.frameworks.i18n import LANGUAGE, languages
from duallisten.endpoints.path_rules import Rules, folded
from duallisten.sides import Side

_PARAMETER = re.compile(r"\{[^}]*\}|<[^>]*>|\(.*\)")
_REST = re.compile(r"\{[^}]*:path\}|<path:[^>]*>|\(.*\)")

COLUMNS = ("path", "methods", "public", "private", "decided by")
"""The columns of the table of routes: see `cells`."""


NAMED = 5
"""How many of the routes that a rule or a mark hides are named in a message."""


class Route(NamedTuple):
    """An endpoint as its framework declares it.

    path: with the prefixes of the mounts and routers around it
    methods: HTTP methods, sorted; empty if all are allowed or the framework does not say
    kind: `mount` is an application whose prefix alone is known
    mark: the side that the route, or else the nearest marked mount or router around it, was declared for
    host: the host name that it is bound to
    per_side: whether it is the framework's own and shows each side its own content, such as an OpenAPI schema
    """

    path: str
    methods: tuple[str, ...] = ()
    kind: Literal["http", "websocket", "mount"] = "http"
    mark: Side | None = None
    host: str = ""
    per_side: bool = False

    @property
    def name(self) -> str:
        """The path, preceded by the host if there is one."""
        return f"{self.host}{self.path}"


class Exposure(NamedTuple):
    """Which sides reach a route.

    public, private: whether the side reaches it
    why: the mark or rule that decides
    exceptions: prefixes below the route that are hidden from the public side
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

    sides: the sides that serve it
    rules: the path rules of the public side
    routes: the exposure of each route; None if the routes cannot be read
    roots: path prefixes that are stripped from the paths of public requests
    """

    application: str
    sides: tuple[Side, ...]
    rules: Rules
    routes: tuple[Exposure, ...] | None
    roots: tuple[str, ...] = ()


def read_section(application: str, app: Any, rules: Rules, sides: tuple[Side, ...], root_path: str = "") -> AppRoutes:
    """Read the routes of `app`. It is named `application` and served on `sides`; `root_path` is the public side's."""
    routes, roots = read_routes(app), (*root_paths(app), root_path)
    exposures = None if routes is None else tuple(reach(route, rules, sides, roots) for route in routes)
    return AppRoutes(application, sides, rules, exposures, roots)


def reach(route: Route, rules: Rules, sides: tuple[Side, ...], roots: tuple[str, ...] = ()) -> Exposure:
    """Return which of `sides` reach a route of an application that they serve below `roots`."""
    private = "private" in sides
    if why := _why_hidden(route, rules, sides, roots):
        return Exposure(route, public=False, private=private, why=why)
    why = _why_shown(route, rules)
    exceptions = tuple(prefix for prefix in rules.private if _hides_some(prefix, route, roots))
    return Exposure(route, True, private, why or "default", exceptions, decided=bool(why))


def matches(route: Route, path: str) -> bool:
    """Whether a route's declaration matches a path without parameters."""
    return _begins(route, path, str, is_whole=True)


def is_general(route: Route) -> bool:
    """Whether a route's path has no literal segment, like that of a catch-all."""
    return all(not segment or _PARAMETER.search(segment) for segment in route.path.split("/"))


def _why_hidden(route: Route, rules: Rules, sides: tuple[Side, ...], roots: tuple[str, ...]) -> str:
    """Return what hides a route from the public side; empty if the public side reaches it."""
    if "public" not in sides:
        return "of the private application"
    if route.mark == "private":
        return "marked private"
    for prefix in rules.private:
        if _read(prefix, route, roots).hide(route.path):
            return f"--private-path {prefix}"
    return "in no --public-path" if rules.hide(route.path) else ""


def _why_shown(route: Route, rules: Rules) -> str:
    """Return what makes a route public that is not hidden; empty if it is public by default."""
    for prefix in rules.public:
        if not Rules(public=(prefix,)).hide(route.path):
            return f"--public-path {prefix}"
    if route.mark == "public":
        return "marked public"
    return "shows each side its own" if route.per_side else ""


def _hides_some(prefix: str, route: Route, roots: tuple[str, ...]) -> bool:
    """Whether a private prefix covers some of the paths that a route matches."""
    return any(_begins(route, below, folded, is_whole=False) for below in _read(prefix, route, roots).private)


def _read(prefix: str, route: Route, roots: tuple[str, ...]) -> Rules:
    """Return the rules that a private prefix means for a route of an application below `roots`.

    Of the languages only those count that the route spells out, and `LANGUAGE`, which parameters match like any other.
    """
    segments = folded(route.path).split("/")
    spoken = [one for one in languages() if one == LANGUAGE or folded(one) in segments]
    return Rules((prefix,)).in_languages(spoken).below(roots)


def _begins(route: Route, path: str, fold: Callable[[str], str], *, is_whole: bool) -> bool:
    """Whether some path that a route matches begins with all segments of `path`.

    fold: maps equivalent segments to the same text
    is_whole: whether the matched path must have no further segments
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
    """Return an error that names the routes without a side; empty if every route has one."""
    for section in sections:
        if section.routes is None and "public" in section.sides and not section.rules.public:
            return (
                f"--strict-routes: the routes of {section.application} cannot be read: not a Starlette, FastAPI or "
                "Django application; give the public ones with --public-path"
            )
        if undecided := [exposure.route.name for exposure in section.routes or () if not exposure.decided]:
            return (
                f"--strict-routes: these routes have no side: {', '.join(undecided)}; "
                "declare them public or private in the code, or with --public-path or --private-path"
            )
    return ""


def describe_public(section: AppRoutes) -> str:
    """Describe what the public side serves: the rules, and which routes each rule and each mark hides."""
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
    """Name the rules that cover no route, each with the nearest route; empty if there are none or no routes known."""
    return "; ".join(
        f"{option} {prefix} covers no route of {section.application}{_nearest(prefix, section.routes)}"
        for section in sections
        if section.routes is not None and "public" in section.sides
        for option, prefixes in (("--private-path", section.rules.private), ("--public-path", section.rules.public))
        for prefix in prefixes
        if not any(_concerns(option, prefix, exposure.route, section.roots) for exposure in section.routes)
    )


def _concerns(option: str, prefix: str, route: Route, roots: tuple[str, ...]) -> bool:
    """Whether a rule covers a route, or some of the paths that the route matches."""
    if option == "--public-path":
        return not Rules(public=(prefix,)).hide(route.path) or _begins(route, prefix, str, is_whole=False)
    return _read(prefix, route, roots).hide(route.path) or _hides_some(prefix, route, roots)


def _nearest(prefix: str, exposures: Iterable[Exposure]) -> str:
    """Name the route whose beginning is most similar to `prefix`."""
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
    """Print the routes as tables on standard output, the user's before the framework's own."""
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
    """Say how many routes are public by default, and which option makes that an error; empty if there are none."""
    count = sum(not exposure.decided for exposure in section.routes or ())
    if not count:
        return ""
    routes = "1 route is" if count == 1 else f"{count} routes are"
    return f"{routes} public by default, without a mark or a rule; --strict-routes makes that an error."


def cells(exposure: Exposure) -> tuple[str, ...]:
    """Return the table row of a route, in the order of `COLUMNS`."""
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
