"""Real servers on real sockets, with real clients, on every loop and parser."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import trustme
from websockets.sync.client import connect

from duallisten import Config, LaunchError, Server, side
from duallisten.sides import Receive, Scope, Send, Side
from tests.support.applications import Observed, fails_to_start, wsgi_app
from tests.support.running import DEADLINE, ObservedServer, ask, eventually, serving


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["h11", "httptools"])
def http(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def certificate(authority: trustme.CA, tmp_path: Path) -> dict[str, str]:
    issued = authority.issue_cert("127.0.0.1", "localhost")
    issued.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    issued.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    return {"keyfile": str(tmp_path / "key.pem"), "certfile": str(tmp_path / "cert.pem")}


def tls(certificate: dict[str, str], *prefixes: str) -> dict[str, str]:
    """The options that give a side its certificate: the public one at `ssl_`, the private one at `private_ssl_`."""
    return {prefix + name: path for prefix in prefixes for name, path in certificate.items()}


@pytest.fixture
def client(authority: trustme.CA) -> Iterator[httpx.Client]:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with httpx.Client(verify=context) as made:
        yield made


def test_each_listener_answers_for_its_side(loop: str, http: str) -> None:
    app = Observed()
    with serving(app, loop=loop, http=http) as server:
        assert httpx.get(server.url("public")).text == "public"
        assert httpx.get(server.url("private")).text == "private"
        for name in ("public", "private"):
            with connect(server.url(name).replace("http", "ws")) as websocket:
                assert websocket.recv() == name
                websocket.send("hello")
                assert websocket.recv() == "hello"
    assert (app.started, app.stopped) == (1, 1)


def test_both_listeners_share_the_application_s_state() -> None:
    app = Observed()
    with serving(app) as server:
        httpx.get(server.url("public"))
        httpx.get(server.url("private"))
    assert [scope["state"]["token"] for scope in app.scopes] == [app, app]


def test_nothing_that_a_client_sends_changes_its_side(http: str) -> None:
    headers = [
        "X-Forwarded-For: 10.240.0.6",
        "X-Forwarded-Host: 10.240.0.5:9240",
        "X-Forwarded-Port: 9240",
        "Forwarded: for=10.240.0.6;host=10.240.0.5:9240",
        "X-Real-IP: 127.0.0.1",
        "Duallisten: private",
        "X-Side: private",
        "Host: 10.240.0.5:9240",
    ]
    with serving(Observed(), http=http) as server:
        private_port = server.addresses["private"][1]
        for target in ("/", f"http://127.0.0.1:{private_port}/"):
            lines = "\r\n".join([f"GET {target} HTTP/1.1", *headers, "Connection: close", "", ""])
            assert ask(server.url("public"), lines.encode()).endswith(b"\r\n\r\npublic")


def test_the_addresses_are_known_once_it_serves() -> None:
    with serving(Observed()) as server:
        assert server.started
        assert server.addresses["public"][0] == server.addresses["private"][0] == "127.0.0.1"
        assert len({0, server.addresses["public"][1], server.addresses["private"][1]}) == 3


def test_one_side_can_be_served_alone(loop: str) -> None:
    pairs: tuple[tuple[Side, Side], ...] = (("public", "private"), ("private", "public"))
    for only, other in pairs:
        app = Observed()
        with serving(app, listeners=only, loop=loop) as server:
            assert httpx.get(server.url(only)).text == only
            assert other not in server.addresses
        assert (app.started, app.stopped) == (1, 1)


def test_a_failed_start_of_the_application_accepts_nowhere() -> None:
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as two:
        ports = [one.getsockname()[1], two.getsockname()[1]]
    with (
        pytest.raises(LaunchError, match="failed to start"),
        serving(fails_to_start, port=ports[0], private_port=ports[1]),
    ):
        pass
    for port in ports:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=DEADLINE)


def test_neither_listener_accepts_before_the_application_has_started(loop: str) -> None:
    begin, may_start = threading.Event(), threading.Event()

    class Slow(Observed):
        async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
            begin.set()
            await asyncio.to_thread(may_start.wait, DEADLINE)
            await super()._live(scope, receive, send)

    server = ObservedServer(Config(Slow(), port=0, private_port=0, log_config=None, loop=loop))
    server.thread.start()
    try:
        assert begin.wait(DEADLINE)
        for name in ("public", "private"):
            with pytest.raises(ConnectionRefusedError):
                ask(server.url(name))
        may_start.set()
        assert server.ready.wait(DEADLINE)
        assert httpx.get(server.url("private")).text == "private"
    finally:
        may_start.set()
        server.finish()


def test_a_port_in_use_is_found_before_the_application_is_loaded() -> None:
    def factory() -> None:
        raise AssertionError("it was called")

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options in ({"port": port}, {"private_port": port}):
            with pytest.raises(LaunchError, match="Address already in use"), serving(factory, factory=True, **options):
                pass


def test_sockets_given_to_serve_are_the_public_listener_s() -> None:
    app = Observed()
    given = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
    names = [sock.getsockname() for sock in given]
    server = ObservedServer(Config(app, port=1, private_port=0, log_config=None))
    server.thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=given)))
    server.thread.start()
    assert server.ready.wait(DEADLINE)
    for host, port in names:
        assert httpx.get(f"http://{host}:{port}").text == "public"
    assert httpx.get(server.url("private")).text == "private"
    assert server.addresses["public"] == names[0]
    server.finish()
    assert all(sock.fileno() == -1 for sock in given)


def test_a_port_that_is_taken_while_the_application_starts_ends_it_in_good_order(loop: str) -> None:
    """The address was free when it was tried; with SO_REUSEADDR another may listen first."""
    thieves: list[socket.socket] = []

    class Robbed(Observed):
        async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
            thief = socket.socket()
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            thief.bind(server.addresses["private"])
            thief.listen()
            thieves.append(thief)
            await super()._live(scope, receive, send)

    app = Robbed()
    server = ObservedServer(Config(app, port=0, private_port=0, log_config=None, loop=loop))
    server.thread.start()
    server.thread.join(DEADLINE)
    assert isinstance(server.error, LaunchError)
    assert "the private listener cannot listen" in str(server.error)
    assert (app.started, app.stopped) == (1, 1)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.addresses["public"], timeout=DEADLINE)
    thieves[0].close()


@pytest.mark.parametrize("given", [True, False])
def test_an_answer_in_two_parts_does_not_wait_for_an_acknowledgement(loop: str, given: bool) -> None:
    """asyncio leaves TCP_NODELAY off where a listening socket was made without its protocol's number."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        server = ObservedServer(Config(Observed(), port=0, private_port=0, log_config=None, loop=loop))
        factory, sockets = server.config.get_loop_factory(), [sock] if given else None
        server.thread = threading.Thread(target=lambda: asyncio.Runner(loop_factory=factory).run(server.serve(sockets)))
        server.thread.start()
        try:
            assert server.ready.wait(DEADLINE)
            delays = [answers_without_delay(server, address) for address in server.addresses.values()]
        finally:
            server.finish()
    assert delays == [True, True]


def answers_without_delay(server: ObservedServer, address: tuple[str, int]) -> bool:
    """Ask once, and tell whether the socket that answered sends at once what it is given."""
    with socket.create_connection(address, timeout=DEADLINE) as client:
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert client.recv(1)
        (connection,) = [each for state in server.states for each in state.connections]
        accepted = connection.transport.get_extra_info("socket")
        without_delay = bool(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
    assert eventually(lambda: not any(state.connections for state in server.states))
    return without_delay


async def test_it_runs_in_a_loop_that_is_there_already() -> None:
    server = Server(Config(Observed(), port=0, private_port=0, log_config=None))
    serve = asyncio.create_task(server.serve())
    while not server.started:
        await asyncio.sleep(0)
    async with httpx.AsyncClient() as asking:
        host, port = server.addresses["private"]
        assert (await asking.get(f"http://{host}:{port}")).text == "private"
    server.should_exit = True
    await asyncio.wait_for(serve, DEADLINE)


def test_each_listener_has_its_own_values(http: str) -> None:
    options = {
        "root_path": "/api",
        "private_root_path": "/internal",
        "headers": [("x-side", "outer")],
        "private_headers": [("x-side", "inner")],
        "private_server_header": False,
        "private_date_header": False,
    }
    app = Observed()
    with serving(app, http=http, **options) as server:
        public, private = httpx.get(server.url("public") + "/a"), httpx.get(server.url("private") + "/a")
    assert (public.headers["x-side"], private.headers["x-side"]) == ("outer", "inner")
    assert public.headers["server"] == "uvicorn"
    assert "date" in public.headers
    assert not {"server", "date"} & private.headers.keys()
    assert [scope["root_path"] for scope in app.scopes] == ["/api", "/internal"]


def test_values_that_were_not_given_are_the_public_ones() -> None:
    app = Observed()
    with serving(app, root_path="/api", headers=[("x-side", "both")]) as server:
        private = httpx.get(server.url("private") + "/a")
    assert private.headers["x-side"] == "both"
    assert {"server", "date"} <= private.headers.keys()
    assert app.scopes[0]["root_path"] == "/api"


def test_a_flood_on_one_side_uses_up_no_limit_of_the_other() -> None:
    with serving(Observed(), limit_concurrency=2) as server:
        held = [socket.create_connection(server.addresses["public"]) for _ in range(4)]
        try:
            assert httpx.get(server.url("public")).status_code == 503
            assert httpx.get(server.url("private")).status_code == 200
        finally:
            for connection in held:
                connection.close()


def test_the_private_side_has_a_limit_of_its_own() -> None:
    with serving(Observed(), private_limit_concurrency=1) as server:
        assert httpx.get(server.url("private")).status_code == 503
        assert httpx.get(server.url("public")).status_code == 200


def test_the_limit_of_requests_counts_both_sides() -> None:
    app = Observed()
    with serving(app, limit_max_requests=2) as server:
        httpx.get(server.url("public"))
        httpx.get(server.url("private"))
        server.thread.join(DEADLINE)
        assert not server.thread.is_alive()
    assert app.stopped == 1


@pytest.mark.parametrize("secure", ["public", "private", "both"])
def test_each_side_speaks_tls_if_it_was_asked_to(
    secure: str, loop: str, http: str, certificate: dict[str, str], client: httpx.Client
) -> None:
    prefixes = {"public": ["ssl_"], "private": ["private_ssl_"], "both": ["ssl_", "private_ssl_"]}
    options = tls(certificate, *prefixes[secure])
    with serving(Observed(), loop=loop, http=http, **options) as server:
        for name in ("public", "private"):
            assert server.url(name).startswith("https" if secure in (name, "both") else "http:")
            for _ in range(3):
                assert client.get(server.url(name)).text == name
        client.close()  # an idle client of TLS has a second to answer the end of its connection


def test_a_websocket_over_tls(loop: str, certificate: dict[str, str], authority: trustme.CA) -> None:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    options = tls(certificate, "private_ssl_")
    with (
        serving(Observed(), loop=loop, **options) as server,
        connect(server.url("private").replace("http", "ws"), ssl=context) as websocket,
    ):
        assert websocket.recv() == "private"


def test_a_failed_tls_handshake_costs_nobody_else_anything(
    loop: str, certificate: dict[str, str], client: httpx.Client
) -> None:
    options = tls(certificate, "ssl_")
    with serving(Observed(), loop=loop, **options) as server:
        for _ in range(20):
            with socket.create_connection(server.addresses["public"], timeout=DEADLINE) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
                while connection.recv(1000):
                    pass
        waiting = socket.create_connection(server.addresses["public"])  # a handshake that never comes
        assert client.get(server.url("public")).text == "public"
        server.should_exit = True
    waiting.close()


def test_a_peer_that_is_not_admitted_is_closed_before_a_byte_is_read(
    loop: str, certificate: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    app = Observed()
    for options in ({}, tls(certificate, "private_ssl_")):
        with serving(app, loop=loop, private_allow=["10.240.0.6"], **options) as server:
            with socket.create_connection(server.addresses["private"], timeout=DEADLINE) as connection:
                assert connection.recv(1) == b""
            assert httpx.get(server.url("public")).text == "public"
        assert "Refused a connection from 127.0.0.1 to 127.0.0.1" in caplog.text
    assert [side(scope) for scope in app.scopes] == ["public", "public"]


def test_a_flood_of_refused_peers_does_not_flood_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with serving(Observed(), private_allow=["10.240.0.6"]) as server:
        for _ in range(50):
            with socket.create_connection(server.addresses["private"], timeout=DEADLINE) as connection:
                assert connection.recv(1) == b""
    assert caplog.text.count("Refused a connection") == 1


def test_a_private_address_with_the_public_port_is_refused_if_asked(loop: str) -> None:
    """127.0.0.1 stands for a private address here; the namespaces' tests have the real ones."""
    options = {"private_network": ["127.0.0.0/8"], "private_host": "127.0.0.2", "loop": loop}
    with serving(Observed(), side_door="serve", **options) as server:
        assert httpx.get(server.url("public")).text == "public"
    with serving(Observed(), side_door="refuse", **options) as server:
        with pytest.raises(httpx.TransportError):
            httpx.get(server.url("public"))
        assert httpx.get(server.url("private")).text == "private"


@pytest.mark.parametrize("wildcard", ["::", "0.0.0.0"])
def test_a_wildcard_public_listener_is_reached_over_ipv4_and_ipv6(wildcard: str, loop: str) -> None:
    with serving(Observed(), host=wildcard, loop=loop) as server:
        port = server.addresses["public"][1]
        assert httpx.get(f"http://127.0.0.1:{port}").text == "public"
        if wildcard == "::":
            assert httpx.get(f"http://[::1]:{port}").text == "public"


def test_the_private_listener_may_be_an_ipv6_one(loop: str) -> None:
    with serving(Observed(), private_host="::1", private_network=["::1/128"], loop=loop) as server:
        assert server.addresses["private"][0] == "::1"
        assert httpx.get(server.url("private")).text == "private"


def test_a_name_is_served_on_each_of_its_addresses() -> None:
    with serving(Observed(), host="localhost") as server:
        port = server.addresses["public"][1]
        assert httpx.get(f"http://localhost:{port}").text == "public"


def test_each_side_may_have_several_addresses() -> None:
    hosts = {"host": ["127.0.0.1", "127.0.0.2"], "private_host": ["127.0.0.3", "127.0.0.4"]}
    with serving(Observed(), **hosts) as server:
        assert (server.addresses["public"][0], server.addresses["private"][0]) == ("127.0.0.1", "127.0.0.3")
        bound = [one.getsockname() for accepting in server.servers for one in accepting.sockets]
        assert [(host, httpx.get(f"http://{host}:{port}").text) for host, port in bound] == [
            ("127.0.0.1", "public"),
            ("127.0.0.2", "public"),
            ("127.0.0.3", "private"),
            ("127.0.0.4", "private"),
        ]
        assert len({port for _, port in bound}) == 2, "one port for each side"


def test_a_unix_domain_socket_is_the_public_side(loop: str, tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with serving(Observed(), uds=str(path), loop=loop) as server:
        assert server.addresses["public"] == (str(path), 0)
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as asking:
            assert asking.get("http://app/").text == "public"
        assert httpx.get(server.url("private")).text == "private"
    assert not path.exists()


def test_an_inherited_descriptor_is_the_public_side(loop: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        host, port = inherited.getsockname()
        with serving(Observed(), fd=inherited.fileno(), loop=loop) as server:
            assert httpx.get(f"http://{host}:{port}").text == "public"
            assert server.addresses["public"] == (host, port)


def test_a_wsgi_application_is_served_on_both_sides() -> None:
    with serving(wsgi_app, interface="wsgi") as server:
        assert httpx.get(server.url("public")).text == httpx.get(server.url("private")).text == "wsgi"


def test_an_application_factory_is_called_once() -> None:
    made: list[Observed] = []

    def factory() -> Observed:
        made.append(Observed())
        return made[-1]

    with serving(factory, factory=True) as server:
        assert httpx.get(server.url("private")).text == "private"
        assert httpx.get(server.url("public")).text == "public"
    assert (len(made), made[0].started) == (1, 1)


def test_a_trace_of_messages_is_written_once_a_message(caplog: pytest.LogCaptureFixture) -> None:
    with serving(Observed(), log_level="trace") as server:
        caplog.set_level(5, "uvicorn.asgi")
        assert httpx.get(server.url("public")).text == "public"
    assert sum("HTTP connection made" in record.message for record in caplog.records) <= 1
    assert sum("http.response.start" in record.message for record in caplog.records) == 1


def test_a_server_takes_only_our_configuration() -> None:
    import uvicorn

    with pytest.raises(TypeError, match=r"takes a duallisten\.Config"):
        Server(uvicorn.Config(Observed(), log_config=None))  # type: ignore[arg-type]
