"""Private routes of Starlette, as the world and the neighbours meet them over real sockets."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.endpoints import HTTPEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Host, Mount, Route, Router, WebSocketRoute
from starlette.testclient import TestClient
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.sync.client import connect

from duallisten import LaunchError
from duallisten.endpoints.frameworks import read_routes, starlette
from duallisten.sides import Side
from duallisten.starlette import PrivateRoute, private, public
from duallisten.testing import Served, as_side, serve
from tests.endpoints.frameworks.exchange import METHODS, exchange, handshake


async def home(request: Request) -> Response:
    return PlainTextResponse("home")


async def stock(request: Request) -> Response:
    return PlainTextResponse(f"stock {request.url_for('feed')} {request.scope['route'].path}")


class Orders(HTTPEndpoint):
    """An endpoint as a class."""

    async def get(self, request: Request) -> Response:
        return PlainTextResponse("orders")


async def feed(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text("feed")
    await websocket.close()


async def not_found(request: Request, error: Exception) -> Response:
    return PlainTextResponse(f"no such page: {request.url.path}", status_code=404)


def shop() -> Starlette:
    routes: list[BaseRoute] = [
        Route("/", home),
        private(Route("/stock", stock)),
        private(Route("/orders", Orders)),
        private(Route("/things/{name:path}", home)),
        private(WebSocketRoute("/feed", feed, name="feed")),
        private(Mount("/admin", routes=[Route("/users", home)])),
        private(Host("internal.example", app=Router(routes=[Route("/hosted", home)]))),
        Mount("/api", routes=[Route("/open", home), private(Route("/closed", home))]),
        Route("/both", home, methods=["GET"]),
        private(Route("/both", home, methods=["POST"])),
    ]
    return Starlette(routes=routes, exception_handlers={404: not_found})


HIDDEN = ("/stock", "/stock/", "/orders", "/things/a/b", "/feed", "/admin", "/admin/", "/admin/users", "/api/closed")


@pytest.fixture(scope="module", params=["h11", "httptools"])
def served(request: pytest.FixtureRequest) -> Iterator[Served]:
    with serve(shop(), http=request.param) as served:
        yield served


@pytest.mark.parametrize("path", HIDDEN)
def test_the_world_cannot_tell_a_private_route_from_one_that_was_never_declared(served: Served, path: str) -> None:
    for method in METHODS:
        never = path.upper().replace("/API/", "/api/")
        assert exchange(served.public, method, path) == exchange(served.public, method, never)
        assert exchange(served.public, method, path).startswith(b"HTTP/1.1 404 ")


def test_what_does_not_exist_is_answered_by_the_application(served: Served) -> None:
    assert httpx.get(f"{served.public}/stock").text == "no such page: /stock"


def test_the_neighbours_reach_everything(served: Served) -> None:
    for path in ("/", "/orders", "/things/a/b", "/admin/users", "/api/open", "/api/closed"):
        assert httpx.get(served.private + path).status_code == 200
    assert httpx.get(served.private + "/stock").text.endswith("/feed /stock")
    assert httpx.post(served.private + "/stock").status_code == 405
    assert httpx.get(served.private + "/stock/").status_code == 307
    assert httpx.get(served.private + "/hosted", headers={"host": "internal.example"}).text == "home"
    assert httpx.get(served.public + "/hosted", headers={"host": "internal.example"}).status_code == 404


def test_a_websocket_is_refused_as_one_that_was_never_declared(served: Served) -> None:
    for path in ("/feed", "/admin/users", "/api/closed"):
        assert handshake(served.public, path) == handshake(served.public, "/nowhere")
        assert handshake(served.public, path).startswith(b"HTTP/1.1 404 ")
    with connect(served.private.replace("http", "ws") + "/feed") as websocket:
        assert websocket.recv() == "feed"


def test_one_path_may_have_a_private_method_beside_a_public_one(served: Served) -> None:
    answer = httpx.post(served.public + "/both")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD") or answer.headers["allow"] == "HEAD, GET"
    assert httpx.get(served.public + "/both").status_code == 200
    assert httpx.post(served.private + "/both").status_code == 200


def test_under_a_server_that_knows_no_sides_nothing_private_exists() -> None:
    client = TestClient(shop(), follow_redirects=False)
    assert client.get("/").text == "home"
    for path in HIDDEN:
        assert {client.request(method, path).status_code for method in METHODS} == {404}
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(path):
            pass


def test_a_router_without_an_application_hides_its_private_routes_too() -> None:
    router = Router(routes=[private(Route("/stock", home)), private(WebSocketRoute("/feed", feed))])
    for name, status in (("public", 404), ("private", 200)):
        assert TestClient(as_side(router, name)).get("/stock").status_code == status  # type: ignore[arg-type]


def test_a_private_route_stands_alone_as_an_application() -> None:
    route = private(Route("/stock", home))
    assert TestClient(route).get("/stock").status_code == 404
    assert TestClient(as_side(route, "private")).get("/stock").text == "home"


def test_a_private_route_is_what_it_was() -> None:
    route = Route("/stock", home, name="stock")
    marked = private(route)
    assert private(marked) is marked
    assert (marked.path, marked.name, marked.methods) == ("/stock", "stock", {"GET", "HEAD"})
    assert marked.url_path_for("stock") == "/stock"
    assert marked == private(Route("/stock", home, name="stock"))
    assert marked != route
    assert repr(marked) == f"private({route!r})"
    assert copy.deepcopy(marked).path == "/stock"
    with pytest.raises(AttributeError):
        marked.nothing  # noqa: B018


@pytest.mark.parametrize("thing", [home, Orders, Router(), Starlette(), "/stock", None])
def test_what_is_no_route_cannot_be_marked_private(thing: Any) -> None:
    with pytest.raises(TypeError, match=r"private\(\) takes a route, not .*PrivateRouter"):
        private(thing)


def test_a_private_route_is_not_declared_public() -> None:
    with pytest.raises(TypeError, match="is already private"):
        public(private(Route("/stock", home)))


def test_marks_are_read_with_the_nearest_first_and_private_strongest() -> None:
    @public
    async def shown(request: Request) -> Response:
        return PlainTextResponse("shown")

    app = Starlette(
        routes=[
            Route("/unsaid", home),
            public(Route("/route", home)),
            Route("/endpoint", shown),
            Mount("/mounted", app=public(Starlette(routes=[Route("/a", home), private(Route("/b", home))]))),
            private(Mount("/inner", routes=[Route("/c", shown)])),
            Mount("/files", app=home),  # type: ignore[arg-type]  # any ASGI application
            Host("api.example", app=Router(routes=[WebSocketRoute("/ws", feed)])),
        ]
    )
    marks = {f"{route.host}{route.path}": (route.kind, route.mark) for route in read_routes(app) or ()}
    assert marks == {
        "/unsaid": ("http", None),
        "/route": ("http", "public"),
        "/endpoint": ("http", "public"),
        "/mounted/a": ("http", "public"),
        "/mounted/b": ("http", "private"),
        "/inner/c": ("http", "private"),
        "/files": ("mount", None),
        "api.example/ws": ("websocket", None),
    }


def test_routes_are_read_through_middleware() -> None:
    from starlette.middleware.cors import CORSMiddleware
    from starlette.middleware.gzip import GZipMiddleware

    app = GZipMiddleware(CORSMiddleware(shop()))
    assert [route.path for route in read_routes(app) or ()][:2] == ["/", "/stock"]
    assert [
        route.path
        for route in read_routes(GZipMiddleware(Router(routes=[Mount("/x", app=CORSMiddleware(shop()))]))) or ()
    ][:2] == ["/x/", "/x/stock"]


def test_an_incompatible_starlette_is_refused_when_a_route_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def forgets_to_ask(self: Router, scope: Any, receive: Any, send: Any) -> None:
        for route in self.routes:
            await vars(route)["route"].app(scope, receive, send)

    monkeypatch.setattr(Router, "app", forgets_to_ask)
    starlette.check_router.cache_clear()
    try:
        with pytest.raises(LaunchError, match=r"starlette \S+ does not keep private routes from the public side"):
            private(Route("/stock", home))
    finally:
        starlette.check_router.cache_clear()


@pytest.mark.parametrize("name", ["public", "private"])
def test_a_router_with_an_answer_of_its_own_keeps_it(name: Side) -> None:
    async def default(scope: Any, receive: Any, send: Any) -> None:
        await PlainTextResponse("mine", status_code=404)(scope, receive, send)

    router = Router(routes=[private(WebSocketRoute("/feed", feed))], default=default)
    assert TestClient(as_side(router, name)).get("/nowhere").text == "mine"


def test_without_private_websockets_a_handshake_is_refused_as_by_the_framework() -> None:
    with serve(Starlette(routes=[private(Route("/stock", home))])) as served:
        assert handshake(served.public, "/nowhere").startswith(b"HTTP/1.1 403 ")


def test_a_route_class_of_one_s_own_may_be_private() -> None:
    class Loud(Route):
        """A route that somebody has written for themselves."""

    app = Starlette(routes=[private(Loud("/stock", home))])
    assert isinstance(app.routes[0], PrivateRoute)
    assert TestClient(as_side(app, "private")).get("/stock").status_code == 200
    assert TestClient(as_side(app, "public")).get("/stock").status_code == 404
