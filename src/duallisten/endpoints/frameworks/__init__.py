"""The frameworks that duallisten knows: FastAPI, Starlette, Django and its channels, and Litestar, a module for each.

A module has `read_routes(app)`, and where there is something to do `mounted_apps(app)`, `aliases(app)` and
`prepare(app, …)`. Litestar's routes are not read.

No framework is imported here: one whose module is not loaded has made no application. An application is found through
the middleware around it, which keeps it under one of a few names. Any other application is served all the same; it has
no routes to show.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duallisten.endpoints.routes import Route

APPLICATIONS = (
    ("fastapi.applications", "FastAPI", "fastapi"),
    ("fastapi.routing", "APIRouter", "fastapi"),
    ("starlette.applications", "Starlette", "starlette"),
    ("starlette.routing", "Router", "starlette"),
    ("channels.routing", "ProtocolTypeRouter", "channels"),
    ("django.core.handlers.asgi", "ASGIHandler", "django"),
    ("litestar.app", "Litestar", "litestar"),
)
"""The classes of applications: module, name, and our module that reads them. The first that fits is taken: a FastAPI
application is one of Starlette's, too."""

INNER = ("app", "application", "inner", "asgi_app", "other_asgi_app", "__wrapped__")
"""The attributes in which middleware keeps what it is around."""

MOST_LAYERS = 32
"""Middleware around an application that is looked through."""


def read_routes(app: Any) -> list[Route] | None:
    """Read the routes of an application; None where it is of no framework that can be read."""
    if (found := _find(app)) is None:
        return None
    inner, reader = found
    return list(reader.read_routes(inner)) if hasattr(reader, "read_routes") else None


def root_paths(app: Any) -> tuple[str, ...]:
    """Return the prefixes that an application, or one mounted in it, takes off paths beside the server's root path."""
    roots = [getattr(inner, "root_path", "") for inner, _ in _find_all(app)]  # FastAPI's
    django = getattr(sys.modules.get("django.conf"), "settings", None)
    if django is not None and django.configured:  # the process's, which hold behind whatever wraps the application
        roots.append(django.FORCE_SCRIPT_NAME)
    return tuple(dict.fromkeys(filter(None, roots)))


def aliases(app: Any) -> tuple[Callable[[str], str], ...]:
    """Return what an application, or one mounted in it, takes a path for other than it says, beside its root paths."""
    found = [(inner, reader) for inner, reader in _find_all(app) if hasattr(reader, "aliases")]
    return tuple(alias for inner, reader in found for alias in reader.aliases(inner))


def prepare(app: Any) -> None:
    """Make an application ready to be served on two sides; it may be called again.

    Raises:
        LaunchError: A framework would do something else with a mark than was meant.
    """
    found = [(inner, reader) for inner, reader in _find_all(app) if hasattr(reader, "prepare")]
    routes = [route for inner, reader in found for route in reader.read_routes(inner)]
    has_private_websocket = any(route.kind == "websocket" and route.mark == "private" for route in routes)
    for inner, reader in found:
        reader.prepare(inner, has_private_websocket=has_private_websocket)


def _find_all(app: Any) -> list[tuple[Any, Any]]:
    """Return the applications of known frameworks in an application, each once, and our modules that read them."""
    found: list[tuple[Any, Any]] = []
    unread = [app]
    while unread:
        match = _find(unread.pop())
        if match is not None and not any(match[0] is inner for inner, _ in found):
            found.append(match)
            inner, reader = match
            unread += reader.mounted_apps(inner) if hasattr(reader, "mounted_apps") else ()
    return found


def _find(app: Any) -> tuple[Any, Any] | None:
    """Return the framework's own object in an application, and our module that reads it."""
    for layer in layers(app):
        for module, name, reader in APPLICATIONS:
            kind = getattr(sys.modules.get(module), name, None)
            if kind is not None and isinstance(layer, kind):
                return layer, import_module(f"{__name__}.{reader}")
    return None


def layers(app: Any) -> Iterator[Any]:
    """Return an application and what its layers of middleware are around."""
    unread = [app]
    for _ in range(MOST_LAYERS):
        if not unread:
            return
        layer = unread.pop()
        yield layer
        unread += [inner for name in INNER if (inner := getattr(layer, name, None)) is not None]
