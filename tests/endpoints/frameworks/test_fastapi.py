"""Private routers of FastAPI, as the world and the neighbours meet them over real sockets."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI, Header, Request, WebSocket
from fastapi.openapi.utils import get_openapi
from fastapi.responses import JSONResponse
from fastapi.routing import APIRoute
from pydantic import BaseModel
from starlette.responses import PlainTextResponse
from starlette.routing import Match, Mount, Route
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect
from websockets.sync.client import connect

from duallisten import LaunchError
from duallisten.endpoints.frameworks import fastapi, read_routes, starlette
from duallisten.fastapi import PrivateRoute, PrivateRouter, private, public
from duallisten.sides import Side
from duallisten.testing import Served, as_side, serve
from tests.endpoints.frameworks.exchange import METHODS, exchange, handshake


class Item(BaseModel):
    """What everybody may see."""

    name: str


class Supplier(BaseModel):
    """What only neighbours may see."""

    account: str


class Stock(BaseModel):
    item: Item
    supplier: Supplier


class LoudRoute(APIRoute):
    """A route class of somebody's own."""


def shop() -> FastAPI:
    app = FastAPI(openapi_tags=[{"name": "items"}, {"name": "internal"}])
    internal = PrivateRouter(prefix="/internal", tags=["internal"])
    loud = PrivateRouter(prefix="/loud", route_class=LoudRoute)
    inner = APIRouter(prefix="/inner")

    @app.get("/items/{name}", tags=["items"])
    def item(name: str) -> Item:
        return Item(name=name)

    @internal.get("/stock")
    def stock() -> Stock:
        return Stock(item=Item(name="apple"), supplier=Supplier(account="1"))

    @internal.post("/orders")
    def order(supplier: Supplier, token: Annotated[str, Header()]) -> Item:
        return Item(name=supplier.account + token)

    @internal.websocket("/feed")
    async def feed(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text("feed")
        await websocket.close()

    @inner.get("/deep")
    def deep(request: Request) -> str:
        return str(request.url_for("stock").path)

    @inner.websocket("/feed")
    async def inner_feed(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()

    @loud.get("/noise", include_in_schema=False)
    def noise() -> str:
        return "noise"

    internal.include_router(inner)
    internal.routes.append(Route("/bare", lambda request: PlainTextResponse("bare")))
    internal.mount("/files", app=PlainTextResponse("file"))
    loud.routes.append(Mount("/loudly", app=PlainTextResponse("loud")))
    app.include_router(internal)
    app.include_router(loud, prefix="/very")
    app.router.routes.append(private(Mount("/admin", app=PlainTextResponse("admin"))))
    return app


HIDDEN = (
    "/internal/stock",
    "/internal/stock/",
    "/internal/orders",
    "/internal/feed",
    "/internal/inner/deep",
    "/internal/inner/feed",
    "/bare",
    "/files/x",
    "/very/loud/noise",
    "/very/loudly",
    "/admin",
    "/admin/x",
)


@pytest.fixture(scope="module", params=["h11", "httptools"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serve(shop(), http=request.param) as served:
        yield served


@pytest.mark.parametrize("path", HIDDEN)
def test_the_world_cannot_tell_a_private_path_from_one_that_was_never_declared(served: Served, path: str) -> None:
    for method in METHODS:
        assert exchange(served.public, method, path) == exchange(served.public, method, path.upper())
        assert exchange(served.public, method, path).startswith(b"HTTP/1.1 404 ")
    assert handshake(served.public, path) == handshake(served.public, path.upper())
    assert handshake(served.public, path).startswith(b"HTTP/1.1 404 ")


def test_the_answer_is_the_application_s_own(served: Served) -> None:
    assert httpx.get(served.public + "/internal/stock").json() == {"detail": "Not Found"}


def test_the_neighbours_reach_everything(served: Served) -> None:
    assert httpx.get(served.private + "/items/apple").json() == {"name": "apple"}
    assert httpx.get(served.private + "/internal/stock").json()["supplier"] == {"account": "1"}
    assert httpx.get(served.private + "/internal/inner/deep").json() == "/internal/stock"
    assert httpx.get(served.private + "/internal/stock/").status_code == 307
    assert httpx.post(served.private + "/internal/stock").status_code == 405
    assert httpx.post(served.private + "/internal/orders").status_code == 422
    for path, text in (("/bare", "bare"), ("/files/x", "file"), ("/very/loudly/", "loud"), ("/admin/x", "admin")):
        assert httpx.get(served.private + path).text == text
    assert httpx.get(served.private + "/very/loud/noise").json() == "noise"
    for path in ("/internal/feed", "/internal/inner/feed"):
        with connect(served.private.replace("http", "ws") + path):
            pass


def test_under_a_server_that_knows_no_sides_nothing_private_exists() -> None:
    client = TestClient(shop(), follow_redirects=False)
    assert client.get("/items/apple").status_code == 200
    for path in HIDDEN:
        assert {client.request(method, path).status_code for method in METHODS} == {404}
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
            pass
    assert "internal" not in str(client.get("/openapi.json").json()["paths"])


# --- The documentation ---


def schema(url: str) -> dict[str, Any]:
    document: dict[str, Any] = httpx.get(url + "/openapi.json").json()
    return document


def test_each_side_has_a_schema_of_its_own(served: Served) -> None:
    public, private = schema(served.public), schema(served.private)
    assert list(public["paths"]) == ["/items/{name}"]
    assert set(public["components"]["schemas"]) == {"Item", "HTTPValidationError", "ValidationError"}
    assert [tag["name"] for tag in public["tags"]] == ["items"]
    assert list(private["paths"]) == ["/items/{name}", "/internal/stock", "/internal/orders", "/internal/inner/deep"]
    assert {"Item", "Stock", "Supplier"} < set(private["components"]["schemas"])
    assert [tag["name"] for tag in private["tags"]] == ["items", "internal"]
    for url in (served.public, served.private):
        assert "/openapi.json" in httpx.get(url + "/docs").text
        assert "/openapi.json" in httpx.get(url + "/redoc").text


def test_what_rules_hide_is_in_the_schema_of_the_private_side_alone() -> None:
    with serve(shop(), private_paths=["/items"]) as served:
        assert schema(served.public)["paths"] == {}
        assert "components" not in schema(served.public)
        assert "/items/{name}" in schema(served.private)["paths"]
    with serve(shop(), public_paths=["/openapi.json", "/docs"]) as served:
        assert schema(served.public)["paths"] == {}
        assert httpx.get(served.public + "/docs").status_code == 200
        assert httpx.get(served.public + "/redoc").status_code == 404


def make_private_router() -> PrivateRouter:
    """Make a private router with a route of each kind."""
    router, inner = PrivateRouter(), APIRouter(prefix="/inner")
    router.get("/stock")(lambda: "secret")
    router.routes.append(Route("/bare", PlainTextResponse("secret")))
    router.routes[:0] = [Mount("/files", PlainTextResponse("secret"))]
    router.routes += [Route("/last", PlainTextResponse("secret"))]
    router.routes.insert(0, Route("/first", PlainTextResponse("secret")))
    inner.get("/deep")(lambda: "secret")
    router.include_router(inner)

    @router.websocket("/feed")
    async def feed(socket: WebSocket) -> None:
        await socket.accept()
        await socket.close()

    return router


def extended(router: PrivateRouter) -> FastAPI:
    app = FastAPI()
    app.router.routes.extend(router.routes)
    return app


@pytest.mark.parametrize(
    "take",
    [
        extended,
        lambda router: FastAPI(routes=router.routes),
        lambda router: FastAPI(routes=[Mount("/", routes=router.routes)]),
    ],
    ids=["extended", "given", "mounted"],
)
def test_a_route_of_a_private_router_is_private_in_another_list(take: Callable[[PrivateRouter], FastAPI]) -> None:
    app = take(make_private_router())
    paths = ["/stock", "/bare", "/files/x", "/last", "/first", "/inner/deep"]
    if not isinstance(app.routes[-1], Mount):  # there Starlette serves them, which lacks FastAPI's exit stacks
        assert TestClient(as_side(app, "private")).get("/stock").json() == "secret"
    for path in ("/bare", "/files/x", "/first"):
        assert TestClient(as_side(app, "private")).get(path).text == "secret"
    for client in (TestClient(as_side(app, "public")), TestClient(app)):
        for path in paths:
            for method in ("GET", "POST", "OPTIONS"):
                assert client.request(method, path).json() == {"detail": "Not Found"}, path
        with pytest.raises(WebSocketDisconnect), client.websocket_connect("/feed"):
            pass
    assert {route.mark for route in read_routes(app) or () if route.path in paths} == {"private"}


def test_routes_of_a_private_router_cannot_be_included_without_it() -> None:
    """FastAPI would make them anew, and public."""
    app, router = FastAPI(), APIRouter()
    router.routes.extend(make_private_router().routes)
    app.include_router(router)
    with pytest.raises(LaunchError, match="is in a PrivateRouter that is not included"):
        as_side(app, "public")


def test_a_mounted_application_s_own_root_path_leads_past_no_rule() -> None:
    inner = FastAPI()
    inner.root_path = "/v1/new"
    inner.get("/stock")(lambda: "secret")
    inner.get("/shop")(lambda: "open")
    outer = FastAPI()
    outer.mount("/v1", inner)
    with serve(outer, private_paths=["/v1/stock"]) as served:
        assert httpx.get(f"{served.private}/v1/new/stock").json() == "secret"
        for path in ("/v1/new/stock", "/v1/new/%73tock", "/v1/new//stock", "/v1/stock"):
            assert httpx.get(served.public + path).text == "Not Found"
        assert httpx.get(f"{served.public}/v1/new/shop").json() == "open"


@pytest.mark.parametrize(("root_path", "own"), [("/api", ""), ("", "/api"), ("/api", "/api")])
def test_a_rule_with_the_root_path_hides_what_is_below_it(root_path: str, own: str) -> None:
    app = shop()
    app.root_path = own
    with serve(app, private_paths=["/api/items"], root_path=root_path) as served:
        for path in ("/items/apple", "/Items/apple", "/items.json"):
            assert httpx.get(served.public + path).text == "Not Found"
        assert httpx.get(served.private + "/items/apple").json() == {"name": "apple"}
        assert schema(served.public)["paths"] == {}
        assert "/items/{name}" in schema(served.private)["paths"]


def test_a_schema_may_itself_be_hidden() -> None:
    with serve(shop(), private_paths=["/openapi.json"]) as served:
        assert httpx.get(served.public + "/openapi.json").text == "Not Found"
        assert schema(served.private)["paths"]


def test_a_schema_is_made_once_for_a_side(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []

    def counted(**options: Any) -> dict[str, Any]:
        made.append(options)
        return get_openapi(**options)

    monkeypatch.setattr("duallisten.endpoints.frameworks.fastapi.get_openapi", counted)
    app = shop()
    public, private = TestClient(as_side(app, "public")), TestClient(as_side(app, "private"))
    for _ in range(3):
        assert public.get("/openapi.json").json()["paths"] != private.get("/openapi.json").json()["paths"]
    assert len(made) == 2

    @app.get("/new")
    def new() -> None: ...

    assert "/new" in public.get("/openapi.json").json()["paths"]


def test_a_schema_of_one_s_own_is_kept_on_both_sides() -> None:
    app = shop()
    original = app.openapi

    def customised() -> dict[str, Any]:
        document = dict(original())
        document["info"] = {**document["info"], "x-logo": "logo.png"}
        return document

    app.openapi = customised  # type: ignore[method-assign]
    for name in ("public", "private"):
        document = TestClient(as_side(app, name)).get("/openapi.json").json()
        assert document["info"]["x-logo"] == "logo.png"
        assert ("/internal/stock" in document["paths"]) == (name == "private")


def test_two_models_of_one_name_are_told_apart_on_the_private_side() -> None:
    app, internal = FastAPI(), PrivateRouter()

    def model(field: str) -> type[BaseModel]:
        return type("Thing", (BaseModel,), {"__annotations__": {field: str}, "__module__": f"module_{field}"})

    app.get("/outer", response_model=model("outer"))(lambda: None)
    internal.get("/inner", response_model=model("inner"))(lambda: None)
    app.include_router(internal)
    document = TestClient(as_side(app, "private")).get("/openapi.json").json()
    for path, field in (("/outer", "outer"), ("/inner", "inner")):
        reference = document["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]["$ref"]
        assert list(document["components"]["schemas"][reference.rpartition("/")[2]]["properties"]) == [field]


def test_an_application_behind_a_prefix_documents_each_side() -> None:
    outer = FastAPI()
    outer.mount("/shop", shop())
    with serve(outer, private_paths=["/shop/items"], root_path="/api") as served:
        public, private = schema(served.public + "/shop"), schema(served.private + "/shop")
    assert list(public["paths"]) == []
    assert "/internal/stock" in private["paths"]
    assert public["servers"] == private["servers"] == [{"url": "/api/shop"}]


@pytest.mark.parametrize("url", [None, "/api/schema.json"])
def test_the_schema_may_be_elsewhere_or_nowhere(url: str | None) -> None:
    app = FastAPI(openapi_url=url)
    internal = PrivateRouter()
    internal.get("/stock")(lambda: None)
    app.include_router(internal)
    client = TestClient(as_side(app, "private"))
    assert client.get("/openapi.json").status_code == 404
    if url:
        assert "/stock" in client.get(url).json()["paths"]


# --- Ways to declare ---


def test_path_operations_may_be_private_by_their_route_class() -> None:
    app, router = FastAPI(), APIRouter(prefix="/internal", route_class=PrivateRoute)
    router.get("/stock")(lambda: "stock")
    router.get("/quiet", include_in_schema=False)(lambda: "quiet")
    app.include_router(router)
    assert TestClient(app).get("/internal/stock").status_code == 404
    assert TestClient(app).get("/openapi.json").json()["paths"] == {}
    client = TestClient(as_side(app, "private"))
    assert client.get("/internal/stock").json() == "stock"
    assert list(client.get("/openapi.json").json()["paths"]) == ["/internal/stock"]


def test_a_single_route_may_be_marked_private() -> None:
    app = FastAPI()
    app.router.routes.append(private(APIRoute("/stock", lambda: Item(name="x"), response_model=Item)))
    app.router.routes.append(private(APIRoute("/quiet", lambda: "x", include_in_schema=False)))
    assert TestClient(app).get("/stock").status_code == 404
    assert TestClient(app).get("/openapi.json").json()["paths"] == {}
    client = TestClient(as_side(app, "private"))
    assert client.get("/stock").json() == {"name": "x"}
    assert list(client.get("/openapi.json").json()["paths"]) == ["/stock"]


def test_a_private_router_may_be_served_or_mounted_by_itself() -> None:
    router = PrivateRouter(routes=[Route("/stock", lambda request: JSONResponse("stock"))])
    app = FastAPI()
    app.mount("/internal", router)
    for application, path in ((router, "/stock"), (app, "/internal/stock")):
        assert TestClient(application).get(path).status_code == 404
        assert TestClient(as_side(application, "private")).get(path).json() == "stock"


def test_routes_declared_after_their_router_was_included_are_private_too() -> None:
    app, internal = FastAPI(), PrivateRouter(prefix="/internal")
    app.include_router(internal)
    internal.get("/late")(lambda: "late")
    assert TestClient(app).get("/internal/late").status_code == 404
    assert TestClient(as_side(app, "private")).get("/internal/late").json() == "late"


def test_a_private_router_keeps_its_dependencies_and_lifespan() -> None:
    seen: list[str] = []

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        seen.append("started")
        yield

    internal = PrivateRouter(dependencies=[Depends(lambda: seen.append("own"))], lifespan=lifespan)
    inner = APIRouter()
    inner.get("/stock")(lambda: "stock")
    internal.include_router(inner, dependencies=[Depends(lambda: seen.append("included"))])
    app = FastAPI()
    app.include_router(internal)
    with TestClient(as_side(app, "private")) as client:
        assert client.get("/stock").json() == "stock"
    assert seen == ["started", "own", "included"]


def test_a_frontend_behind_a_private_router_is_not_shown(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text("REACHED")
    app, internal, inner = FastAPI(), PrivateRouter(), APIRouter()
    internal.include_router(inner)
    app.include_router(internal)
    inner.frontend("/front", directory=tmp_path)
    assert TestClient(app).get("/front/").status_code == 404
    assert TestClient(as_side(app, "private")).get("/front/").text == "REACHED"
    with pytest.raises(TypeError, match="mount StaticFiles"):
        internal.frontend("/front", directory=tmp_path)


def test_a_marked_route_that_fastapi_would_leave_out_stops_the_launch() -> None:
    app, router = FastAPI(), APIRouter()
    router.routes.append(private(Route("/stock", lambda request: PlainTextResponse("stock"))))
    app.include_router(router)
    assert TestClient(app).get("/stock").status_code == 404
    with pytest.raises(LaunchError, match=r"private\(Route.*use a PrivateRouter"):
        as_side(app, "private")


def test_a_websocket_that_a_private_route_class_does_not_make_private_stops_the_launch() -> None:
    async def feed(websocket: WebSocket) -> None: ...

    app, router = FastAPI(), APIRouter(route_class=PrivateRoute)
    app.include_router(router)
    router.websocket("/feed")(feed)
    with pytest.raises(LaunchError, match=r"path='/feed'.* is public, because .* use a PrivateRouter"):
        as_side(app, "public")
    outer, private_outer = FastAPI(), PrivateRouter()
    private_outer.include_router(router)
    outer.include_router(private_outer)
    as_side(outer, "public")
    public(feed)
    as_side(app, "public")


@pytest.mark.parametrize(
    "make", [lambda: public(APIRouter(prefix="/a")), lambda: APIRouter(prefix="/a")], ids=["router", "endpoint"]
)
def test_public_things_are_declared_so(make: Callable[[], APIRouter]) -> None:
    app, router = FastAPI(), make()
    router.get("/b")(public(lambda: "b"))
    app.include_router(router)
    routes = {route.path: (route.mark, route.per_side) for route in read_routes(app) or ()}
    assert routes.pop("/a/b") == ("public", False)
    assert set(routes.values()) == {(None, True)}
    assert TestClient(app).get("/a/b").json() == "b"


def test_every_route_is_read_with_its_prefix_and_mark() -> None:
    routes = [route for route in read_routes(shop()) or () if not route.per_side]
    assert [(route.path, route.kind, route.mark) for route in routes] == [
        ("/items/{name}", "http", None),
        ("/internal/stock", "http", "private"),
        ("/internal/orders", "http", "private"),
        ("/internal/feed", "websocket", "private"),
        ("/internal/inner/deep", "http", "private"),
        ("/internal/inner/feed", "websocket", "private"),
        ("/bare", "http", "private"),
        ("/files", "mount", "private"),
        ("/very/loud/noise", "http", "private"),
        ("/very/loudly", "mount", "private"),
        ("/admin", "mount", "private"),
    ]


def test_our_own_routes_are_not_shown_and_added_once() -> None:
    app = shop()
    before = read_routes(app)
    for name in ("public", "private", "public"):
        as_side(app, name)
    assert read_routes(app) == before
    assert sum(getattr(route, "path", "") == "/openapi.json" for route in app.routes) == 2


# --- Other versions of FastAPI ---


@pytest.fixture
def unchecked() -> Iterator[None]:
    checks = (fastapi.check_fastapi, fastapi.check_route_class, starlette.check_router)
    for check in checks:
        check.cache_clear()
    yield
    for check in checks:
        check.cache_clear()


def test_a_fastapi_that_copies_included_routes_is_refused(monkeypatch: pytest.MonkeyPatch, unchecked: None) -> None:
    def copying(self: APIRouter, router: APIRouter, *, prefix: str = "", **options: Any) -> None:
        for route in router.routes:
            if isinstance(route, APIRoute):
                self.add_api_route(prefix + route.path, route.endpoint, methods=list(route.methods or ()))

    monkeypatch.setattr(APIRouter, "include_router", copying)
    with pytest.raises(LaunchError, match=r"fastapi \S+ does not keep private routes .*--private-path"):
        PrivateRouter()


def test_a_fastapi_that_asks_no_router_is_refused(monkeypatch: pytest.MonkeyPatch, unchecked: None) -> None:
    from fastapi.routing import _IncludedRouter

    monkeypatch.setattr(_IncludedRouter, "matches", lambda self, scope: self._match(scope)[:2])
    with pytest.raises(LaunchError, match="does not keep private routes"):
        PrivateRouter()


def test_a_fastapi_that_asks_no_route_is_refused(monkeypatch: pytest.MonkeyPatch, unchecked: None) -> None:
    from fastapi.routing import _EffectiveRouteContext, _IncludedRouter

    def unasked(self: Any, scope: Any) -> Any:
        for context in self.effective_candidates():
            if isinstance(context, _EffectiveRouteContext):
                return (*context.matches(scope), None, None)
        return Match.NONE, {}, None, None

    monkeypatch.setattr(_IncludedRouter, "_match", unasked)
    with pytest.raises(LaunchError, match="does not keep private routes"):
        PrivateRoute("/stock", lambda: None)


def test_a_fastapi_whose_router_forgets_to_ask_is_refused(monkeypatch: pytest.MonkeyPatch, unchecked: None) -> None:
    async def forgets_to_ask(self: APIRouter, scope: Any, receive: Any, send: Any) -> None:
        for route in self.routes:
            await vars(route)["route"].app(scope, receive, send)

    monkeypatch.setattr(APIRouter, "app", forgets_to_ask)
    with pytest.raises(LaunchError, match=r"fastapi \S+ does not keep private routes"):
        private(Route("/stock", lambda request: PlainTextResponse("stock")))


def test_a_fastapi_whose_frontends_take_no_dependencies_is_refused(
    monkeypatch: pytest.MonkeyPatch, unchecked: None
) -> None:
    monkeypatch.setattr("fastapi.routing._FrontendRouteGroup", object)
    with pytest.raises(LaunchError, match="does not keep private routes"):
        PrivateRouter()


def test_a_fastapi_that_has_no_contexts_of_routes_is_refused(monkeypatch: pytest.MonkeyPatch, unchecked: None) -> None:
    monkeypatch.delattr("fastapi.routing.iter_route_contexts")
    with pytest.raises(LaunchError, match="does not keep private routes"):
        PrivateRouter()


@pytest.mark.parametrize("name", ["public", "private"])
def test_errors_are_handled_as_the_application_says(name: Side, caplog: pytest.LogCaptureFixture) -> None:
    app = shop()

    @app.exception_handler(404)
    async def not_found(request: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"sorry": request.url.path}, status_code=404)

    caplog.set_level(logging.ERROR)
    client = TestClient(as_side(app, name))
    assert client.get("/nowhere").json() == {"sorry": "/nowhere"}
    assert (client.get("/internal/stock").json() == {"sorry": "/internal/stock"}) == (name == "public")
    assert not caplog.records
