"""Starlette: private and public routes, declared where they are written, and its applications read for `--routes`.

    routes = [
        Route("/", home),
        private(Route("/stock", stock)),
        private(WebSocketRoute("/feed", feed)),
        private(Mount("/admin", routes=[...])),
    ]

A private route takes part in the router's search for the private side only. On the public side, and under a server that
stamps nothing, the router finds what it would find if the route had never been declared: the application's own answer
for what does not exist, no 405, no redirect for a slash, no handshake.

It rests on the one interface that a router has to its routes: `matches(scope)`, asked for each request before anything
else of the route is (Starlette's `Router.app`; FastAPI's `APIRouter.app` does the same). A private route is an object
around the route, and no `Route` itself, so that a framework which makes a router's routes anew (`include_router`)
leaves it out rather than making it public.

FastAPI keeps its routes as Starlette does, with objects of its own among them. They are known by their attributes
here: nothing imports FastAPI for an application without it.

Invariants:

- A router never sees a route that is hidden from it.
- That does not depend on the launcher.
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
"""The attribute in which a marked object says its side."""

OURS = "duallisten_own"
"""The attribute of routes that duallisten has added to an application, which are none of its own."""

PATHS_OF_FASTAPI = ("openapi_url", "docs_url", "redoc_url", "swagger_ui_oauth2_redirect_url")
"""The attributes in which a FastAPI application says where it documents itself."""

T = TypeVar("T")


class PrivateRoute(BaseRoute):
    """A route that exists for the private side alone, with the attributes of the route it is around. See `private`."""

    duallisten_side: Side = "private"

    def __init__(self, route: BaseRoute) -> None:
        self.route = route

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match what the route matches, for the private side."""
        return self.route.matches(scope) if side(scope) == "private" else (Match.NONE, {})

    async def handle(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request that has been matched."""
        scope["route"] = self.route
        await self.route.handle(scope, receive, send)

    def url_path_for(self, name: str, /, **path_params: Any) -> URLPath:
        """Return the path of the route by its name."""
        return self.route.url_path_for(name, **path_params)

    def __getattr__(self, name: str) -> Any:
        if name == "route" or name.startswith("__"):  # while it is being copied
            raise AttributeError(name)
        return getattr(self.route, name)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PrivateRoute) and self.route == other.route

    __hash__ = None  # type: ignore[assignment]  # as Starlette's routes

    def __repr__(self) -> str:
        return f"private({self.route!r})"


def private(route: BaseRoute) -> PrivateRoute:
    """Declare a route to exist on the private side alone.

    Args:
        route: A `Route`, `WebSocketRoute`, `Mount` or `Host`, or any other route of Starlette's or FastAPI's.

    Returns:
        What takes its place in the list of routes.

    Raises:
        TypeError: It is no route. A function or class may stand behind several routes, and a router is found through
            its `Mount`.
        LaunchError: The installed framework does not keep private routes from the public side.
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
    """Declare a route, application or endpoint to be meant for the public side.

    It changes nothing for a request, for what is not private is public. It tells readers and `--strict-routes`. A
    private mark around it, and a rule that hides its path, are stronger.

    Args:
        thing: A route, an application or router that is mounted, or a function or class behind a route.

    Returns:
        `thing`.

    Raises:
        TypeError: It is declared private already.
    """
    if isinstance(thing, PrivateRoute):
        raise TypeError(f"{thing!r} is declared private already")
    setattr(thing, MARK, "public")
    return thing


# --- Whether the framework keeps private what is ---


def incompatible(framework: str) -> LaunchError:
    """Build the error for an installed framework in which routes cannot be kept private."""
    return LaunchError(
        f"{framework} {version(framework)} does not keep private routes from the public side: use a newer one, or hide "
        "paths with --private-path, which depends on no framework"
    )


@cache
def check_router(make: type[Router]) -> None:
    """Ensure that a framework's router asks a route before it serves it; raises LaunchError where it does not."""
    framework, probe = make.__module__.partition(".")[0], Probe()
    for route in (StarletteRoute("/probe/x", probe), WebSocketRoute("/probe/x", probe), Mount("/probe", app=probe)):
        probe.check(make(routes=[PrivateRoute(route)]), framework)


class Probe:
    """An endpoint that notes whether it is reached, at /probe/x."""

    def __init__(self) -> None:
        self.reached = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note it, and answer nothing."""
        self.reached = True

    def check(self, router: Router, framework: str) -> None:
        """Ask `router` for it on both sides; raises LaunchError unless the private side alone reaches it."""
        for name in get_args(Side):
            found = [self._is_found(router, kind, name) for kind in ("http", "websocket")]
            if any(found) != (name == "private"):
                raise incompatible(framework)

    def _is_found(self, router: Router, kind: str, name: Side) -> bool:
        """Whether a route matches /probe/x, or the router in its own way comes to this endpoint."""
        scope: Scope = {"type": kind, "method": "GET", "path": "/probe/x", "root_path": "", "query_string": b""}
        scope |= {"headers": [], "extensions": {"duallisten": {"side": name}}}  # type: ignore[operator]
        if any(route.matches(dict(scope))[0] is not Match.NONE for route in router.routes):
            return True
        self.reached = False
        coroutine = router(scope, _nobody, _nobody)  # nothing is waited for: one step runs it to its end
        with contextlib.suppress(StopIteration, HTTPException):
            coroutine.send(None)
        coroutine.close()
        return self.reached


async def _nobody(*message: Any) -> Any:
    """Stand for a client that is gone, which nothing can be sent to."""
    return {"type": "http.disconnect"}


# --- Applications ---


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
    """Answer WebSocket handshakes for paths that are not there with 404, where some are hidden; once.

    Starlette closes such a handshake, and a server then answers 403, as if somebody had been there to refuse. Where an
    application has a private WebSocket route, a hidden path and one that was never declared are both answered with 404.
    A router with a `default` of its own is left alone.
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
    """Return the side that the first of `things` with a mark says."""
    return next((mark for thing in things if (mark := getattr(thing, MARK, None)) is not None), None)


def _read_router(app: Any, around: Route) -> Iterator[Route]:
    """Read what an application or router declares; `around` has the prefix, mark and host of what it stands in."""
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
