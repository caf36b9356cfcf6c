"""Private routers of FastAPI, and its documentation for each side.

    internal = PrivateRouter(prefix="/internal")

    @internal.get("/stock")
    def stock() -> dict[str, int]: ...

    @internal.websocket("/feed")
    async def feed(websocket: WebSocket) -> None: ...

    app.include_router(internal)

A `PrivateRouter` is an `APIRouter` whose routes exist for the private side alone: path operations, WebSocket routes,
mounts, and the routers included in it. `PrivateRoute` is a `route_class` that does so for path operations. Routes of
Starlette's are marked with `private` (`duallisten.starlette`).

It rests on this: an included router is kept as it is, and asked with its own `matches(scope)` whether it has something
for a request, before any of its routes is (FastAPI 0.138 and newer; until 0.136 the routes were copied). That is tried
out when the first private router is made: with a FastAPI that does otherwise nothing starts.

The schema. FastAPI leaves out of it what is not `include_in_schema`. A private route has a value of its own there,
which is false to FastAPI, and so to every server; only the private side's schema knows that it means "here". What path
rules hide is taken out of the public schema. Each is made once.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, Final, cast

from fastapi import APIRouter, Depends, FastAPI
from fastapi.exceptions import HTTPException, WebSocketException
from fastapi.openapi.utils import get_openapi
from fastapi.requests import HTTPConnection, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.routing import Match, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from duallisten.admission import Side
from duallisten.endpoints import side
from duallisten.openapi import merged, without_paths, without_unused
from duallisten.rules import NO_RULES, Rules
from duallisten.starlette import PrivateRoute as MarkedRoute
from duallisten.starlette import Probe, mounted_apps, private, public, read_routes, root_paths

__all__ = ["PrivateRoute", "PrivateRouter", "mounted_apps", "private", "public", "read_routes", "root_paths"]


class _InPrivateSchema:
    """False to whoever asks whether a route is in the schema, and yet not False."""

    def __bool__(self) -> bool:
        return False


IN_PRIVATE_SCHEMA: Final = cast(bool, _InPrivateSchema())
"""The `include_in_schema` of private routes. It is passed on through FastAPI's `route and router and inclusion`."""


def _private_schema(include_in_schema: bool) -> bool:
    return IN_PRIVATE_SCHEMA if include_in_schema else include_in_schema


class PrivateRoute(APIRoute):
    """A path operation that exists for the private side alone: `APIRouter(route_class=PrivateRoute)`.

    A `route_class` is for path operations; a router's WebSocket routes and mounts are not made with it. Where it has
    any, use a `PrivateRouter`.
    """

    duallisten_side: Side = "private"

    if not TYPE_CHECKING:  # a type checker sees the arguments of APIRoute

        def __init__(self, *args: Any, include_in_schema: bool = True, **options: Any) -> None:
            super().__init__(*args, include_in_schema=_private_schema(include_in_schema), **options)

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match what the operation matches, for the private side."""
        return super().matches(scope) if side(scope) == "private" else (Match.NONE, {})


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
def check_fastapi() -> None:
    """See that this FastAPI asks an included router before its routes; raises LaunchError where it does not."""
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


def document_sides(app: FastAPI) -> None:
    """Give each side its own schema, at the URL and in the place of the application's own; once."""
    routes = app.router.routes
    if not app.openapi_url or any(isinstance(route, _SchemaRoute) for route in routes):
        return
    index = next((index for index, route in enumerate(routes) if getattr(route, "path", "") == app.openapi_url), None)
    if index is not None:
        routes.insert(index, _SchemaRoute(app))


class _SchemaRoute(Route):
    """Answers for the schema where the side is known; elsewhere FastAPI does, with what is public in any case."""

    duallisten_own = True

    def __init__(self, app: FastAPI) -> None:
        assert app.openapi_url  # noqa: S101
        super().__init__(app.openapi_url, self._answer, include_in_schema=False)
        self._app = app
        self._made: dict[Any, tuple[Any, Mapping[str, Any]]] = {}

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if "duallisten" in scope.get("extensions", {}) else (Match.NONE, {})

    async def _answer(self, request: Request) -> Response:
        root_path = request.scope.get("root_path", "").rstrip("/")
        mounted_at = root_path.removeprefix(request.scope.get("app_root_path", root_path).rstrip("/"))
        rules = request.scope["extensions"]["duallisten"].get("rules", NO_RULES)
        schema = self._schema(side(request), rules, mounted_at)
        servers = schema.get("servers", [])
        if root_path and self._app.root_path_in_servers and root_path not in {each.get("url") for each in servers}:
            schema = {**schema, "servers": [{"url": root_path}, *servers]}
        return JSONResponse(schema)

    def _schema(self, name: Side, rules: Rules, mounted_at: str) -> Mapping[str, Any]:
        """Give the schema of a side, made anew when the application's own is."""
        own = self._app.openapi()
        key = (name, rules, mounted_at)
        made_from, schema = self._made.get(key, (None, {}))
        if made_from is not own:
            everything = merged(own, _with_private_routes(self._app))
            schema = everything if name == "private" else _public(own, everything, rules, mounted_at)
            self._made[key] = own, schema
        return schema


def _public(own: Mapping[str, Any], everything: Mapping[str, Any], rules: Rules, mounted_at: str) -> dict[str, Any]:
    """Take out of the application's own schema what rules hide, and what only the routes it leaves out have use for."""
    left_out = [item for path, item in everything["paths"].items() if path not in own.get("paths", {})]
    return without_paths(without_unused(own, everything, left_out), lambda path: rules.hide(mounted_at + path))


def _with_private_routes(app: FastAPI) -> dict[str, Any]:
    """Make a schema with the private routes in it."""
    from fastapi.routing import iter_route_contexts  # newer than the FastAPI that path rules need

    return get_openapi(
        title=app.title,
        version=app.version,
        openapi_version=app.openapi_version,
        routes=[
            _documented(context)
            for context in iter_route_contexts(
                [getattr(route, "route", route) if isinstance(route, MarkedRoute) else route for route in app.routes]
            )
        ],
        separate_input_output_schemas=app.separate_input_output_schemas,
    )


def _documented(context: Any) -> Any:
    """Give a route with what it is in its inclusion, to be in the schema if it is in the private one."""
    if getattr(context, "include_in_schema", None) is not IN_PRIVATE_SCHEMA:
        return context
    shown = copy.copy(context._route_context or context.original_route)
    shown.include_in_schema = True
    if context._route_context is None:
        return type(context)(shown)
    return type(context)(context.route, shown)
