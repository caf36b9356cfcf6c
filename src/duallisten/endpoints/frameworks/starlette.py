"""Starlette: marks routes as private or public where they are declared, and reads applications for `--routes`.

    routes = [
        Route("/", home),
        private(Route("/stock", stock)),
        private(WebSocketRoute("/feed", feed)),
        private(Mount("/admin", routes=[...])),
    ]

A private route matches only on the private side. On the public side, and under a server that does not stamp the side,
the router behaves as if the route had never been declared: the application's own answer for unknown paths, no 405, no
redirect for a slash, no handshake.

This relies on one method: a router calls `matches(scope)` of a route for each request before it uses the route in any
other way (Starlette's `Router.app`; FastAPI's `APIRouter.app` does the same). A private route wraps the route and is
not a `Route` itself, so that a framework that rebuilds a router's routes (`include_router`) leaves it out instead of
making it public.

FastAPI keeps its routes as Starlette does, among other objects. This module recognizes these by their attributes, so
FastAPI is not imported for an application that does not use it.

Invariants:

- A router never sees a route that is hidden from it.
- This does not depend on the launcher.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from functools import cache, partial
from importlib.metadata import version
from typing import Any, TypeVar, get_args

from starlette.datastructures import URLPath
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Host, Match, Mount, Router, WebSocketRoute
from starlette.routing import Route as StarletteRoute
from starlette.types import Receive, Scope, Send

from duallisten.endpoints import frameworks
from duallisten.endpoints.endpoint_set import refusal
from duallisten.endpoints.routes import Route
from duallisten.errors import LaunchError
from duallisten.sides import Side, side

__all__ = ["PrivateRoute", "private", "public"]

MARK = "duallisten_side"
"""The attribute of a marked object that holds its side."""

OURS = "duallisten_own"
"""The attribute that marks routes added by duallisten, to tell them from the application's own."""

PATHS_OF_FASTAPI = ("openapi_url", "docs_url", "redoc_url", "swagger_ui_oauth2_redirect_url")
"""The attributes of a FastAPI application that hold the paths of its documentation."""

T = TypeVar("T")


class PrivateRoute(BaseRoute):
    """A route that exists only on the private side, with the attributes of the route that it wraps. See `private`."""

    duallisten_side: Side = "private"

    def __init__(self, route: BaseRoute) -> None:
        self.route = route

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as the route does on the private side, and nothing elsewhere."""
        return self.route.matches(scope) if side(scope) == "private" else (Match.NONE, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a matched request."""
        scope["route"] = self.route
        await self.route.handle(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """Build the path of the route called `name`."""
        return self.route.url_path_for(name, **path_params)

    def __getattr__(self, name: str) -> Any:
        if name == "route" or name.startswith("__"):  # `copy` asks before `route` is set
            raise AttributeError(name)
        return getattr(self.route, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrivateRoute) and self.route == other.route

    __hash__ = None  # type: ignore[assignment]  # as Starlette's routes

    def __repr__(self) -> str:
        return f"private({self.route!r})"


def private(route: BaseRoute) -> PrivateRoute:
    """Declare that a route exists only on the private side.

    Args:
        route: A `Route`, `WebSocketRoute`, `Mount` or `Host`, or any other route of Starlette or FastAPI.

    Returns:
        A wrapper to put in the list of routes instead of `route`.

    Raises:
        TypeError: `route` is not a route. A function or class cannot be marked, because several routes may use it. For
            a router, mark its `Mount`.
        LaunchError: The installed framework does not hide private routes from the public side.
    """
    if isinstance(route, PrivateRoute):
        return route
    if not isinstance(route, BaseRoute):
        raise TypeError(
            f"private() takes a route, not {route!r}: mark the Route, WebSocketRoute or Mount that leads to it; "
            "in FastAPI declare it on a duallisten.fastapi.PrivateRouter"
        )
    check_router(Router)
    if (fastapi := sys.modules.get("fastapi.routing")) is not None:
        check_router(fastapi.APIRouter)
    return PrivateRoute(route)


def public(thing: T) -> T:
    """Declare that a route, application or endpoint is meant for the public side.

    It does not affect requests: everything that is not private is public. It informs readers and `--strict-routes`. A
    private mark on a mount or router around it, or a rule that hides its path, overrides it.

    Args:
        thing: A route, a mounted application or router, or the function or class of an endpoint.

    Returns:
        `thing`.

    Raises:
        TypeError: `thing` is already declared private.
    """
    if isinstance(thing, PrivateRoute):
        raise TypeError(f"{thing!r} is already private")
    setattr(thing, MARK, "public")
    return thing


# --- Checks that the framework keeps private routes private ---


def incompatible(framework: str) -> LaunchError:
    """Build the error for an installed framework that cannot keep routes private."""
    return LaunchError(
        f"{framework} {version(framework)} does not keep private routes from the public side: use a newer one, or hide "
        "paths with --private-path, which depends on no framework"
    )


@cache
def check_router(make: type[Router]) -> None:
    """Ensure that a framework's router asks a route before it serves it; raises LaunchError if it does not."""
    framework, probe = make.__module__.partition(".")[0], Probe()
    for route in (StarletteRoute("/probe/x", probe), WebSocketRoute("/probe/x", probe), Mount("/probe", app=probe)):
        probe.check(make(routes=[PrivateRoute(route)]), framework)


class Probe:
    """An endpoint at /probe/x that records whether it is reached."""

    def __init__(self) -> None:
        self.reached = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Record the call, and send no response."""
        self.reached = True

    def check(self, router: Router, framework: str) -> None:
        """Request /probe/x from `router` on both sides; raises LaunchError unless only the private side reaches it."""
        for name in get_args(Side):
            found = [self._is_found(router, kind, name) for kind in ("http", "websocket")]
            if any(found) != (name == "private"):
                raise incompatible(framework)

    def _is_found(self, router: Router, kind: str, name: Side) -> bool:
        """Whether a route matches /probe/x, or the router reaches this endpoint in another way."""
        scope: Scope = {"type": kind, "method": "GET", "path": "/probe/x", "root_path": "", "query_string": b""}
        scope |= {"headers": [], "extensions": {"duallisten": {"side": name}}}  # type: ignore[operator]
        if any(route.matches(dict(scope))[0] is not Match.NONE for route in router.routes):
            return True
        self.reached = False
        coroutine = router(scope, _nobody, _nobody)  # it awaits nothing: one step runs it to its end
        with contextlib.suppress(StopIteration, HTTPException):
            coroutine.send(None)
        coroutine.close()
        return self.reached


async def _nobody(*message: Any) -> Any:
    """Serve as `receive` and `send` of a disconnected client."""
    return {"type": "http.disconnect"}


# --- Applications ---


def read_routes(app: Any) -> Iterator[Route]:
    """Read every route of an application or router, with the prefixes, marks and hosts of the mounts around it."""
    return _read_router(app, Route("", mark=mark_of(app)))


def mounted_apps(app: Any) -> Iterator[Any]:
    """Yield the applications that are mounted in an application or router."""
    for route in app.routes:
        inner = unmarked(route)
        if (router := getattr(inner, "original_router", None)) is not None:
            yield from mounted_apps(router)
        elif isinstance(inner, Mount | Host):
            yield inner.app


def aliases(app: Any) -> Iterator[Callable[[str], str]]:
    """Return what mounted applications take paths for that have a root path beyond where they are mounted.

    FastAPI puts its `root_path` in the place of the one that its mount has told. With `/v1/new` below `/v1`, it finds
    its own `/x` at `/v1/new/x`; to a rule that is `/v1/x`, as it is declared.
    """
    for route in app.routes:
        inner = unmarked(route)
        if (router := getattr(inner, "original_router", None)) is not None:
            yield from aliases(router)
        elif isinstance(inner, Mount):
            for layer in frameworks.layers(inner.app):
                root = getattr(layer, "root_path", None)
                if isinstance(root, str) and root.rstrip("/") not in ("", inner.path):
                    yield partial(_moved, root.rstrip("/"), inner.path)


def _moved(root: str, mount: str, path: str) -> str:
    """Return a path below `root` as what it is below `mount`."""
    return mount + path.removeprefix(root) if f"{path}/".startswith(f"{root}/") else path


def prepare(app: Any, *, has_private_websocket: bool) -> None:
    """Make the router answer WebSocket handshakes for unknown paths with 404, if a WebSocket route is private.

    Starlette closes such a handshake, and the server then answers 403, as if an endpoint had refused it. With this
    change, hidden paths and paths that were never declared both get 404. A router with its own `default` is left
    alone, so a second call changes nothing.
    """
    router = getattr(app, "router", app)
    if not has_private_websocket or router.default != router.not_found:
        return
    not_found, not_there = router.default, refusal(404)

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        is_handshake = scope["type"] == "websocket" and "websocket.http.response" in scope.get("extensions", {})
        await (not_there if is_handshake else not_found)(scope, receive, send)

    router.default = answer


def unmarked(route: BaseRoute) -> BaseRoute:
    """Return a route without its mark."""
    while isinstance(route, PrivateRoute):
        route = route.route
    return route


def mark_of(*things: Any) -> Side | None:
    """Return the mark of the first marked object among `things`; None if there is none."""
    return next((mark for thing in things if (mark := getattr(thing, MARK, None)) is not None), None)


def _read_router(app: Any, around: Route) -> Iterator[Route]:
    """Read the routes of an application or router; `around` has the prefix, mark and host of the mounts around it."""
    own_paths = {getattr(app, name, None) for name in PATHS_OF_FASTAPI}
    for route in app.routes:
        if getattr(route, OURS, False):
            continue
        for read in _read_route(route, around):
            yield read._replace(per_side=True) if read.path.removeprefix(around.path) in own_paths else read
    for group in getattr(getattr(app, "router", app), "_low_priority_routes", ()):  # FastAPI's frontends
        for route in getattr(group, "routes", ()):
            yield around._replace(path=around.path + route.path, kind="mount")


def _read_route(route: BaseRoute, around: Route) -> Iterator[Route]:
    """Read a route, or the routes of the application or router that it leads to."""
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
    """Return the application of a mount, without middleware; None if it has no routes to read."""
    app: Any = mount.app
    while not hasattr(app, "routes") and hasattr(app, "app"):
        app = app.app
    return app if getattr(app, "routes", None) else None
