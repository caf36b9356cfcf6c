"""FastAPI: private routers, and documentation for each side.

    internal = PrivateRouter(prefix="/internal")

    @internal.get("/stock")
    def stock() -> dict[str, int]: ...

    @internal.websocket("/feed")
    async def feed(websocket: WebSocket) -> None: ...

    app.include_router(internal)

A `PrivateRouter` is an `APIRouter` whose routes exist only for the private side: path operations, WebSocket routes,
mounts, and the routers included in it. `PrivateRoute` is a `route_class` that does the same for path operations.
Starlette routes are marked with `private` (`endpoints.frameworks.starlette`).

This relies on FastAPI keeping an included router as an object and calling the router's own `matches(scope)` before it
asks any of the router's routes (FastAPI 0.139 and newer; until 0.136 the routes were copied). This is tested when the
first private router is made; if the installed FastAPI behaves differently, the launch fails.

FastAPI leaves routes without `include_in_schema` out of its schema. A private route has a special value there. It is
false, so FastAPI leaves the route out under every server. Only the private side's schema includes such routes.

The schema is served at the application's own URL, by a route before FastAPI's, behind the application's own middleware.
The public side's schema omits the paths that path rules hide. Each schema is built once, and again when FastAPI's own
changes. Pages that show the schema (`/docs`, `/redoc`) request it at that URL, on their own side.

Invariants:

- A router never sees a route that is hidden from it, under any server.
- The public schema contains nothing that FastAPI's own schema does not.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from functools import cache
from inspect import signature
from typing import TYPE_CHECKING, Any, Final, Self, SupportsIndex, cast

from fastapi import APIRouter, Depends, FastAPI, routing
from fastapi.exceptions import HTTPException, WebSocketException
from fastapi.openapi.utils import get_openapi
from fastapi.requests import HTTPConnection, Request
from fastapi.responses import JSONResponse, Response
from fastapi.routing import APIRoute
from starlette.routing import BaseRoute, Match, Route, WebSocketRoute
from starlette.types import Receive, Scope, Send

from duallisten.endpoints.frameworks import starlette
from duallisten.endpoints.frameworks.starlette import (
    Probe,
    aliases,
    incompatible,
    mark_of,
    mounted_apps,
    private,
    public,
    read_routes,
)
from duallisten.endpoints.openapi import merged, without_paths, without_unused
from duallisten.endpoints.path_rules import NO_RULES, Rules
from duallisten.errors import LaunchError
from duallisten.sides import Side, side

__all__ = ["PrivateRoute", "PrivateRouter", "aliases", "mounted_apps", "prepare", "private", "public", "read_routes"]


class _InPrivateSchema:
    """A false value other than `False`, for routes that only the private side's schema includes."""

    def __bool__(self) -> bool:
        return False


IN_PRIVATE_SCHEMA: Final = cast(bool, _InPrivateSchema())
"""The `include_in_schema` of private routes. FastAPI's `route and router and inclusion` passes it on."""


class _HiddenRoute(APIRoute):
    """A path operation that does not exist on the public side."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as an `APIRoute` does on the private side, and nothing elsewhere."""
        return super().matches(scope) if side(scope) == "private" else (Match.NONE, {})


class PrivateRoute(_HiddenRoute):
    """A path operation that exists only on the private side: `APIRouter(route_class=PrivateRoute)`.

    A `route_class` applies only to path operations. If the router has WebSocket routes or mounts, use a
    `PrivateRouter`.

    Args:
        args: As for `fastapi.routing.APIRoute`.
        options: As for `fastapi.routing.APIRoute`.
        include_in_schema: Whether it is in the private side's schema.

    Raises:
        LaunchError: The installed FastAPI does not hide such a route from the public side.
    """

    duallisten_side: Side = "private"

    if not TYPE_CHECKING:  # a type checker sees the arguments of APIRoute

        def __init__(self, *args: Any, include_in_schema: bool = True, **options: Any) -> None:
            check_route_class()
            super().__init__(*args, include_in_schema=include_in_schema and IN_PRIVATE_SCHEMA, **options)


class _HiddenRouter(APIRouter):
    """A router that does not exist on the public side."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """Match as an `APIRouter` does on the private side, and nothing elsewhere; FastAPI calls it if included."""
        return super().matches(scope) if side(scope) == "private" else (Match.NONE, {})

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request if the router is mounted or is the whole application."""
        if scope["type"] == "lifespan" or side(scope) == "private":
            await super().app(scope, receive, send)
        else:
            await self.default(scope, receive, send)


class _HiddenRoutes(list[BaseRoute]):
    """The routes of a private router. Each is hidden by itself, too: a program may put them into another list."""

    def __init__(self, routes: Iterable[BaseRoute]) -> None:
        super().__init__(map(_hide, routes))

    def append(self, route: BaseRoute) -> None:
        super().append(_hide(route))

    def insert(self, index: SupportsIndex, route: BaseRoute) -> None:
        super().insert(index, _hide(route))

    def extend(self, routes: Iterable[BaseRoute]) -> None:
        super().extend(map(_hide, routes))

    def __iadd__(self, routes: Iterable[BaseRoute]) -> Self:  # type: ignore[override, misc]
        self.extend(routes)
        return self

    def __setitem__(self, at: Any, new: Any) -> None:
        super().__setitem__(at, map(_hide, new) if isinstance(at, slice) else _hide(new))


def _hide(route: BaseRoute) -> BaseRoute:
    """Have a route match nothing for the public side, in whatever list it stands; FastAPI copies some of them."""
    if mark_of(route) != "private":
        kind: Any = type(route)
        route.__class__ = _hidden(kind)
    return route


@cache
def _hidden(kind: type[BaseRoute]) -> type[BaseRoute]:
    """Return a kind of routes that match for the private side alone, and are of the kind in all else."""

    def matches(self: BaseRoute, scope: Scope) -> tuple[Match, Scope]:
        return kind.matches(self, scope) if side(scope) == "private" else (Match.NONE, {})

    return type(kind.__name__, (kind,), {"matches": matches, starlette.MARK: "private"})


class PrivateRouter(_HiddenRouter):
    """An `APIRouter` whose routes exist only on the private side.

    On the public side, and under a server that does not stamp the side, its paths are answered like paths that were
    never declared. Its routes stay private in another router's list, too (`app.router.routes.extend(router.routes)`).

    Args:
        args: As for `fastapi.APIRouter`.
        options: As for `fastapi.APIRouter`.
        include_in_schema: Whether its routes are in the private side's schema.

    Raises:
        LaunchError: The installed FastAPI does not hide such a router's routes from the public side.
    """

    duallisten_side: Side = "private"

    if not TYPE_CHECKING:  # a type checker sees the arguments of APIRouter

        def __init__(self, *args: Any, include_in_schema: bool = True, **options: Any) -> None:
            check_fastapi()
            super().__init__(*args, include_in_schema=include_in_schema and IN_PRIVATE_SCHEMA, **options)
            self.routes = _HiddenRoutes(self.routes)

        def include_router(self, router: APIRouter, *, dependencies: Iterable[Any] = (), **options: Any) -> None:
            """Include a router, which thereby becomes private; the arguments are those of `APIRouter.include_router`.

            FastAPI looks up the files of frontends without asking the routers around them. It applies only the
            routers' dependencies there, so a dependency checks the side.
            """
            super().include_router(router, dependencies=[Depends(_neighbours_only), *(dependencies or ())], **options)

        def frontend(self, *args: Any, **options: Any) -> None:
            """Refuse to serve a frontend: FastAPI would not ask this router (see `include_router`)."""
            raise TypeError("a PrivateRouter has no frontend(): mount StaticFiles on it")


async def _neighbours_only(connection: HTTPConnection) -> None:
    if side(connection) != "private":
        raise HTTPException(404) if connection.scope["type"] == "http" else WebSocketException(1000)


# --- Checks that FastAPI keeps private routes private ---


async def _operation() -> None: ...


@cache
def check_route_class() -> None:
    """Ensure that this FastAPI calls `matches` of a custom `route_class`; raises LaunchError if it does not."""
    inner, router = APIRouter(route_class=_HiddenRoute), APIRouter(route_class=_HiddenRoute)
    inner.add_api_route("/x", _operation)
    router.include_router(inner, prefix="/probe")
    Probe().check(router, "fastapi")


@cache
def check_fastapi() -> None:
    """Ensure that this FastAPI asks an included router before its routes; raises LaunchError if it does not."""
    frontends = getattr(routing, "_FrontendRouteGroup", None)
    takes_dependencies = frontends is None or "dependencies" in signature(frontends).parameters
    if not hasattr(routing, "iter_route_contexts") or not takes_dependencies:
        raise incompatible("fastapi")
    endpoint = Probe()
    kinds: tuple[Callable[[APIRouter], object], ...] = (
        lambda router: router.add_api_route("/x", _operation),
        lambda router: router.add_api_websocket_route("/x", _operation),
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


# --- Applications ---


def prepare(app: FastAPI | APIRouter, *, has_private_websocket: bool) -> None:
    """Add a route that serves each side its own schema, at the application's schema URL; no effect if called again.

    Raises LaunchError if FastAPI would not treat a mark as its author meant it.
    """
    starlette.prepare(app, has_private_websocket=has_private_websocket)
    _check_marks(app.routes)
    routes = app.routes
    if not isinstance(app, FastAPI) or any(isinstance(route, _SchemaRoute) for route in routes):
        return
    for index, route in enumerate(routes):
        if app.openapi_url and getattr(route, "path", "") == app.openapi_url:
            routes.insert(index, _SchemaRoute(app, app.openapi_url))
            return


def _check_marks(routes: Iterable[BaseRoute], *, hidden: bool = False) -> None:
    """Ensure that FastAPI treats each mark in an included router as its author meant it; raises LaunchError.

    hidden: whether the routes are inside a private router
    """
    for route in routes:
        if (router := getattr(route, "original_router", None)) is None:
            continue
        inside = hidden or isinstance(router, PrivateRouter)
        half_private = issubclass(router.route_class, PrivateRoute) and not inside
        for inner in router.routes:
            if isinstance(inner, starlette.PrivateRoute):
                raise LaunchError(f"{inner!r} is in an included router, which FastAPI drops: use a PrivateRouter")
            if not inside and mark_of(inner) == "private" and not isinstance(inner, APIRoute):
                raise LaunchError(f"{inner!r} is in a PrivateRouter that is not included: include the PrivateRouter")
            if half_private and isinstance(inner, WebSocketRoute) and not mark_of(inner, inner.endpoint):
                raise LaunchError(
                    f"{inner!r} is public, because a route_class applies to path operations only: use a PrivateRouter"
                )
        _check_marks(router.routes, hidden=inside)


class _SchemaRoute(Route):
    """Serves the schema if the side is known; otherwise FastAPI serves its own, without private routes."""

    duallisten_own = True

    def __init__(self, app: FastAPI, url: str) -> None:
        super().__init__(url, self._answer, include_in_schema=False)
        self._app = app
        self._made: dict[Any, tuple[Any, Mapping[str, Any]]] = {}

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        return super().matches(scope) if "duallisten" in scope.get("extensions", {}) else (Match.NONE, {})

    async def _answer(self, request: Request) -> Response:
        root_path = request.scope.get("root_path", "").rstrip("/")
        app_root = request.scope.get("app_root_path", root_path).rstrip("/")
        mounted_at = root_path.removeprefix(app_root)
        rules = request.scope["extensions"]["duallisten"].get("rules", NO_RULES).below([app_root])
        schema = self._schema(side(request), rules, mounted_at)
        servers = schema.get("servers", [])
        if root_path and self._app.root_path_in_servers and root_path not in {each.get("url") for each in servers}:
            schema = {**schema, "servers": [{"url": root_path}, *servers]}
        return JSONResponse(schema)

    def _schema(self, name: Side, rules: Rules, mounted_at: str) -> Mapping[str, Any]:
        """Return the schema of a side, built again when the application's own has changed."""
        own = self._app.openapi()
        key = (name, rules, mounted_at)
        made_from, schema = self._made.get(key, (None, {}))
        if made_from is not own:
            schema = everything = merged(own, _with_private_routes(self._app))
            if name == "public":
                left_out = [item for path, item in everything["paths"].items() if path not in own.get("paths", {})]
                shown = without_unused(own, everything, left_out)
                schema = without_paths(shown, lambda path: rules.hide(mounted_at + path))
            self._made[key] = own, schema
        return schema


def _with_private_routes(app: FastAPI) -> dict[str, Any]:
    """Build a schema that includes the private routes."""
    if not hasattr(routing, "iter_route_contexts"):  # before FastAPI 0.138: there are no private routers
        return {}
    routes = [route.route if isinstance(route, starlette.PrivateRoute) else route for route in app.routes]
    return get_openapi(
        title=app.title,
        version=app.version,
        openapi_version=app.openapi_version,
        routes=[_documented(context) for context in routing.iter_route_contexts(routes)],
        separate_input_output_schemas=app.separate_input_output_schemas,
    )


def _documented(context: Any) -> Any:
    """Return the context of a route, changed to be in the schema if the route is in the private side's schema."""
    if getattr(context, "include_in_schema", None) is not IN_PRIVATE_SCHEMA:
        return context
    shown = copy.copy(context._route_context or context.original_route)
    shown.include_in_schema = True
    if context._route_context is None:
        return type(context)(shown)
    return type(context)(context.route, shown)
