"""Path rules before applications of frameworks without marks of their own, Litestar and Quart, over real sockets."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from duallisten.testing import serve
from tests.endpoints.frameworks import litestar_app, quart_app
from tests.endpoints.frameworks.exchange import exchange, handshake
from tests.endpoints.frameworks.hooks import Hooks
from tests.support.running import FREE, run

RULES: dict[str, Any] = {"private_paths": ["/internal"], "log_level": "critical"}


@pytest.fixture(params=[litestar_app, quart_app], ids=["litestar", "quart"])
def framework(request: pytest.FixtureRequest) -> ModuleType:
    module: ModuleType = request.param
    return module


@pytest.fixture(params=["h11", "httptools"])
def http(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client() as made:
        yield made


def websocket_url(url: str, path: str) -> str:
    return url.replace("http", "ws", 1) + path


def test_internal_views_are_there_for_neighbours_alone(framework: ModuleType, http: str, client: httpx.Client) -> None:
    with serve(framework.make_app(), http=http, **RULES) as served:
        assert client.get(f"{served.private}/internal/stock").json() == {"apples": 3}
        assert client.post(f"{served.private}/internal/stock", json={"pears": 1}).json() == {"pears": 1}
        for method in ("GET", "POST", "OPTIONS", "DELETE"):
            hidden = client.request(method, f"{served.public}/internal/stock")
            assert (hidden.status_code, hidden.text) == (404, "Not Found")
            assert "allow" not in hidden.headers


def test_public_views_are_there_on_both_sides(framework: ModuleType, http: str, client: httpx.Client) -> None:
    with serve(framework.make_app(), http=http, **RULES) as served:
        for name, url in (("public", served.public), ("private", served.private)):
            assert client.get(url).json() == {"side": name}
            assert client.get(f"{url}/items/7").json() == {"item": 7}
            with connect(websocket_url(url, "/feed")) as socket:
                assert socket.recv() == name


def test_an_internal_websocket_is_there_for_neighbours_alone(framework: ModuleType, http: str) -> None:
    with serve(framework.make_app(), http=http, **RULES) as served:
        with connect(websocket_url(served.private, "/internal/feed")) as socket:
            assert socket.recv() == "private"
        for path in ("/internal/feed", "/internal/feed/", "/internal/no/such/feed"):
            with pytest.raises(InvalidStatus) as raised, connect(websocket_url(served.public, path)):
                pass
            assert raised.value.response.status_code == 404


DISGUISES = [
    "/internal/stock",
    "/internal/stock/",
    "//internal///stock",
    "/%69nternal/stock",
    "/INTERNAL/stock",
    "/items/../internal/stock",
    "http://localhost/internal/stock",
    "http://localhost//internal/stock",
    "http://localhost/internal/stock;x=1",
    "HTTP://neighbour:9240/internal/stock?side=private",
]


def test_a_request_in_disguise_is_hidden(framework: ModuleType, http: str) -> None:
    with serve(framework.make_app(), http=http, **RULES) as served:
        for target in DISGUISES:
            answer = exchange(served.public, "GET", target)
            assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n"), target
            assert answer.endswith(b"\r\n\r\nNot Found"), target
            assert handshake(served.public, target.replace("stock", "feed")).startswith(b"HTTP/1.1 404 "), target


def test_hidden_requests_can_be_forbidden(framework: ModuleType, http: str, client: httpx.Client) -> None:
    with serve(framework.make_app(), http=http, hidden_status=403, **RULES) as served:
        hidden = client.get(f"{served.public}/internal/stock")
        assert (hidden.status_code, hidden.text) == (403, "Forbidden")
        assert handshake(served.public, "/internal/feed").startswith(b"HTTP/1.1 403 ")


def test_an_allow_list_leaves_only_what_it_names(framework: ModuleType, http: str, client: httpx.Client) -> None:
    with serve(framework.make_app(), http=http, public_paths=["/items"], log_level="critical") as served:
        assert client.get(f"{served.public}/items/7").json() == {"item": 7}
        for path in ("/", "/feed", "/internal/stock", "/static/x"):
            assert client.get(served.public + path).text == "Not Found"


def test_the_application_is_started_and_stopped_once(framework: ModuleType, client: httpx.Client) -> None:
    hooks = Hooks()
    with serve(framework.make_app(hooks), **RULES) as served:
        client.get(served.public)
        client.get(served.private)
        assert (hooks.started, hooks.stopped) == (1, 0)
    assert (hooks.started, hooks.stopped) == (1, 1)


def test_its_routes_cannot_be_read_but_the_rules_are_shown(framework: ModuleType) -> None:
    shown = run(f"{framework.__name__}:app", "--routes", "--private-path", "/internal")
    assert shown.returncode == 0
    assert "Its routes cannot be read" in shown.stdout
    assert "The public side serves: not /internal" in shown.stdout


def test_strict_routes_need_an_allow_list(framework: ModuleType) -> None:
    refused = run(f"{framework.__name__}:app", "--strict-routes", "--private-path", "/internal", *FREE)
    assert refused.returncode == 3
    assert f"the routes of {framework.__name__}:app cannot be read" in refused.stderr
    assert "--public-path" in refused.stderr
    checked = run(f"{framework.__name__}:app", "--check", "--strict-routes", "--public-path", "/items", *FREE)
    assert (checked.returncode, checked.stderr) == (0, "")


# --- What each does by itself ---


def test_litestar_s_schema_is_a_path_like_any_other(http: str, client: httpx.Client) -> None:
    with serve(litestar_app.make_app(), http=http, public_paths=["/items"], log_level="critical") as served:
        for path in ("/schema", "/schema/openapi.json"):
            assert client.get(served.public + path).text == "Not Found"
        assert "/internal/stock" in client.get(f"{served.private}/schema/openapi.json").json()["paths"]


@pytest.mark.parametrize("inside", ["", "/outer"], ids=["alone", "mounted in Starlette"])
def test_a_private_mount_of_litestar_is_not_reached_where_it_takes_half_a_segment(
    inside: str, http: str, client: httpx.Client
) -> None:
    """Litestar gives a mount at `/internal` what is asked for at `/internals`, if no route has that path."""
    app: Any = litestar_app.make_mounting_app()
    if inside:
        app = Starlette(routes=[Mount(inside, app)])
    with serve(app, http=http, private_paths=[f"{inside}/internal"], log_level="critical") as served:
        for path in ("/internal/x", "/internalx", "/internal-x/y", "/internal%78", "/internals/x", "//internalx"):
            assert client.get(served.private + inside + path).status_code == 200
            assert client.get(served.public + inside + path).text == "Not Found"
        for url in (served.public, served.private):
            for path in ("/internals", "/internals/"):
                assert client.get(url + inside + path).text == "everybody's"


def test_quart_takes_a_target_in_absolute_form_apart_by_itself(http: str) -> None:
    with serve(quart_app.make_app(), http=http, **RULES) as served:
        assert exchange(served.public, "GET", "http://localhost/items/7").endswith(b'{"item":7}\n')
        assert exchange(served.private, "GET", "http://localhost/internal/stock").endswith(b'{"apples":3}\n')


@pytest.mark.parametrize("target", ["internal/stock", "http:/internal/stock", "x:internal/stock", "x:/internal/stock"])
def test_a_target_without_a_slash_is_refused_before_a_framework_adds_it(http: str, target: str) -> None:
    """Quart drops the scheme and adds the slash; so does Litestar."""
    for app in (quart_app.make_app(), litestar_app.make_app()):
        with serve(app, http=http, **RULES) as served:
            for url in (served.public, served.private):
                assert exchange(url, "GET", target).startswith(b"HTTP/1.1 400 Bad Request\r\n")
                assert handshake(url, target.replace("stock", "feed")).startswith(b"HTTP/1.1 400 ")


def test_quart_takes_a_root_path_off_and_what_is_under_it_is_hidden(http: str) -> None:
    with serve(quart_app.make_app(), http=http, root_path="/shop", **RULES) as served:
        assert exchange(served.private, "GET", "/internal/stock").endswith(b'{"apples":3}\n')
        assert exchange(served.public, "GET", "/internal/stock").endswith(b"\r\n\r\nNot Found")
