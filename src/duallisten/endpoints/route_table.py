"""The routes of what is served, for a person (a table) and for a machine (JSON): the answer of `--routes`.

One section for each application: the public one, which the private side reaches too unless it has its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from duallisten.endpoints.frameworks import read_routes
from duallisten.endpoints.path_rules import Rules
from duallisten.endpoints.routes import Exposure, reach
from duallisten.sides import Side


class AppRoutes(NamedTuple):
    """The routes of one application.

    sides: those that it is served on
    rules: what path rules leave of it to the public side
    routes: what each side gets of each route; None where they cannot be read
    """

    application: str
    sides: tuple[Side, ...]
    rules: Rules
    routes: tuple[Exposure, ...] | None

    @property
    def undecided(self) -> tuple[Exposure, ...]:
        """The routes of which nobody said on which side they are to be."""
        return tuple(reached for reached in self.routes or () if not reached.decided)

    @property
    def is_unknown(self) -> bool:
        """Whether there may be undecided routes that cannot be read. With an allow-list there are none."""
        return self.routes is None and "public" in self.sides and not self.rules.public


def read_section(application: str, app: Any, rules: Rules, sides: tuple[Side, ...]) -> AppRoutes:
    """Read the routes of `app`, which is called `application` and served on `sides`."""
    routes = read_routes(app)
    reached = None if routes is None else tuple(reach(route, rules, sides) for route in routes)
    return AppRoutes(application, sides, rules, reached)


def strict_errors(sections: Iterable[AppRoutes]) -> str:
    """Say of which routes nobody said for which side they are; nothing where there are none."""
    for section in sections:
        if section.is_unknown:
            return (
                f"--strict-routes: the routes of {section.application} cannot be read, for it is no Starlette, FastAPI "
                "or Django application; say with --public-path what is public"
            )
        if section.undecided:
            return (
                "--strict-routes: these routes have no side: "
                f"{', '.join(_name(reached) for reached in section.undecided)}; "
                "declare them public or private in the code, or with --public-path or --private-path"
            )
    return ""


def _name(reached: Exposure) -> str:
    return f"{reached.route.host}{reached.route.path}"


def as_json(sections: Iterable[AppRoutes]) -> str:
    """Return the routes as JSON."""
    return json.dumps([_section(section) for section in sections], indent=2)


def _section(section: AppRoutes) -> dict[str, Any]:
    return {
        "application": section.application,
        "sides": section.sides,
        "public_paths": section.rules.public,
        "private_paths": section.rules.private,
        "routes": None if section.routes is None else [_route(reached) for reached in section.routes],
    }


def _route(reached: Exposure) -> dict[str, Any]:
    about = {
        name: value for name, value in reached.route._asdict().items() if name in ("path", "methods", "kind", "host")
    }
    return {
        **about,
        "public": reached.public,
        "private": reached.private,
        "why": reached.why,
        "except": reached.exceptions,
        "decided": reached.decided,
    }


def print_table(sections: Iterable[AppRoutes]) -> None:
    """Print the routes as tables on standard output."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=False)
    for section in sections:
        console.print(f"{escape(section.application)} on the {' and the '.join(section.sides)} side", highlight=False)
        if section.routes is None:
            console.print("Its routes cannot be read: not a Starlette, FastAPI or Django application.")
        else:
            table = Table(*COLUMNS)
            for reached in section.routes:
                table.add_row(*map(escape, cells(reached)))
            console.print(table)
        if "public" in section.sides and (section.rules.hide_something or section.routes is None):
            console.print(f"The public side serves: {escape(str(section.rules))}", highlight=False)


COLUMNS = ("path", "methods", "public", "private", "decided by")


def cells(reached: Exposure) -> tuple[str, ...]:
    """Return what a person is told of a route, by `COLUMNS`."""
    route = reached.route
    kinds = {"http": " ".join(route.methods) or "all", "websocket": "WebSocket", "mount": "all below"}
    public = f"except {', '.join(reached.exceptions)}" if reached.exceptions else "yes"
    return (
        _name(reached),
        kinds[route.kind],
        public if reached.public else "-",
        "yes" if reached.private else "-",
        reached.why,
    )
