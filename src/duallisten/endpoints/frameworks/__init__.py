"""The frameworks that duallisten can read, and which of them an application is of.

No framework is imported here: one whose module is not loaded has made no application. An application is found through
the middleware around it, which keeps it under one of a few names. What is of none of these frameworks is served all the
same; it has no routes to show.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from duallisten.endpoints.routes import Route


class Framework(NamedTuple):
    """Where the applications of a framework are made, and our module that reads them."""

    module: str
    names: tuple[str, ...]
    reader: str


FRAMEWORKS = (
    Framework("fastapi.applications", ("FastAPI",), "duallisten.endpoints.frameworks.fastapi_schema"),
    Framework("fastapi.routing", ("APIRouter",), "duallisten.endpoints.frameworks.fastapi_schema"),
    Framework("starlette.applications", ("Starlette",), "duallisten.endpoints.frameworks.starlette_routes"),
    Framework("starlette.routing", ("Router",), "duallisten.endpoints.frameworks.starlette_routes"),
    Framework("django.core.handlers.asgi", ("ASGIHandler",), "duallisten.endpoints.frameworks.django_routes"),
)
"""The first that fits is taken: a FastAPI application is one of Starlette's, too."""

INNER = ("app", "application", "inner", "__wrapped__")
"""The attributes in which middleware keeps what it is around."""

MOST_LAYERS = 32
"""Middleware around an application that is looked through."""


def read_routes(app: Any) -> list[Route] | None:
    """Read the routes of an application; None where it is of no framework that can be read."""
    found = _find(app)
    if found is None:
        return None
    inner, reader = found
    return list(reader.read_routes(inner))


def root_paths(app: Any) -> tuple[str, ...]:
    """Return the prefixes that an application, or one mounted in it, takes off paths beside the server's root path."""
    roots = [root for inner, reader in _all(app) for root in reader.root_paths(inner)]
    if "django.conf" in sys.modules:  # its settings are the process's, and hold behind whatever wraps the application
        roots += import_module("duallisten.endpoints.frameworks.django_routes").root_paths()
    return tuple(dict.fromkeys(roots))


def prepare(app: Any) -> None:
    """Make an application ready to be served on two sides, in what its framework has for that: see each module."""
    for inner, reader in _all(app):
        reader.prepare(inner)


def _all(app: Any) -> Iterator[tuple[Any, Any]]:
    """Find the applications of known frameworks in an application, each once, and our modules that read them."""
    seen: list[Any] = []
    unread = [app]
    while unread:
        found = _find(unread.pop())
        if found is not None and not any(found[0] is one for one in seen):
            seen.append(found[0])
            unread += getattr(found[1], "mounted_apps", lambda inner: ())(found[0])
            yield found


def _find(app: Any) -> tuple[Any, Any] | None:
    """Find the framework's own object in an application, and our module that reads it."""
    for layer in _layers(app):
        for framework in FRAMEWORKS:
            module = sys.modules.get(framework.module)
            kinds = tuple(getattr(module, name) for name in framework.names if hasattr(module, name))
            if isinstance(layer, kinds):
                return layer, import_module(framework.reader)
    return None


def _layers(app: Any) -> Iterator[Any]:
    """Return an application and what its layers of middleware are around."""
    unread = [app]
    for _ in range(MOST_LAYERS):
        if not unread:
            return
        layer = unread.pop()
        yield layer
        unread += [inner for name in INNER if (inner := getattr(layer, name, None)) is not None]
