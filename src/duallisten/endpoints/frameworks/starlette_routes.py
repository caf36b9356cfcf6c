"""Applications of Starlette and FastAPI, read for `--routes` and made ready for two sides.

FastAPI keeps its routes as Starlette does, with objects of its own among them. They are known by their attributes
here, so that nothing has to import FastAPI for an application without it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from starlette.routing import BaseRoute, Host, Mount, Router, WebSocketRoute
from starlette.types import Receive, Scope, Send

from duallisten.endpoints.endpoint_set import refusal
from duallisten.endpoints.frameworks.starlette_marks import mark_of, unmarked
from duallisten.endpoints.routes import Route
from duallisten.sides import Application

OURS = "duallisten_own"
"""The attribute of routes that duallisten has added to an application, which are none of its own."""


def read_routes(app: Any) -> Iterator[Route]:
    """Read every route of an application or router, with the prefix, mark and host of what it stands in."""
    return _read_router(app, Route("", mark=mark_of(app)))


def mounted_apps(app: Any) -> Iterator[Any]:
    """Return the applications that are mounted in an application or router."""
    for route in app.routes:
        inner = unmarked(route)
        if (router := getattr(inner, "original_router", None)) is not None:
            yield from mounted_apps(router)
        elif isinstance(inner, Mount | Host):
            yield inner.app


def prepare(app: Any) -> None:
    """Answer WebSocket handshakes for paths that are not there with 404, where some are hidden; once.

    Starlette closes such a handshake, and a server then answers 403, as if somebody had been there to refuse. Where an
    application has a private WebSocket route, a hidden path and one that was never declared are both answered with 404.
    A router with a `default` of its own is left alone.
    """
    if any(route.kind == "websocket" and route.mark == "private" for route in read_routes(app)):
        for router in _routers(app):
            if router.default == router.not_found:
                router.default = _without_refusing(router.default)


def _routers(app: Any) -> Iterator[Router]:
    """Return the routers of an application and of what is mounted in it."""
    router = getattr(app, "router", app)
    if isinstance(router, Router):
        yield router
    for mounted in mounted_apps(app) if hasattr(app, "routes") else ():
        yield from _routers(mounted)


def _without_refusing(default: Application) -> Application:
    not_there = refusal(404)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        is_websocket = scope["type"] == "websocket" and "websocket.http.response" in scope.get("extensions", {})
        await (not_there if is_websocket else default)(scope, receive, send)

    return answer


def root_paths(app: Any) -> tuple[str, ...]:
    """Return what the application takes off paths by itself: FastAPI's `root_path`."""
    root_path = getattr(app, "root_path", "")
    return (root_path,) if root_path else ()


def _read_router(app: Any, around: Route) -> Iterator[Route]:
    """Read what an application or router declares; `around` has the prefix, mark and host of what it stands in."""
    own_paths = {getattr(app, name, None) for name in _PATHS_OF_FASTAPI}
    for route in app.routes:
        if getattr(route, OURS, False):
            continue
        for read in _read_route(route, around):
            yield read._replace(per_side=True) if read.path.removeprefix(around.path) in own_paths else read
    for group in getattr(getattr(app, "router", app), "_low_priority_routes", ()):  # FastAPI's frontends
        for route in getattr(group, "routes", ()):
            yield around._replace(path=around.path + route.path, kind="mount")


_PATHS_OF_FASTAPI = ("openapi_url", "docs_url", "redoc_url", "swagger_ui_oauth2_redirect_url")


def _read_route(route: BaseRoute, around: Route) -> Iterator[Route]:
    """Read a route, or what a route leads to."""
    inner = unmarked(route)
    app, router = getattr(inner, "app", None), getattr(inner, "original_router", None)
    own = mark_of(route, inner, getattr(inner, "endpoint", None), app, router)
    around = around._replace(mark=around.mark if around.mark == "private" or own is None else own)
    here = around._replace(path=around.path + getattr(inner, "path", ""))
    if router is not None:
        prefix: str = getattr(inner, "include_context").prefix  # noqa: B009
        yield from _read_router(router, around._replace(path=around.path + prefix))
    elif isinstance(inner, Host):
        yield from _read_router(inner, around._replace(host=inner.host))
    elif isinstance(inner, Mount) and (declared := _declared_in(inner)) is not None:
        yield from _read_router(declared, here)
    elif isinstance(inner, Mount):
        yield here._replace(path=here.path or "/", kind="mount")
    elif isinstance(inner, WebSocketRoute):
        yield here._replace(kind="websocket")
    else:
        yield here._replace(methods=tuple(sorted(getattr(inner, "methods", None) or ())))


def _declared_in(mount: Mount) -> Any:
    """Return what a mount leads to, without the middleware around it; None where it has no routes to read."""
    app: Any = mount.app
    while not hasattr(app, "routes") and hasattr(app, "app"):
        app = app.app
    return app if getattr(app, "routes", None) else None
