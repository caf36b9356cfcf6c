"""Private and public routes of Starlette, declared where they are written.

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
of its own around the route, and no `Route` itself, so that a framework which takes a router's routes apart and makes
them anew (`include_router`) leaves out what it does not know, rather than making it public.

It must never let a router see a route that it hides, and never depend on the launcher for that.
"""

from __future__ import annotations

import contextlib
import sys
from functools import cache
from importlib.metadata import version
from typing import Any, TypeVar, get_args

from starlette.datastructures import URLPath
from starlette.exceptions import HTTPException
from starlette.routing import BaseRoute, Match, Mount, Route, Router, WebSocketRoute
from starlette.types import Receive, Scope, Send

from duallisten.errors import LaunchError
from duallisten.sides import Side, side

MARK = "duallisten_side"
"""The attribute in which a marked object says its side."""

T = TypeVar("T")


class PrivateRoute(BaseRoute):
    """A route that exists for the private side alone. Made by `private`."""

    duallisten_side: Side = "private"

    def __init__(self, route: BaseRoute) -> None:
        self.route = route

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match what the route matches, for the private side."""
        if side(scope) != "private":
            return Match.NONE, {}
        return self.route.matches(scope)

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

    route: a `Route`, `WebSocketRoute`, `Mount` or `Host`, or any other route of Starlette's or FastAPI's

    Returns what takes its place in the list of routes. Raises TypeError for anything else: a function or class may
    stand behind several routes, and a router is found through its `Mount`.
    """
    if isinstance(route, PrivateRoute):
        return route
    if not isinstance(route, BaseRoute):
        raise TypeError(
            f"private() takes a route, not {route!r}: mark the Route, WebSocketRoute or Mount that leads to it; "
            "in FastAPI declare it on a duallisten.endpoints.frameworks.fastapi_marks.PrivateRouter"
        )
    check_router(Router)
    if (fastapi := sys.modules.get("fastapi.routing")) is not None:
        check_router(fastapi.APIRouter)
    return PrivateRoute(route)


def public(thing: T) -> T:
    """Declare a route, application or endpoint to be meant for the public side.

    It changes nothing for a request, for what is not private is public; it says so to readers and to
    `--strict-routes`. A private mark around it, and a rule that hides its path, are stronger.

    thing: a route, an application or router that is mounted, or a function or class behind a route

    Returns `thing`.
    """
    if isinstance(thing, PrivateRoute):
        raise TypeError(f"{thing!r} is declared private already")
    setattr(thing, MARK, "public")
    return thing


def incompatible(framework: str) -> LaunchError:
    """Build the error for an installed framework in which routes cannot be kept private."""
    return LaunchError(
        f"{framework} {version(framework)} does not keep private routes from the public side: use a newer one, or hide "
        "paths with --private-path, which depends on no framework"
    )


@cache
def check_router(make: type[Router]) -> None:
    """Ensure that a framework's router asks a route before it serves it; raises LaunchError where it does not."""
    endpoint = Probe()
    for route in (Route("/probe/x", endpoint), WebSocketRoute("/probe/x", endpoint), Mount("/probe", app=endpoint)):
        endpoint.check(make(routes=[PrivateRoute(route)]), make.__module__.partition(".")[0])


class Probe:
    """An endpoint that notes whether it is reached, at /probe/x."""

    def __init__(self) -> None:
        self.reached = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Note it, and answer nothing."""
        self.reached = True

    def check(self, router: Router, framework: str) -> None:
        """Ask `router` for it on both sides; raises LaunchError unless it is the private side's alone."""
        for name in get_args(Side):
            found = [self._is_found(router, kind, name) for kind in ("http", "websocket")]
            if any(found) != (name == "private"):
                raise incompatible(framework)

    def _is_found(self, router: Router, kind: str, name: Side) -> bool:
        """Whether a route matches /probe/x, or the router in its own way comes to this endpoint."""
        scope: Scope = {
            "type": kind,
            "method": "GET",
            "path": "/probe/x",
            "root_path": "",
            "headers": [],
            "query_string": b"",
        }
        scope["extensions"] = {"duallisten": {"side": name}}
        if any(route.matches(dict(scope))[0] is not Match.NONE for route in router.routes):
            return True
        self.reached = False
        coroutine = router(scope, _nothing, _ignore)  # nothing is waited for: one step runs it to its end
        with contextlib.suppress(StopIteration, HTTPException):
            coroutine.send(None)
        coroutine.close()
        return self.reached


async def _nothing() -> Any:
    return {"type": "http.disconnect"}


async def _ignore(message: Any) -> None:
    pass


def unmarked(route: BaseRoute) -> BaseRoute:
    """Return a route without its mark."""
    while isinstance(route, PrivateRoute):
        route = route.route
    return route


def mark_of(*things: Any) -> Side | None:
    """Return the side that the first of `things` with a mark says."""
    return next((mark for thing in things if (mark := getattr(thing, MARK, None)) is not None), None)
