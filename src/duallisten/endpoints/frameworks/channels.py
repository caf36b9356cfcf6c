"""Django channels, read for `--routes`: an application for each protocol, and routers of URL patterns.

A `ProtocolTypeRouter` has the application of each protocol in `application_mapping`. The application for HTTP is nearly
always Django's. The WebSockets are in a `URLRouter`. Its `routes` are Django URL patterns whose view is an ASGI
application or another `URLRouter`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

from duallisten.endpoints import frameworks
from duallisten.endpoints.frameworks.django import walk
from duallisten.endpoints.routes import Route

Kind = Literal["http", "websocket"]


def read_routes(app: Any) -> Iterator[Route]:
    """Read the routes of HTTP and of WebSockets; an application that cannot be read is one `mount` route."""
    http, websocket = app.application_mapping.get("http"), app.application_mapping.get("websocket")
    if http is not None:
        yield from _read(http, "/", "http")
    if websocket is not None:
        yield from _read(websocket, "/", "websocket")


def mounted_apps(app: Any) -> Iterator[Any]:
    """Yield the application of each protocol."""
    yield from app.application_mapping.values()


def _read(app: Any, prefix: str, kind: Kind) -> Iterator[Route]:
    if (router := _find_router(app)) is not None:
        yield from _read_router(router, prefix, kind)
    elif kind == "http" and prefix == "/" and (routes := frameworks.read_routes(app)) is not None:
        yield from routes
    else:
        yield Route(prefix, kind="mount")


def _read_router(router: Any, prefix: str, kind: Kind) -> Iterator[Route]:
    for pattern in router.routes:
        view = getattr(pattern, "callback", None)
        for route in walk([pattern], prefix):
            if _find_router(view) is not None or route.path in ("/", "/()"):  # Django's own, behind all patterns
                yield from _read(view, route.path.removesuffix("()"), kind)
            else:
                yield route._replace(kind=kind)


def _find_router(app: Any) -> Any:
    """Return the URL router in an application, if necessary behind middleware; None if there is none."""
    return next((layer for layer in frameworks.layers(app) if type(layer).__name__ == "URLRouter"), None)
