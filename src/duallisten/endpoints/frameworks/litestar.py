"""Litestar: the mounts that take more than is below them.

Litestar finds what is mounted at `/internal` (`@asgi("/internal", is_mount=True)`) by a regular expression, which does
not ask whether a segment ends there. So it gets `/internals` and `/internal-x/y`, too, and is asked for `s` and `-x/y`,
unless a route without parameters has that very path. To a rule these are `/internal/s` and `/internal/-x/y`.

Seen in Litestar 2.25 (`_asgi/routing_trie/traversal.py`). All else of its routing is by whole segments.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

_SLASHES = re.compile("//+")


def mounted_apps(app: Any) -> Iterator[Any]:
    """Return the applications that are mounted in an application."""
    for route in _mounts(app):
        yield route.route_handler.fn


def aliases(app: Any) -> Iterator[Callable[[str], str]]:
    """Return how each mount takes paths that go on where it ends."""
    mounts = list(_mounts(app))
    routes = frozenset(route.path for route in app.routes if not route.path_parameters and route not in mounts)
    for route in mounts:
        if route.path != "/":
            yield partial(_divided, re.compile(f"{re.escape(route.path)}(?!/|\\Z)"), routes)


def _mounts(app: Any) -> Iterator[Any]:
    for route in app.routes:
        if getattr(getattr(route, "route_handler", None), "is_mount", False):
            yield route


def _divided(mount: re.Pattern[str], routes: frozenset[str], path: str) -> str:
    """Return a path with a slash where a mount ends within a segment, wherever the application itself is mounted."""
    alone = _SLASHES.sub("/", path)
    found = mount.search(alone)
    if found is None or alone[found.start() :].rstrip("/") in routes:
        return path
    return f"{alone[: found.end()]}/{alone[found.end() :]}"
