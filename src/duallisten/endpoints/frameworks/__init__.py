"""The frameworks that duallisten knows: FastAPI, Starlette, Django, Django channels and Litestar.

Each has a module with `read_routes(app)` and, if needed, `mounted_apps(app)`, `aliases(app)` and `prepare(app, …)`.
Litestar's routes are not read.

No framework is imported here: if a framework's module is not loaded, the application does not use it. An application is
found through the middleware around it, which keeps it in one of a few attributes (`INNER`). Other applications are
served, too, but have no routes to show.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any

from duallisten.endpoints.frameworks.i18n import django_settings

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
"""The classes of applications: module, name, and our module that reads them. The first match is taken, because a
FastAPI application is also a Starlette application."""

INNER = ("app", "application", "inner", "asgi_app", "other_asgi_app", "__wrapped__")
"""The attributes in which middleware keeps the application that it wraps."""

MOST_LAYERS = 32
"""The most layers that are searched: middleware and the application itself."""


def read_routes(app: Any) -> list[Route] | None:
    """Read the routes of an application; None if its framework is not known."""
    if (found := _find(app)) is None:
        return None
    inner, reader = found
    return list(reader.read_routes(inner)) if hasattr(reader, "read_routes") else None


def root_paths(app: Any) -> tuple[str, ...]:
    """Return the prefixes, besides the server's root path, that an application or one mounted in it strips."""
    roots = [getattr(inner, "root_path", "") for inner, _ in _find_all(app)]  # FastAPI's
    if (django := django_settings()) is not None:  # settings of the process: no wrapper around the app changes them
        roots.append(django.FORCE_SCRIPT_NAME)
    return tuple(dict.fromkeys(filter(None, roots)))


def aliases(app: Any) -> tuple[Callable[[str], str], ...]:
    """Return what an application, or one mounted in it, takes a path for other than it says, beside its root paths."""
    found = [(inner, reader) for inner, reader in _find_all(app) if hasattr(reader, "aliases")]
    return tuple(alias for inner, reader in found for alias in reader.aliases(inner))


def prepare(app: Any) -> None:
    """Prepare an application to be served on two sides; may be called again.

    Raises:
        LaunchError: The framework would not treat a mark as its author meant it.
    """
    found = [(inner, reader) for inner, reader in _find_all(app) if hasattr(reader, "prepare")]
    routes = [route for inner, reader in found for route in reader.read_routes(inner)]
    has_private_websocket = any(route.kind == "websocket" and route.mark == "private" for route in routes)
    for inner, reader in found:
        reader.prepare(inner, has_private_websocket=has_private_websocket)


def _find_all(app: Any) -> list[tuple[Any, Any]]:
    """Return the applications of known frameworks inside `app`, each once, with our modules that read them."""
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
    """Return the framework's application object inside `app`, and our module that reads it."""
    for layer in layers(app):
        for module, name, reader in APPLICATIONS:
            kind = getattr(sys.modules.get(module), name, None)
            if kind is not None and isinstance(layer, kind):
                return layer, import_module(f"{__name__}.{reader}")
    return None


def layers(app: Any) -> Iterator[Any]:
    """Yield an application and, layer by layer, the applications that its middleware wraps."""
    unread = [app]
    for _ in range(MOST_LAYERS):
        if not unread:
            return
        layer = unread.pop()
        yield layer
        unread += [inner for name in INNER if (inner := getattr(layer, name, None)) is not None]
