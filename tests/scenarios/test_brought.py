"""Protocol classes that a user brings: served on both sides, with their side and path rules, and with a warning."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidMessage, InvalidStatus
from websockets.sync.client import connect

from tests.support.applications import Observed
from tests.support.running import DEADLINE, FREE, ObservedServer, launched, local_config, run, running, serving

H11 = "uvicorn.protocols.http.h11_impl:H11Protocol"
DEMO = "duallisten.demo:app"

BROUGHT: dict[str, dict[str, Any]] = {
    "a class of uvicorn's": {"http": H11},
    "zttp": {"http": "zttp"},
    "zttp with HTTP/2": {"http": "zttp", "http2": True},
}


@pytest.mark.parametrize("name", BROUGHT)
def test_what_is_brought_serves_both_sides_and_keeps_the_rules(name: str) -> None:
    if "zttp" in name:
        pytest.importorskip("zttp")
        pytest.importorskip("uvicorn.protocols.http.zttp_impl", reason="this uvicorn has no zttp")
    app = Observed()
    with serving(app, private_paths=["/internal"], **BROUGHT[name]) as server:
        assert httpx.get(server.url("public")).text == "public"
        assert httpx.get(server.url("private") + "/internal").text == "private"
        assert httpx.get(server.url("public") + "/internal/x").status_code == 404
        with pytest.raises((InvalidStatus, InvalidMessage)):  # uvicorn before 0.53 says the length twice
            connect(server.url("public").replace("http", "ws") + "/internal")
        with connect(server.url("private").replace("http", "ws") + "/internal") as websocket:
            assert websocket.recv() == "private"
    assert [scope["path"] for scope in app.scopes] == ["/", "/internal", "/internal"]


def test_http2_is_served_with_the_side(request: pytest.FixtureRequest) -> None:
    zttp = pytest.importorskip("zttp")
    pytest.importorskip("uvicorn.protocols.http.zttp_impl", reason="this uvicorn has no zttp")
    with serving(Observed(), http="zttp", http2=True) as server:  # uvicorn's, not the engine's
        assert [ask_http2(zttp, server, side) for side in ("public", "private")] == [b"public", b"private"]


def ask_http2(zttp: Any, server: ObservedServer, side: str) -> bytes:
    """Ask over HTTP/2, without TLS, and give the body."""
    client = zttp.Connection(zttp.CLIENT, zttp.HTTP2)
    client.initiate_connection()
    client.send_request(b"GET", b"/", b"2", [(b"host", b"x")]).end_message()
    body = b""
    with socket.create_connection(server.addresses[side], timeout=DEADLINE) as connection:  # type: ignore[index]
        connection.sendall(client.data_to_send())
        while data := connection.recv(65536):
            client.receive_data(data)
            while (event := client.next_event()) is not zttp.NEED_DATA:
                if isinstance(event, zttp.Data):
                    body += bytes(event.data)
                elif isinstance(event, zttp.EndOfMessage):
                    return body
    return body


@pytest.mark.parametrize("arguments", [("--http", H11), ("--ws", "wsproto")], ids=" ".join)
def test_the_launch_and_the_check_say_what_does_not_hold(arguments: tuple[str, ...]) -> None:
    told = f"{arguments[0]} {arguments[1]} serves connections with a protocol class of its own"
    with launched(DEMO, *arguments, *FREE) as server:
        server.wait_for(f"WARNING:  {told}")
        assert httpx.get(server.url("private")).json()["side"] == "private"
        server.end()
        assert server.output.count(told) == 1
    checked = run(DEMO, *arguments, *FREE, "--check", "--json")
    assert checked.returncode == 0 and told in checked.stdout


def test_a_class_that_a_program_sets_after_loading_is_used() -> None:
    from uvicorn.protocols.http.h11_impl import H11Protocol

    made: list[Any] = []

    class Own(H11Protocol):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            made.append(self)
            super().__init__(*args, **kwargs)

    config = local_config(Observed())
    config.load()
    config.http_protocol_class = Own
    with running(ObservedServer(config)) as server:
        assert httpx.get(server.url("public")).text == "public"
        assert made


def test_headers_that_a_program_sets_after_loading_are_sent() -> None:
    config = local_config(Observed())
    config.load()
    config.encoded_headers = [(b"x-program", b"1")]
    with running(ObservedServer(config)) as server:
        for side in ("public", "private"):
            assert httpx.get(server.url(side)).headers["x-program"] == "1"


def test_tls_that_a_program_sets_after_loading_is_spoken(tmp_path: Any) -> None:
    import ssl

    import trustme

    authority = trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    config = local_config(Observed())
    config.load()
    config.ssl = context
    with running(ObservedServer(config)) as server:
        host, port = server.addresses["public"]
        assert httpx.get(f"https://{host}:{port}", verify=trusting).text == "public"
        assert server.url("public").startswith("https://")
        assert httpx.get(server.url("private")).text == "private"
