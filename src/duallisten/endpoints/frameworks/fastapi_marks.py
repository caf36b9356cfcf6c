"""Private routers of FastAPI, and its documentation for each side.

    internal = PrivateRouter(prefix="/internal")

    @internal.get("/stock")
    def stock() -> dict[str, int]: ...

    @internal.websocket("/feed")
    async def feed(websocket: WebSocket) -> None: ...

    app.include_router(internal)

A `PrivateRouter` is an `APIRouter` whose routes exist for the private side alone: path operations, WebSocket routes,
mounts, and the routers included in it. `PrivateRoute` is a `route_class` that does so for path operations. Routes of
Starlette's are marked with `private` (`endpoints.frameworks.starlette_marks`).

It rests on this: an included router is kept as it is, and asked with its own `matches(scope)` whether it has something
for a request, before any of its routes is (FastAPI 0.139 and newer; until 0.136 the routes were copied). That is tried
out when the first private router is made: with a FastAPI that does otherwise nothing starts.

FastAPI leaves out of its schema what is not `include_in_schema`. A private route has a value of its own there, which is
false to FastAPI, and so under every server; only the private side's schema (`endpoints.frameworks.fastapi_schema`)
knows that it means "here".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, cast

from fastapi import APIRouter, Depends, routing
from fastapi.exceptions import HTTPException, WebSocketException
from fastapi.requests import HTTPConnection
from fastapi.routing import APIRoute
from starlette.routing import Match, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from duallisten.endpoints.frameworks.starlette_marks import Probe, incompatible, private, public
from duallisten.sides import Side, side

__all__ = ["PrivateRoute", "PrivateRouter", "private", "public"]


class _InPrivateSchema:
    """False to whoever asks whether a route is in the schema, and yet not False."""

    def __bool__(self) -> bool:
        return False


IN_PRIVATE_SCHEMA: Final = cast(bool, _InPrivateSchema())
"""The `include_in_schema` of private routes. It is passed on through FastAPI's `route and router and inclusion`."""


def _private_schema(include_in_schema: bool) -> bool:
    return IN_PRIVATE_SCHEMA if include_in_schema else include_in_schema


class _HiddenRoute(APIRoute):
    """A path operation that the public side does not have."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match what the operation matches, for the private side."""
        return super().matches(scope) if side(scope) == "private" else (Match.NONE, {})


class PrivateRoute(_HiddenRoute):
    """A path operation that exists for the private side alone: `APIRouter(route_class=PrivateRoute)`.

    A `route_class` is for path operations; a router's WebSocket routes and mounts are not made with it. Where it has
    any, use a `PrivateRouter`. Raises LaunchError with a FastAPI in which that cannot be had.
    """

    duallisten_side: Side = "private"

    if not TYPE_CHECKING:  # a type checker sees the arguments of APIRoute

        def __init__(self, *args: Any, include_in_schema: bool = True, **options: Any) -> None:
            check_route_class()
            super().__init__(*args, include_in_schema=_private_schema(include_in_schema), **options)


class _HiddenRouter(APIRouter):
    """A router that has nothing for the public side."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match what one of its routes matches, for the private side. FastAPI asks it of an included router."""
        return super().matches(scope) if side(scope) == "private" else (Match.NONE, {})

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request where the router is mounted, or stands alone."""
        if scope["type"] == "lifespan" or side(scope) == "private":
            await super().app(scope, receive, send)
        else:
            await self.default(scope, receive, send)


class PrivateRouter(_HiddenRouter):
    """An `APIRouter` whose routes exist for the private side alone; it takes the same arguments.

    On the public side, and under a server that stamps nothing, its paths are answered as paths that were never
    declared. Raises LaunchError with a FastAPI in which that cannot be had.
    """

    duallisten_side: Side = "private"

    if not TYPE_CHECKING:  # a type checker sees the arguments of APIRouter

        def __init__(self, *args: Any, include_in_schema: bool = True, **options: Any) -> None:
            check_fastapi()
            super().__init__(*args, include_in_schema=_private_schema(include_in_schema), **options)

        def include_router(self, router: APIRouter, *, dependencies: Iterable[Any] = (), **options: Any) -> None:
            """Include a router, which is private by that.

            FastAPI looks for the files of frontends by another way, past the routers around them; a dependency is the
            one thing that it takes along there.
            """
            super().include_router(router, dependencies=[Depends(_neighbours_only), *(dependencies or ())], **options)

        def frontend(self, *args: Any, **options: Any) -> None:
            """Refuse to serve a frontend, for the reason above."""
            raise TypeError("a PrivateRouter has no frontend: mount StaticFiles on it")


async def _neighbours_only(connection: HTTPConnection) -> None:
    if side(connection) != "private":
        raise HTTPException(404) if connection.scope["type"] == "http" else WebSocketException(1000)


@cache
def check_route_class() -> None:
    """Ensure that this FastAPI asks a route of a class of its own; raises LaunchError where it does not."""

    async def operation() -> None: ...

    inner, router = APIRouter(route_class=_HiddenRoute), APIRouter(route_class=_HiddenRoute)
    inner.add_api_route("/x", operation)
    router.include_router(inner, prefix="/probe")
    Probe().check(router, "fastapi")


@cache
def check_fastapi() -> None:
    """Ensure that this FastAPI asks an included router before its routes; raises LaunchError where it does not."""
    frontends = getattr(routing, "_FrontendRouteGroup", None)
    takes_dependencies = frontends is None or "dependencies" in signature(frontends).parameters
    if not hasattr(routing, "iter_route_contexts") or not takes_dependencies:
        raise incompatible("fastapi")
    endpoint = Probe()

    async def operation() -> None: ...

    kinds: tuple[Callable[[APIRouter], object], ...] = (
        lambda router: router.add_api_route("/x", operation),
        lambda router: router.add_api_websocket_route("/x", operation),
        lambda router: router.routes.append(Route("/x", endpoint)),
        lambda router: router.routes.append(WebSocketRoute("/x", endpoint)),
        lambda router: router.mount("/", endpoint),
    )
    for add in kinds:
        inner, outer, router = _HiddenRouter(), APIRouter(), APIRouter()
        add(inner)
        outer.include_router(inner, prefix="/probe")
        router.include_router(outer)
        endpoint.check(router, "fastapi")
