"""The engine as a launch sets it up: options of each listener, and what ASGI has beyond requests and answers."""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme

from tests.support.applications import Observed, answer
from tests.support.running import DEADLINE, ObservedServer, ask, connect, eventually, serving

GET = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
LOOPS = ["asyncio", "uvloop"]


@pytest.fixture(params=["h11", "httptools"])
def http(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def status(answered: bytes) -> int:
    found = re.match(rb"HTTP/1\.1 (\d{3}) ", answered)
    return int(found[1]) if found else 0


# --- Options of each listener ---


def test_each_listener_has_its_own_limits(http: str) -> None:
    options = {"max_body_size": 10, "private_max_body_size": "20", "max_head_fields": 3, "private_max_head_fields": "5"}
    with serving(Observed(), http=http, **options) as server:
        for side, body, fields in (("public", 10, 3), ("private", 20, 5)):
            url = server.url(side)  # type: ignore[arg-type]
            for size, right in ((body, 200), (body + 1, 413)):
                head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
                announced = head + b"Content-Length: %d\r\n\r\n" % size + b"x" * size
                assert status(ask(url, announced)) == right
            for count, right in ((fields, 200), (fields + 1, 431)):
                lines = b"X: y\r\n" * (count - 2)
                assert (
                    status(ask(url, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n" + lines + b"\r\n")) == right
                )


def test_each_listener_has_its_own_time_outs(http: str) -> None:
    options = {"timeout_request_body": 0.2, "private_timeout_request_body": "60"}
    with serving(Observed(), http=http, **options) as server, ExitStack() as stack:
        sent = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhe"
        public, private = (stack.enter_context(connect(server.url(side))) for side in ("public", "private"))
        for connection in (public, private):
            connection.sendall(sent)
        if (answered := public.recv(65536)).startswith(b"HTTP/1.1 200"):
            assert answered  # the application does not want the body; what is left of it has its time, too
        assert eventually(lambda: not public.recv(65536))
        private.sendall(b"llo" + GET)
        received = b""
        while data := private.recv(65536):
            received += data
        assert received.count(b"HTTP/1.1 200 OK") == 2


@pytest.mark.parametrize("loop", LOOPS)
def test_one_peer_has_only_so_many_connections(loop: str) -> None:
    with serving(Observed(), loop=loop, limit_connections_per_peer=2) as server:
        url = server.url("public")
        with connect(url) as one, connect(url) as two:
            for connection in (one, two):
                connection.sendall(GET.replace(b"Connection: close\r\n", b""))
                assert connection.recv(65536).startswith(b"HTTP/1.1 200")
            with connect(url) as third:
                assert third.recv(1) == b""
            with socket.create_connection(server.addresses["public"], DEADLINE, ("127.0.0.2", 0)) as other:
                other.sendall(GET)
                assert other.recv(65536).startswith(b"HTTP/1.1 200")
            assert httpx.get(server.url("private")).text == "private"

        def is_answered() -> bool:
            try:
                return ask(url).startswith(b"HTTP/1.1 200")
            except ConnectionError:
                return False

        assert eventually(is_answered), "a place is free again"


# --- TLS: who the neighbour is ---


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA()


def told_tls(server: ObservedServer, side: str, context: ssl.SSLContext) -> dict[str, Any]:
    host, port = server.addresses[side]  # type: ignore[index]
    assert httpx.get(f"https://{host}:{port}", verify=context).status_code == 200
    scope = server.config.app.scopes[-1]  # type: ignore[union-attr]
    tls: dict[str, Any] = scope["extensions"]["tls"]
    return tls


@pytest.mark.parametrize("loop", LOOPS)
def test_an_application_is_told_which_neighbour_asks(loop: str, authority: trustme.CA, tmp_path: Path) -> None:
    own = authority.issue_cert("127.0.0.1")
    own.private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    files = {"private_ssl_certfile": str(tmp_path / "own.pem"), "private_ssl_ca_certs": str(tmp_path / "ca.pem")}
    with serving(Observed(), loop=loop, private_ssl_cert_reqs=int(ssl.CERT_REQUIRED), **files) as server:
        context = ssl.create_default_context(cafile=str(tmp_path / "ca.pem"))
        authority.issue_cert("billing.internal", common_name="billing").configure_cert(context)
        tls = told_tls(server, "private", context)
        assert "CN=billing" in tls["client_cert_name"].split(",")
        assert tls["client_cert_chain"][0].startswith("-----BEGIN CERTIFICATE-----")
        assert (tls["tls_version"], tls["client_cert_error"]) == (0x0304, None)
        assert isinstance(tls["cipher_suite"], int)
        assert httpx.get(server.url("public")).text == "public"
        assert "tls" not in server.config.app.scopes[-1]["extensions"]  # type: ignore[union-attr]


def test_without_a_certificate_of_the_client_s_there_is_no_name(authority: trustme.CA, tmp_path: Path) -> None:
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "own.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    with serving(Observed(), ssl_certfile=str(tmp_path / "own.pem")) as server:
        tls = told_tls(server, "public", ssl.create_default_context(cafile=str(tmp_path / "ca.pem")))
        assert (tls["client_cert_chain"], tls["client_cert_name"]) == ([], None)


# --- Trailers and early hints ---


async def with_trailers(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        return
    assert scope["extensions"]["http.response.trailers"] == {}
    await send({"type": "http.response.start", "status": 200, "headers": [(b"trailer", b"x-sum")], "trailers": True})
    await send({"type": "http.response.body", "body": b"abc"})
    await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"6")]})


async def with_hints(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload", b"</b.js>; rel=preload"]})
        await answer(send, b"abc")


def test_trailers_follow_the_last_chunk(http: str) -> None:
    with serving(with_trailers, http=http, lifespan="off") as server:
        head, _, body = ask(server.url("public")).partition(b"\r\n\r\n")
        assert b"transfer-encoding: chunked" in head
        assert body == b"3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n"
        old = ask(server.url("public"), b"GET / HTTP/1.0\r\n\r\n")  # which has neither chunks nor trailers
        assert b"chunked" not in old


def test_hints_come_before_the_answer(http: str) -> None:
    with serving(with_hints, http=http, lifespan="off") as server:
        hints, _, rest = ask(server.url("public")).partition(b"\r\n\r\n")
        assert hints.startswith(b"HTTP/1.1 103 Early Hints\r\n")
        assert hints.count(b"link: </") == 2
        assert rest.startswith(b"HTTP/1.1 200 OK\r\n") and rest.endswith(b"abc")
        assert ask(server.url("public"), b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 OK\r\n")


# --- Tasks ---


@pytest.mark.parametrize("loop", LOOPS)
def test_a_request_runs_in_a_task_of_its_own_with_its_own_variables(loop: str) -> None:
    """Also where tasks are started at once (Python 3.12 and newer)."""
    from contextvars import ContextVar

    number: ContextVar[int] = ContextVar("number", default=0)
    found: list[tuple[Any, int]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            found.append((asyncio.current_task(), number.get()))
            number.set(number.get() + 1)
            await asyncio.sleep(0)
            assert asyncio.current_task() is found[-1][0]
            async with asyncio.timeout(DEADLINE):
                await answer(send, b"")

    with serving(app, loop=loop, lifespan="off") as server, httpx.Client() as client:
        for _ in range(3):
            assert client.get(server.url("public")).status_code == 200
    assert len({id(task) for task, _ in found}) == 3 and all(task is not None for task, _ in found)
    assert [seen for _, seen in found] == [0, 0, 0]


@pytest.mark.parametrize("loop", LOOPS)
def test_what_a_request_sets_is_seen_by_none_that_comes_after_it(loop: str) -> None:
    """Neither by the next of its connection, sent ahead or after a body, nor by those of others in the same turn."""
    from contextvars import ContextVar

    number: ContextVar[int] = ContextVar("number", default=0)
    found: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(number.get())
        number.set(1)
        await asyncio.sleep(0)
        while (await receive()).get("more_body", False):
            pass
        await answer(send, b"")

    post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 200000\r\n\r\n" + bytes(200_000)
    get = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
    stream = get + get + post + get + GET
    with serving(app, loop=loop, lifespan="off") as server:
        asking = [threading.Thread(target=ask, args=(server.url("public"), stream)) for _ in range(4)]
        for one in asking:
            one.start()
        for one in asking:
            one.join(DEADLINE)
    assert found == [0] * 20


def test_a_task_factory_of_the_program_s_is_used() -> None:
    made: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"

            def factory(loop: Any, coroutine: Any, **options: Any) -> Any:
                made.append(coroutine.__qualname__)
                return asyncio.Task(coroutine, loop=loop, **options)

            asyncio.get_running_loop().set_task_factory(factory)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.complete"})
        else:
            await answer(send, b"")

    with serving(app) as server:
        httpx.get(server.url("public"))
    assert "Exchange.run" in made


# --- Framing of responses ---


def response(*fields: tuple[bytes, bytes], status: int = 200) -> Any:
    """Make an application that answers `abc` with these fields."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": status, "headers": list(fields)})
            await send({"type": "http.response.body", "body": b"abc"})

    return app


LENGTH, CHUNKED = (b"Content-Length", b"3"), (b"Transfer-Encoding", b"chunked")


@pytest.mark.parametrize(
    ("fields", "version", "framing", "body"),
    [
        ((LENGTH,), b"1.1", {b"content-length: 3"}, b"abc"),
        ((), b"1.1", {b"transfer-encoding: chunked"}, b"3\r\nabc\r\n0\r\n\r\n"),
        ((CHUNKED,), b"1.1", {b"transfer-encoding: chunked"}, b"3\r\nabc\r\n0\r\n\r\n"),
        ((LENGTH, CHUNKED), b"1.1", {b"transfer-encoding: chunked"}, b"3\r\nabc\r\n0\r\n\r\n"),
        ((LENGTH,), b"1.0", {b"content-length: 3"}, b"abc"),
        ((), b"1.0", set(), b"abc"),
        ((CHUNKED,), b"1.0", set(), b"abc"),
        ((LENGTH, CHUNKED), b"1.0", {b"content-length: 3"}, b"abc"),
    ],
)
def test_a_response_is_framed_once(fields: Any, version: bytes, framing: set[bytes], body: bytes, http: str) -> None:
    with serving(response(*fields), http=http, lifespan="off") as server:
        head, _, rest = ask(server.url("public"), GET.replace(b"1.1", version)).partition(b"\r\n\r\n")
    names = (b"content-length", b"transfer-encoding")
    assert {line for line in head.split(b"\r\n") if line.startswith(names)} == framing
    assert b"connection: close" in head
    assert rest == body


@pytest.mark.parametrize("fields", [(LENGTH,), (CHUNKED,), ()])
def test_a_204_has_neither_a_body_nor_a_length(fields: Any, http: str) -> None:
    with serving(response(*fields, status=204), http=http, lifespan="off") as server:
        head, _, rest = ask(server.url("public")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 204 No Content") and rest == b""
    assert b"content-length" not in head and b"transfer-encoding" not in head
