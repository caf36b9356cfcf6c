"""Applications of FastAPI, made ready for two sides: each gets its own schema, and no mark is lost.

The schema is answered at the application's own URL, by a route before FastAPI's, behind the application's own
middleware. The private side's has the private routes in it, which FastAPI's leaves out
(`endpoints.frameworks.fastapi_marks.IN_PRIVATE_SCHEMA`); the public side's is without what path rules hide. Each is
made once, and again when FastAPI's own changes. Pages that show the schema (`/docs`, `/redoc`) ask for it at that URL,
on the side that they are on.

What it must never do: put into the public schema what FastAPI's own has not.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

from fastapi import FastAPI, routing
from fastapi.openapi.utils import get_openapi
from fastapi.requests import Request
from fastapi.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Match, Route, WebSocketRoute
from starlette.types import Scope

from duallisten.endpoints.frameworks.fastapi_marks import IN_PRIVATE_SCHEMA, PrivateRoute, PrivateRouter
from duallisten.endpoints.frameworks.starlette_marks import PrivateRoute as MarkedRoute
from duallisten.endpoints.frameworks.starlette_marks import mark_of
from duallisten.endpoints.frameworks.starlette_routes import mounted_apps, read_routes, root_paths
from duallisten.endpoints.frameworks.starlette_routes import prepare as prepare_routers
from duallisten.endpoints.openapi import merged, without_paths, without_unused
from duallisten.endpoints.path_rules import NO_RULES, Rules
from duallisten.errors import LaunchError
from duallisten.sides import Side, side

__all__ = ["mounted_apps", "prepare", "read_routes", "root_paths"]


def prepare(app: FastAPI) -> None:
    """Give each side its own schema, at the URL and in the place of the application's own; once.

    Raises LaunchError where FastAPI would do something else with a mark than was meant.
    """
    prepare_routers(app)
    _check_marks(app.routes)
    if isinstance(app, FastAPI):
        _document_sides(app)


def _check_marks(routes: Iterable[BaseRoute], *, hidden: bool = False) -> None:
    """Ensure that each mark in an included router does what its author meant by it; raises LaunchError.

    hidden: whether a private router is around them
    """
    for route in routes:
        if (router := getattr(route, "original_router", None)) is None:
            continue
        inside = hidden or isinstance(router, PrivateRouter)
        half_private = issubclass(router.route_class, PrivateRoute) and not inside
        for inner in router.routes:
            if isinstance(inner, MarkedRoute):
                raise LaunchError(
                    f"{inner!r} is in an included router, where FastAPI leaves it out: use a PrivateRouter"
                )
            if half_private and isinstance(inner, WebSocketRoute) and not mark_of(inner, inner.endpoint):
                raise LaunchError(f"{inner!r} is public: a route_class is for path operations; use a PrivateRouter")
        _check_marks(router.routes, hidden=inside)


def _document_sides(app: FastAPI) -> None:
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
        """Return the schema of a side, made anew when the application's own is."""
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
    """Build a schema with the private routes in it."""
    if not hasattr(routing, "iter_route_contexts"):  # before FastAPI 0.138, in which there are no private routers
        return {}
    return get_openapi(
        title=app.title,
        version=app.version,
        openapi_version=app.openapi_version,
        routes=[
            _documented(context)
            for context in routing.iter_route_contexts(
                [getattr(route, "route", route) if isinstance(route, MarkedRoute) else route for route in app.routes]
            )
        ],
        separate_input_output_schemas=app.separate_input_output_schemas,
    )


def _documented(context: Any) -> Any:
    """Return a route with what it is in its inclusion, to be in the schema if it is in the private one."""
    if getattr(context, "include_in_schema", None) is not IN_PRIVATE_SCHEMA:
        return context
    shown = copy.copy(context._route_context or context.original_route)
    shown.include_in_schema = True
    if context._route_context is None:
        return type(context)(shown)
    return type(context)(context.route, shown)
