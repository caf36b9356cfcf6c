"""`duallisten.testing`, used as a user's tests use it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import httpx
import pytest
from asgiref.testing import ApplicationCommunicator
from fastapi import FastAPI
from starlette.testclient import TestClient
from websockets.sync.client import connect

from duallisten import LaunchError, UsageError
from duallisten.fastapi import PrivateRouter
from duallisten.sides import side
from duallisten.testing import as_side, serve
from tests.support.applications import Observed, fails_to_start
from tests.support.running import DEADLINE

app = FastAPI()
internal = PrivateRouter(prefix="/internal")


@app.get("/")
def home() -> str:
    return "home"


@internal.get("/stock")
def stock() -> int:
    return 3


app.include_router(internal)


# --- What a user would write ---


def test_the_stock_is_for_neighbours() -> None:
    assert TestClient(as_side(app, "private")).get("/internal/stock").json() == 3
    assert TestClient(as_side(app, "public")).get("/internal/stock").status_code == 404


async def test_the_stock_is_for_neighbours_with_httpx() -> None:
    for name, status in (("private", 200), ("public", 404)):
        transport = httpx.ASGITransport(as_side(app, name))  # type: ignore[arg-type]
        async with httpx.AsyncClient(transport=transport, base_url="http://shop") as client:
            assert (await client.get("/internal/stock")).status_code == status


async def test_the_stock_is_for_neighbours_with_asgiref() -> None:
    scope = {"type": "http", "method": "GET", "path": "/internal/stock", "headers": [], "query_string": b""}
    for name, status in (("private", 200), ("public", 404)):
        communicator: Any = ApplicationCommunicator(as_side(app, name), dict(scope))  # type: ignore[arg-type,no-untyped-call]
        await communicator.send_input({"type": "http.request", "body": b""})
        assert (await communicator.receive_output())["status"] == status
        await communicator.wait()


def test_the_stock_is_for_neighbours_on_the_wire() -> None:
    with serve(app) as served:
        assert httpx.get(f"{served.private}/internal/stock").json() == 3
        assert httpx.get(f"{served.public}/internal/stock").status_code == 404
        assert httpx.get(f"{served.public}/").json() == "home"


async def test_the_stock_is_for_neighbours_on_the_wire_of_a_running_loop() -> None:
    async with serve(app) as served, httpx.AsyncClient() as client:
        assert (await client.get(f"{served.private}/internal/stock")).json() == 3
        assert (await client.get(f"{served.public}/internal/stock")).status_code == 404


# --- And what it has to keep ---


def test_path_rules_hold_for_a_test_client_too() -> None:
    rules: dict[str, Any] = {"private_paths": ["/internal"], "hidden_status": 403}
    assert TestClient(as_side(Observed(), "public", **rules)).get("/internal/x").status_code == 403
    assert TestClient(as_side(Observed(), "public", **rules)).get("/internal%2fx").status_code == 403
    assert TestClient(as_side(Observed(), "private", **rules)).get("/internal/x").text == "private"
    allowed = TestClient(as_side(Observed(), "public", public_paths=["/open"]))
    assert [allowed.get(path).status_code for path in ("/open", "/", "/open/../x")] == [200, 404, 404]


def test_a_test_client_with_a_root_path_is_judged_by_what_the_application_sees() -> None:
    rules: dict[str, Any] = {"private_paths": ["/internal"]}
    client = TestClient(as_side(Observed(), "public", **rules), root_path="/api")
    assert client.get("/api/internal/x").status_code == 404
    assert client.get("/api/open").text == "public"


def test_a_websocket_of_a_test_client_has_its_side() -> None:
    for name in ("public", "private"):
        with TestClient(as_side(Observed(), name)).websocket_connect("/") as websocket:
            assert websocket.receive_text() == name


def test_the_lifespan_is_the_application_s_own() -> None:
    observed = Observed()
    with TestClient(as_side(observed, "public", private_paths=["/internal"])) as client:
        assert client.get("/").text == "public"
    assert (observed.started, observed.stopped) == (1, 1)


def test_sides_of_one_application_do_not_mix() -> None:
    observed = Observed()
    clients = [TestClient(as_side(observed, name)) for name in ("public", "private", "public")]
    assert [client.get("/").text for client in clients] == ["public", "private", "public"]
    assert [side(scope) for scope in observed.scopes] == ["public", "private", "public"]


def test_an_import_string_will_do() -> None:
    assert TestClient(as_side("duallisten.demo:app", "private")).get("/").json()["side"] == "private"


def test_what_is_served_knows_its_websockets_too() -> None:
    with serve(Observed()) as served:
        for name, url in (("public", served.public), ("private", served.private)):
            with connect(url.replace("http", "ws")) as websocket:
                assert websocket.recv() == name


def test_a_side_that_is_not_open_has_no_url() -> None:
    with serve(Observed(), listeners="private") as served:
        assert served.public == ""
        assert httpx.get(served.private).text == "private"


def test_where_a_test_runs_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "5000")
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    monkeypatch.setenv("SCALINGO_APPLICATION_ID", "ap-1")
    monkeypatch.setenv("CONTAINER", "api-1")
    assert TestClient(as_side(Observed(), "public")).get("/").text == "public"
    with serve(Observed()) as served:
        assert served.public.startswith("http://127.0.0.1:")
        assert httpx.get(served.public).text == "public"


async def test_what_stops_a_launch_is_raised() -> None:
    with pytest.raises(LaunchError, match="failed to start"), serve(fails_to_start):
        pass
    with pytest.raises(LaunchError, match="failed to start"):
        async with serve(fails_to_start):
            pass
    with pytest.raises(UsageError, match="private_paths"):
        as_side(Observed(), "public", private_paths=["internal"])
    with pytest.raises(TypeError, match="unknown option"):
        serve(Observed(), privat_paths=[])  # type: ignore[call-arg]
    with pytest.raises(LaunchError, match="cannot be imported"):
        as_side("nowhere:app", "public")


def test_an_application_that_never_starts_is_given_up() -> None:
    may_start = threading.Event()

    class Stuck(Observed):
        async def _live(self, scope: Any, receive: Any, send: Any) -> None:
            await asyncio.to_thread(may_start.wait, DEADLINE)
            await super()._live(scope, receive, send)

    stuck = serve(Stuck(), timeout=0.1)
    try:
        with pytest.raises(LaunchError, match=r"did not start within 0\.1 s"), stuck:
            pass
    finally:
        may_start.set()
        stuck._server.finish(DEADLINE)


def test_a_failure_in_the_block_is_the_one_that_is_seen() -> None:
    with pytest.raises(ZeroDivisionError), serve(Observed()):
        raise ZeroDivisionError


def test_there_is_no_third_side() -> None:
    with pytest.raises(ValueError, match="'internal' is no side: 'public' or 'private'"):
        as_side(Observed(), "internal")  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"workers": 2}, {"private_workers": 1}, {"reload": True}])
def test_the_kit_serves_in_one_process_and_refuses_options_that_need_more(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=f"{next(iter(options))}=.*: serve has one process"):
        serve("duallisten.demo:app", **options)
