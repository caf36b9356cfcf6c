"""The PROXY protocol on real connections: who the client is, and that nothing else is served."""

from __future__ import annotations

import json
import logging
import shutil
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
import trustme
from websockets.sync.client import connect as connect_websocket

from duallisten.observability import Cell
from tests.support.applications import Observed
from tests.support.proxy_headers import LOCAL, any_binary, binary, exchange, line
from tests.support.running import DEADLINE, FREE, ObservedServer, ask, connect, eventually, launched, run, serving

GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
FORGED = (
    b"GET / HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\nConnection: close\r\n\r\n"
)

V1, V2 = line("198.51.100.7", 4711), binary("198.51.100.7", 4711)
CLIENT = ("198.51.100.7", 4711)


def public(server: ObservedServer) -> tuple[str, int]:
    return server.addresses["public"]


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.mark.parametrize("http", ["httptools", "h11", "uvicorn.protocols.http.h11_impl:H11Protocol", "zttp"])
def test_the_client_is_whom_the_header_names(http: str, loop: str, caplog: pytest.LogCaptureFixture) -> None:
    if http == "zttp":
        pytest.importorskip("zttp")
        pytest.importorskip("uvicorn.protocols.http.zttp_impl", reason="this uvicorn has no zttp")
    app = Observed()
    with (
        caplog.at_level(logging.INFO, "uvicorn.access"),
        serving(app, http=http, loop=loop, proxy_protocol=True) as server,
    ):
        local = public(server)
        assert exchange(local, V1 + FORGED).endswith(b"public")
        assert exchange(local, V2, FORGED).endswith(b"public")
        assert exchange(local, binary("2001:db8::7", 1) + GET).endswith(b"public")
        assert ask(server.url("private")).endswith(b"private"), "the private side has not asked for it"
    assert [scope["client"] for scope in app.scopes[:3]] == [CLIENT, CLIENT, ("2001:db8::7", 1)]
    assert {(scope["scheme"], scope["server"]) for scope in app.scopes[:2]} == {("http", local)}
    assert '198.51.100.7:4711 - "GET / HTTP/1.1" 200' in caplog.text


@pytest.mark.parametrize("header", [V1, V2], ids=["1", "2"])
def test_a_header_may_come_byte_by_byte(header: bytes, loop: str) -> None:
    app = Observed()
    with serving(app, loop=loop, proxy_protocol=True) as server:
        pieces = [bytes((byte,)) for byte in header + GET]
        assert exchange(public(server), *pieces).endswith(b"public")
    assert app.scopes[0]["client"] == CLIENT


def test_a_proxy_that_knows_no_client_is_not_taken_for_one() -> None:
    app = Observed()
    with serving(app, proxy_protocol=True) as server:
        for header in (LOCAL, b"PROXY UNKNOWN\r\n", any_binary(0x21, 0x31, bytes(216))):
            assert exchange(public(server), header + FORGED).endswith(b"public")
    assert [scope["client"][0] for scope in app.scopes] == ["6.6.6.6", "unknown", "unknown"], (
        "LOCAL is the proxy itself"
    )


@pytest.mark.parametrize(
    ("trusted", "client", "seen"),
    [
        ("*", "198.51.100.7", ("198.51.100.7", 1)),
        ("127.0.0.1", "198.51.100.7", ("198.51.100.7", 1)),
        ("127.0.0.1,198.51.100.0/24", "198.51.100.7", ("6.6.6.6", 0)),
    ],
)
def test_the_headers_of_a_client_are_believed_only_if_it_is_a_proxy_by_its_address(
    trusted: str, client: str, seen: tuple[str, int]
) -> None:
    app = Observed()
    with serving(app, proxy_protocol=True, forwarded_allow_ips=trusted) as server:
        exchange(public(server), line(client, 1) + FORGED)
    assert app.scopes[0]["client"] == seen
    assert app.scopes[0]["scheme"] == ("https" if seen[0] == "6.6.6.6" else "http")


@pytest.mark.parametrize(
    "no_header", [GET, b"\r\n" + GET, b"\x16\x03\x01\x02\x00", V1[:-2] + b"\n" + GET, V2[:12] + GET]
)
def test_what_is_no_header_is_never_read_as_a_request(no_header: bytes, caplog: pytest.LogCaptureFixture) -> None:
    app = Observed()
    with caplog.at_level(logging.WARNING, "uvicorn.error"), serving(app, proxy_protocol=True) as server:
        assert exchange(public(server), no_header) == b""
        assert exchange(public(server), no_header) == b""
        assert exchange(public(server), V1 + GET).endswith(b"public")
    assert len(app.scopes) == 1
    assert caplog.text.count("Refused a connection from 127.0.0.1 to 127.0.0.1") == 1, "the rest is limited"


def test_nothing_of_a_peer_that_is_no_proxy_is_read(caplog: pytest.LogCaptureFixture) -> None:
    app = Observed()
    with caplog.at_level(logging.WARNING, "uvicorn.error"), serving(app, proxy_protocol=True) as server:
        assert exchange(public(server), V1 + GET, source="127.0.0.9") == b""
        assert exchange(public(server), GET, source="127.0.0.9") == b""
    assert not app.scopes
    assert "127.0.0.9 to 127.0.0.1: not a trusted proxy, which --proxy-protocol requires" in caplog.text


def test_the_side_door_has_no_proxy() -> None:
    app = Observed()
    network = {"private_network": ["127.0.0.0/8"], "private_host": "127.0.0.2"}
    with serving(app, proxy_protocol=True, forwarded_allow_ips="*", **network) as server:
        assert exchange(public(server), V1 + GET) == b""
    assert not app.scopes


def test_a_header_has_as_long_as_a_head(loop: str, caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING, "uvicorn.error"),
        serving(Observed(), loop=loop, proxy_protocol=True, timeout_request_header=0.2, private_health="/-") as server,
    ):
        for begun in ((), (V1[:20],), (V2[:20],)):
            assert exchange(public(server), *begun) == b""
        assert exchange(public(server), V1[:20], end=True) == b""
        assert exchange(public(server), end=True) == b""
        assert eventually(lambda: server.listeners.taken == 0)
        assert server.observation is not None
        cells = server.observation.row.side("public")
        assert (cells[Cell.REFUSED_PROXY], cells[Cell.ACCEPTED]) == (4, 0)
    assert "no complete PROXY header within 0.2 s" in caplog.text


def test_a_balancer_that_looks_whether_somebody_is_there_makes_no_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "uvicorn.error"), serving(Observed(), proxy_protocol=True) as server:
        assert exchange(public(server), end=True) == b""
    assert "Refused" not in caplog.text


def test_a_connection_that_shows_no_header_does_not_hold_up_the_end(loop: str) -> None:
    with serving(Observed(), loop=loop, proxy_protocol=True) as server:
        silent = connect(server.url("public"))
        assert eventually(lambda: server.listeners.taken == 1)
        server.finish()
        assert silent.recv(1) == b""
        silent.close()


def test_the_header_comes_before_the_tls_handshake(loop: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    files = {"ssl_keyfile": str(tmp_path / "key.pem"), "ssl_certfile": str(tmp_path / "cert.pem")}
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_pem.write_to_path(files["ssl_keyfile"])
    issued.cert_chain_pems[0].write_to_path(files["ssl_certfile"])
    context = ssl.create_default_context()
    authority.configure_trust(context)
    app = Observed()
    with serving(app, loop=loop, proxy_protocol=True, **files) as server:
        for header in (V1, V2):
            with socket.create_connection(public(server), timeout=DEADLINE) as raw:
                raw.sendall(header)
                with context.wrap_socket(raw, server_hostname="127.0.0.1") as secure:
                    secure.sendall(GET)
                    assert secure.recv(65536).startswith(b"HTTP/1.1 200")
        with (
            socket.create_connection(public(server), timeout=DEADLINE) as raw,
            pytest.raises(OSError, match=r"EOF|reset|closed"),
        ):
            context.wrap_socket(raw, server_hostname="127.0.0.1")
    assert [(scope["client"], scope["scheme"]) for scope in app.scopes] == [(CLIENT, "https")] * 2


@pytest.mark.parametrize("ws", ["auto", "wsproto"])
def test_a_websocket_is_the_client_s_too(ws: str, loop: str) -> None:
    app = Observed()
    with serving(app, ws=ws, loop=loop, proxy_protocol=True) as server:
        raw = connect(server.url("public"))
        raw.sendall(V2)
        with connect_websocket(server.url("public").replace("http", "ws"), sock=raw) as websocket:
            assert websocket.recv() == "public"
            websocket.send("hello")
            assert websocket.recv() == "hello"
    assert app.scopes[0]["client"] == CLIENT


def test_connections_are_limited_by_their_client_and_not_by_the_balancer() -> None:
    with serving(Observed(), proxy_protocol=True, limit_connections_per_peer=1) as server:
        first, other = connect(server.url("public")), connect(server.url("public"))
        first.sendall(V1 + GET.replace(b"close", b"keep-alive"))
        assert first.recv(65536).endswith(b"public")
        other.sendall(line("198.51.100.8", 1) + GET.replace(b"close", b"keep-alive"))
        assert other.recv(65536).endswith(b"public")
        assert exchange(public(server), V1 + GET) == b""
        first.close()
        assert eventually(lambda: exchange(public(server), V1 + GET).endswith(b"public"))
        other.close()


def test_the_private_side_has_its_own_switch() -> None:
    app = Observed()
    with serving(app, private_proxy_protocol=True, private_health="/-") as server:
        address = server.addresses["private"]
        probe = GET.replace(b"/ ", b"/-/readyz ", 1).replace(b"Host: x", b"Host: localhost")
        assert ask(server.url("public")).endswith(b"public")
        assert exchange(address, GET) == exchange(address, probe) == b""
        assert exchange(address, V1 + FORGED).endswith(b"private")
        assert b" 200 OK" in exchange(address, V2 + probe)
    assert [scope["client"][0] for scope in app.scopes] == ["127.0.0.1", "198.51.100.7"]


def test_a_unix_domain_socket_has_a_proxy_where_every_peer_is_trusted(tmp_path: Path) -> None:
    app = Observed()
    path = str(tmp_path / "s")
    for trusted, is_served in (("127.0.0.1", False), ("*", True)):
        with serving(app, uds=path, proxy_protocol=True, forwarded_allow_ips=trusted):
            assert exchange(path, V1 + GET).endswith(b"public") is is_served
    assert [scope["client"] for scope in app.scopes] == [CLIENT]


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_a_launch_with_workers_understands_curl() -> None:
    with launched("duallisten.demo:app", *FREE, "--workers", "2", "--proxy-protocol") as server:
        command = ["curl", "--silent", "--max-time", "30", "--write-out", "%{local_ip}:%{local_port}"]
        done = subprocess.run(
            [*command, "--haproxy-protocol", server.url("public")], capture_output=True, text=True, check=True
        )
        server.wait_for(rf"{done.stdout.rpartition('}')[2].strip()} - \"GET / HTTP/1.1\" 200 OK")
        assert subprocess.run([*command, server.url("public")], capture_output=True, check=False).returncode != 0


def test_the_plan_shows_who_must_speak_it_and_what_a_client_header_is() -> None:
    options = ("--proxy-protocol", "--forwarded-allow-ips", "10.0.0.0/8", "--client-ip-header", "X-Real-IP")
    private, public = json.loads(run("duallisten.demo:app", "--check", "--json", *FREE, *options).stdout)["listeners"]
    assert (private["proxy_protocol"], private["client_header"]) == (None, None)
    assert (public["proxy_protocol"], public["client_header"]) == ("from 10.0.0.0/8", "X-Real-IP")
