"""Path rules before Datasette, which nobody here wrote: its own pages, all below `/-/`, are for neighbours alone."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import httpx
import pytest

from tests.endpoints.frameworks.exchange import exchange
from tests.support.running import FREE, Launched, launched

MODULE = """
from datasette.app import Datasette

app = Datasette(["shop.db"]).app()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("datasette")
    (made / "shop.py").write_text(MODULE)
    with closing(sqlite3.connect(made / "shop.db")) as database:
        database.execute("create table items (id integer primary key, name text)")
        database.execute("insert into items (name) values ('apple'), ('pear')")
        database.commit()
    return made


@pytest.fixture(scope="module", params=["h11", "httptools"])
def server(request: pytest.FixtureRequest, folder: Path) -> Iterator[Launched]:
    with launched("shop:app", "--private-path", "/-/", "--http", request.param, *FREE, cwd=folder) as running:
        yield running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with httpx.Client() as made:
        yield made


OWN_PAGES = [
    "/-/versions",
    "/-/versions.json",
    "/-/metadata",
    "/-/settings.json",
    "/-/threads",
    "/-/plugins",
    "/-/databases.json",
    "/-/actor",
    "/-/static/app.css",
    "/-/no/such/page",
    "/-/",
    "/-",
]


def test_the_data_is_there_for_the_world(server: Launched, client: httpx.Client) -> None:
    for side in ("public", "private"):
        url = server.url(side)
        assert "shop" in client.get(url).text
        assert "items" in client.get(f"{url}/shop").text
        assert client.get(f"{url}/shop/items.json?_shape=array").json() == [
            {"id": 1, "name": "apple"},
            {"id": 2, "name": "pear"},
        ]
        assert client.get(f"{url}/shop.json?sql=select+7&_shape=arrays").json()["rows"] == [[7]]


def test_its_own_pages_are_not_there_for_the_world(server: Launched, client: httpx.Client) -> None:
    for path in OWN_PAGES:
        for method in ("GET", "POST", "OPTIONS"):
            hidden = client.request(method, server.url("public") + path)
            assert (hidden.status_code, hidden.text) == (404, "Not Found"), (method, path)


def test_its_own_pages_are_there_for_neighbours(server: Launched, client: httpx.Client) -> None:
    assert client.get(server.url("private") + "/-/versions.json").json()["datasette"]["version"]
    assert client.get(server.url("private") + "/-/settings.json").json()["default_page_size"]
    assert client.get(server.url("private") + "/-/static/app.css").headers["content-type"].startswith("text/css")


DISGUISES = [
    "/%2d/versions",
    "/%2D%2Fversions.json",
    "/-%2fversions",
    "/%252d/versions",
    "//-/versions",
    "/-//versions",
    "/./-/versions",
    "/shop/../-/versions",
    "/shop/%2e%2e/-/versions",
    "/-;x=1/versions",
    "/\\-/versions",
    "http://localhost/-/versions",
    "http://localhost/%2d/versions",
]


def test_its_own_pages_are_hidden_in_every_disguise(server: Launched) -> None:
    for target in DISGUISES:
        answer = exchange(server.url("public"), "GET", target)
        assert answer.startswith(b"HTTP/1.1 404 Not Found\r\n"), target
        assert answer.endswith(b"\r\n\r\nNot Found"), target


def test_an_allow_list_can_leave_the_pages_their_style_sheet(folder: Path, client: httpx.Client) -> None:
    """A rule that hides /-/ hides /-/static too, to which the public pages refer."""
    allowed = ("--public-path", "/shop", "--public-path", "/-/static")
    with launched("shop:app", *allowed, *FREE, cwd=folder) as server:
        url = server.url("public")
        page = client.get(f"{url}/shop/items")
        assets = re.findall(r'(?:href|src)="(/-/[^"]+)"', page.text)
        assert any(asset.startswith("/-/static/app.css") for asset in assets)
        assert {client.get(url + asset).status_code for asset in assets} == {200}
        for path in ("/", "/-/versions", "/-/static/../versions", "/-/static/%2e%2e/versions", "/shop/../-/versions"):
            assert exchange(url, "GET", path).endswith(b"\r\n\r\nNot Found"), path
