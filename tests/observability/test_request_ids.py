"""The id of a request: whose is kept, who gets one of ours, and where it can be read."""

from __future__ import annotations

import re
import socket
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.sync.client import connect

import duallisten
from duallisten import Config
from duallisten.config import keeps_request_ids
from duallisten.observability.request_ids import claimed, make_ids
from tests.support.applications import Observed, answer
from tests.support.running import DEADLINE, FREE, ObservedServer, ask, launched, serving, sharing

OURS = re.compile(r"[0-9a-f]{16}-\d+")
HEADER = "X-Request-ID"


class Told:
    """Answers with the id of the request, as the application is told it."""

    def __init__(self) -> None:
        self.scopes: list[Any] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(scope)
        if scope["type"] == "lifespan":
            return
        told = duallisten.request_id(scope) or "none"
        if scope["type"] == "websocket":
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.send", "text": told})
            await send({"type": "websocket.close"})
            return
        await answer(send, told.encode())


def got(server: ObservedServer, side: Any, **headers: str) -> str:
    return httpx.get(server.url(side), headers={name.replace("_", "-"): value for name, value in headers.items()}).text


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_neighbour_s_id_is_kept_and_others_get_one(http: str) -> None:
    with serving(Told(), http=http, request_id_header=HEADER, forwarded_allow_ips="10.9.9.9") as server:
        assert got(server, "private", x_request_id="of-a-neighbour") == "of-a-neighbour"
        made = [got(server, "private"), got(server, "public"), got(server, "public", x_request_id="forged")]
    assert all(OURS.fullmatch(one) for one in made)
    assert len(set(made)) == 3


def test_on_the_public_side_it_is_whoever_s_forwarded_headers_are_believed() -> None:
    with serving(Told(), request_id_header="x-trace", forwarded_allow_ips="127.0.0.1") as server:
        assert got(server, "public", X_Trace="of-a-router") == "of-a-router"
        assert got(server, "public", X_Trace="of-a-router", X_Forwarded_For="203.0.113.7") == "of-a-router"
        assert OURS.fullmatch(got(server, "public", X_Request_ID="another header"))
    with serving(Told(), request_id_header="x-trace", proxy_headers=False) as server:
        assert OURS.fullmatch(got(server, "public", X_Trace="of-nobody"))


SCALINGO: dict[str, Any] = {
    "platform": "scalingo",
    "listeners": "both",
    "private_missing": "loopback",
    "private_wait": 0,
    "private_linger": 0,
}


def test_an_id_that_a_platform_s_router_passes_on_may_be_the_client_s_and_is_not_kept() -> None:
    with serving(Told(), request_id_header=HEADER, **SCALINGO) as server:
        assert OURS.fullmatch(got(server, "public", x_request_id="of-a-client", x_forwarded_for="6.6.6.6"))
        assert got(server, "private", x_request_id="of-a-neighbour") == "of-a-neighbour"


def test_an_id_that_a_platform_s_router_overwrites_is_kept() -> None:
    made = Config(Observed(), log_format="json", port=0)
    own = made.place.platform._replace(is_routed=True, request_id_header="X-Edge-Id", is_request_id_own=True)
    made.place = made.place._replace(platform=own)
    assert made.request_id_header == "X-Edge-Id"
    assert keeps_request_ids(made)
    made.options = made.options._replace(request_id_header="x-request-id")  # the routers pass it on
    assert (made.request_id_header, keeps_request_ids(made)) == ("x-request-id", False)


def test_at_the_side_door_nobody_is_believed() -> None:
    """127.0.0.2 stands for the private address and 127.0.0.3 for a neighbour."""
    with sharing(Told(), request_id_header=HEADER, forwarded_allow_ips="*") as server:
        port = server.addresses["public"][1]
        headers = {HEADER: "claimed"}
        assert httpx.get(f"http://127.0.0.1:{port}", headers=headers).text == "claimed"
        assert OURS.fullmatch(httpx.get(f"http://127.0.0.2:{port}", headers=headers).text)
        with socket.create_connection(("127.0.0.2", port), DEADLINE, ("127.0.0.3", 0)) as neighbour:
            neighbour.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Request-ID: claimed\r\n\r\n")
            assert neighbour.recv(4096).endswith(b"claimed")


@pytest.mark.parametrize("value", ["", "two words", "x" * 129, "caf\xe9", "a\tb", 'a"b', "a\\b"])
def test_an_id_that_a_log_should_not_have_is_not_kept(value: str) -> None:
    with serving(Told(), request_id_header=HEADER) as server:
        head = f"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{HEADER}: {value}\r\n\r\n".encode("latin-1")
        assert OURS.fullmatch(ask(server.url("private"), head).rpartition(b"\r\n\r\n")[2].decode())


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from([b"x-id", b"x-ids", b"host"]), st.binary(max_size=200))))
def test_the_first_that_json_has_as_it_is_is_kept(headers: list[tuple[bytes, bytes]]) -> None:
    values = [value.decode("latin-1") for name, value in headers if name == b"x-id"]
    assert claimed(headers, b"x-id") == next(
        (one for one in values if re.fullmatch(r"[\x21\x23-\x5b\x5d-\x7e]{1,128}", one)), None
    )


def test_ids_of_ours_go_on_past_every_place() -> None:
    make = make_ids().__next__
    made = [make() for _ in range(2345)]
    assert len(set(made)) == 2345
    assert all(OURS.fullmatch(one) for one in made)
    assert len({one.partition("-")[0] for one in made}) == 1


@pytest.mark.parametrize("ws", ["websockets", "websockets-sansio"])
def test_a_websocket_has_an_id(ws: str) -> None:
    with serving(Told(), ws=ws, request_id_header=HEADER, forwarded_allow_ips="10.9.9.9") as server:
        for side in ("public", "private"):
            url = server.url(side).replace("http", "ws")
            with connect(url, additional_headers={HEADER: "mine"}) as websocket:
                told = str(websocket.recv())
            assert told == "mine" if side == "private" else OURS.fullmatch(told)


def test_without_the_option_there_is_none_whatever_is_sent() -> None:
    app = Told()
    with serving(app) as server:
        assert got(server, "private", x_request_id="mine") == "none"
    assert duallisten.request_id({}) is None
    assert duallisten.request_id({"extensions": {"duallisten": {"request_id": 3}}}) is None


def test_the_id_stands_in_one_place_of_the_scope() -> None:
    app = Told()
    with serving(app, request_id_header=HEADER, private_paths=["/internal"]) as server:
        assert httpx.get(server.url("public") + "/internal").status_code == 404
        got(server, "public")
        got(server, "private")
    asked = [scope for scope in app.scopes if scope["type"] == "http"]
    assert [duallisten.side(scope) for scope in asked] == ["public", "private"]
    assert all("request_id" in scope["extensions"]["duallisten"] and "request_id" not in scope for scope in asked)


@pytest.mark.parametrize("arguments", [("--workers", "2"), ("--workers", "2", "--preload")], ids=" ".join)
def test_no_two_processes_make_the_same_id(arguments: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import os\nfrom duallisten import request_id\nfrom tests.support.applications import answer\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] == 'http':\n"
        "        await answer(send, f'{os.getpid()} {request_id(scope)}'.encode())\n"
    )
    options = ("--request-id-header", HEADER, *arguments, *FREE)
    with launched("shop:app", *options, cwd=tmp_path) as server:
        told = [httpx.get(server.url("public")).text.split() for _ in range(40)]
        server.end()
    assert len({process for process, _ in told}) == 2
    assert len({made for _, made in told}) == 40


def test_the_lines_of_text_are_as_they_were() -> None:
    with launched("duallisten.demo:app", "--request-id-header", HEADER, *FREE) as server:
        httpx.get(server.url("public") + "/a%20b?c")
        httpx.get(server.url("private") + "/", headers={HEADER: "mine"})
        server.end()
    logged = [line for line in server.lines if '"GET' in line]
    assert re.fullmatch(r'INFO:     127\.0\.0\.1:\d+ - "GET /a%20b\?c HTTP/1\.1" 404 Not Found', logged[0])
    assert re.fullmatch(r'INFO:     127\.0\.0\.1:\d+ - "GET / HTTP/1\.1" 200 OK \(private\)', logged[1])
    assert len(logged) == 2


def test_a_header_that_is_no_name_is_refused() -> None:
    with pytest.raises(duallisten.UsageError, match="must be the name of a header"):
        Config(Observed(), port=0, request_id_header="X Request")
