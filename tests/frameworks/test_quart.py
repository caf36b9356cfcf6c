"""Path rules before a Quart application, which has no marks of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from quart import Blueprint, Quart, request, websocket
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from duallisten import side
from duallisten.testing import serve
from tests.frameworks.exchange import exchange, handshake
from tests.running import FREE, run


class Hooks:
    """An application's hooks, counted."""

    def __init__(self) -> None:
        self.started = 0
        self.stopped = 0

    async def start(self) -> None:
        self.started += 1

    async def stop(self) -> None:
        self.stopped += 1


async def home() -> dict[str, str]:
    return {"side": side(request)}


async def item(number: int) -> dict[str, int]:
    return {"item": number}


async def feed() -> None:
    await websocket.send(side(websocket))


async def stock() -> dict[str, int]:
    return {"apples": 3}


async def restock() -> Any:
    return await request.get_json()


def make_app(hooks: Hooks | None = None) -> Quart:
    hooks = hooks or Hooks()
    internal = Blueprint("internal", __name__, url_prefix="/internal")
    internal.add_url_rule("/stock", view_func=stock, methods=["GET"])
    internal.add_url_rule("/stock", view_func=restock, methods=["POST"])
    internal.add_websocket("/feed", view_func=feed)
    app = Quart(__name__)
    app.add_url_rule("/", view_func=home)
    app.add_url_rule("/items/<int:number>", view_func=item)
    app.add_websocket("/feed", view_func=feed)
    app.register_blueprint(internal)
    app.before_serving(hooks.start)
    app.after_serving(hooks.stop)
    return app


RULES: dict[str, Any] = {"private_paths": ["/internal"], "log_level": "critical"}


@pytest.fixture(params=["h11", "httptools"])
def http(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client() as made:
        yield made


def websocket_url(url: str, path: str) -> str:
    return url.replace("http", "ws", 1) + path


def test_internal_views_are_there_for_neighbours_alone(http: str, client: httpx.Client) -> None:
    with serve(make_app(), http=http, **RULES) as served:
        assert client.get(f"{served.private}/internal/stock").json() == {"apples": 3}
        assert client.post(f"{served.private}/internal/stock", json={"pears": 1}).json() == {"pears": 1}
        for method in ("GET", "POST", "OPTIONS", "DELETE"):
            hidden = client.request(method, f"{served.public}/internal/stock")
            assert (hidden.status_code, hidden.text) == (404, "Not Found")
            assert "allow" not in hidden.headers


def test_public_views_are_there_on_both_sides(http: str, client: httpx.Client) -> None:
    with serve(make_app(), http=http, **RULES) as served:
        for name, url in (("public", served.public), ("private", served.private)):
            assert client.get(url).json() == {"side": name}
            assert client.get(f"{url}/items/7").json() == {"item": 7}
            with connect(websocket_url(url, "/feed")) as socket:
                assert socket.recv() == name


def test_an_internal_websocket_is_there_for_neighbours_alone(http: str) -> None:
    with serve(make_app(), http=http, **RULES) as served:
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


def test_a_request_in_disguise_is_hidden(http: str) -> None:
    """With h11, Quart takes a target in absolute form apart by itself."""
    with serve(make_app(), http=http, **RULES) as served:
        for target in DISGUISES:
            answer = exchange(served.public, "GET", target)
            assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n"), target
            assert answer.endswith(b"\r\n\r\nNot Found"), target
            assert handshake(served.public, target.replace("stock", "feed")).startswith(b"HTTP/1.1 404 "), target


def test_a_target_in_absolute_form_reaches_what_is_public(http: str) -> None:
    with serve(make_app(), http=http, **RULES) as served:
        assert exchange(served.public, "GET", "http://localhost/items/7").endswith(b'{"item":7}\n')
        assert exchange(served.private, "GET", "http://localhost/internal/stock").endswith(b'{"apples":3}\n')


def test_a_target_without_a_slash_in_front_is_hidden() -> None:
    """h11 lets it through; Quart drops the scheme and adds the slash."""
    with serve(make_app(), http="h11", **RULES) as served:
        for target in ("internal/stock", "http:/internal/stock", "x:internal/stock", "x:/internal/stock"):
            assert exchange(served.private, "GET", target).endswith(b'{"apples":3}\n'), target
            assert exchange(served.public, "GET", target).endswith(b"\r\n\r\nNot Found"), target
            assert handshake(served.public, target.replace("stock", "feed")).startswith(b"HTTP/1.1 404 "), target


def test_a_root_path_that_runs_into_the_target_is_hidden() -> None:
    """With h11 it has no slash in front; Quart takes the root path off wherever it ends, and adds the slash."""
    with serve(make_app(), http="h11", root_path="/shop", **RULES) as served:
        assert exchange(served.private, "GET", "internal/stock").endswith(b'{"apples":3}\n')
        for target in ("internal/stock", "/internal/stock"):
            assert exchange(served.public, "GET", target).endswith(b"\r\n\r\nNot Found")


def test_hidden_requests_can_be_forbidden(http: str, client: httpx.Client) -> None:
    with serve(make_app(), http=http, hidden_status=403, **RULES) as served:
        hidden = client.get(f"{served.public}/internal/stock")
        assert (hidden.status_code, hidden.text) == (403, "Forbidden")
        assert handshake(served.public, "/internal/feed").startswith(b"HTTP/1.1 403 ")


def test_an_allow_list_leaves_only_what_it_names(http: str, client: httpx.Client) -> None:
    with serve(make_app(), http=http, public_paths=["/items"], log_level="critical") as served:
        assert client.get(f"{served.public}/items/7").json() == {"item": 7}
        for path in ("/", "/feed", "/internal/stock", "/static/x"):
            assert client.get(served.public + path).text == "Not Found"


def test_the_application_is_started_and_stopped_once(client: httpx.Client) -> None:
    hooks = Hooks()
    with serve(make_app(hooks), **RULES) as served:
        client.get(served.public)
        client.get(served.private)
        assert (hooks.started, hooks.stopped) == (1, 0)
    assert (hooks.started, hooks.stopped) == (1, 1)


MODULE = """
from quart import Quart

app = Quart(__name__)

@app.get("/internal/stock")
async def stock():
    return {"apples": 3}
"""


def test_its_routes_cannot_be_read_but_the_rules_are_shown(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(MODULE)
    shown = run("shop:app", "--routes", "--private-path", "/internal", cwd=tmp_path)
    assert shown.returncode == 0
    assert "Its routes cannot be read" in shown.stdout
    assert "The public side serves: not /internal" in shown.stdout


def test_strict_routes_need_an_allow_list(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(MODULE)
    refused = run("shop:app", "--strict-routes", "--private-path", "/internal", *FREE, cwd=tmp_path)
    assert refused.returncode == 3
    assert "the routes of shop:app cannot be read" in refused.stderr
    assert "--public-path" in refused.stderr
    checked = run("shop:app", "--check", "--strict-routes", "--public-path", "/items", *FREE, cwd=tmp_path)
    assert (checked.returncode, checked.stderr) == (0, "")
