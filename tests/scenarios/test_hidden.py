"""What a request for a hidden path gets on the wire, whatever it is made of, and what it leaves of its connection."""

from __future__ import annotations

import contextlib
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from duallisten.endpoints.endpoint_set import endpoint_set
from duallisten.endpoints.path_rules import Rules
from duallisten.sides import Side
from tests.support.applications import Observed
from tests.support.running import DEADLINE, FREE, ObservedServer, ask, eventually, launched, serving, sharing

pytestmark = pytest.mark.filterwarnings(  # of uvicorn's oldest WebSocket implementation, and of its library
    "ignore:The .websockets. implementation is deprecated",
    "ignore:websockets.legacy is deprecated:DeprecationWarning",
    "ignore:remove second argument of ws_handler:DeprecationWarning",
)

MIB = 1024 * 1024
HIDING: dict[str, Any] = {"private_paths": ["/internal"], "log_level": "critical"}

HIDDEN_PATHS = [
    "/internal",
    "/internal/",
    "/internal/stock",
    "/internal/stock?now=1",
    "/internal/no/such/thing",
    "/INTERNAL/stock",
    "/%69nternal/stock",
    "/%2569nternal/stock",
    "//internal/stock",
    "/shop/../internal/stock",
    "/internal;x=1/stock",
    "/\\internal",
    "http://localhost/internal/stock",
]
METHODS = ["GET", "POST", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH", "PROPFIND", "M-SEARCH"]


@pytest.fixture(params=["h11", "httptools"])
def http(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["websockets", "websockets-sansio", "wsproto"])
def ws(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def head(method: str, target: str, *headers: str) -> bytes:
    """Write a request without its body."""
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: localhost", *headers, "", ""]).encode()


class Conversation:
    """One connection: what is said on it, and the answers one by one."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._heard = connection.makefile("rb")

    def say(self, *parts: bytes) -> None:
        for part in parts:
            self._connection.sendall(part)

    def hear(self, *, with_body: bool = True) -> bytes:
        """Read one answer, as it was sent but for its date."""
        lines = []
        while (line := self._heard.readline()).strip():
            lines.append(line)
        lines.append(line)
        heading = b"".join(lines)
        length = re.search(rb"\r\ncontent-length: (\d+)", heading)
        body = self._heard.read(int(length[1])) if length and with_body else b""
        return without_date(heading + body)

    def ask(self, method: str, target: str, *headers: str) -> bytes:
        self.say(head(method, target, *headers))
        return self.hear(with_body=method != "HEAD")

    def rest(self) -> bytes:
        """Read until the server closes; raises ConnectionResetError where it does not do so in order."""
        return self._heard.read()

    def close(self) -> None:
        self._heard.close()
        self._connection.close()


def without_date(answer: bytes) -> bytes:
    return re.sub(rb"(?i)\r\ndate: [^\r]*", b"", answer)


@contextlib.contextmanager
def talking_to(server: ObservedServer | tuple[str, int], *, source: str = "") -> Iterator[Conversation]:
    """Open a connection to the public side of a server, or to an address."""
    address = server.addresses["public"] if isinstance(server, ObservedServer) else server
    conversation = Conversation(socket.create_connection(address, DEADLINE, (source, 0)))
    try:
        yield conversation
    finally:
        conversation.close()


HIDDEN = (
    b"HTTP/1.1 404 Not Found\r\nserver: uvicorn\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 9\r\n\r\n"
    b"Not Found"
)


def is_public(answer: bytes) -> bool:
    return answer.startswith(b"HTTP/1.1 200 OK\r\n") and answer.endswith(b"\r\n\r\npublic")


def test_every_hidden_path_is_answered_alike(http: str) -> None:
    app = Observed()
    with serving(app, http=http, **HIDING) as server, talking_to(server) as client:
        for path in HIDDEN_PATHS:
            assert client.ask("GET", path) == HIDDEN, path
        assert is_public(client.ask("GET", "/"))
    assert [scope["path"] for scope in app.scopes] == ["/"]


def test_every_method_is_answered_alike(http: str) -> None:
    app = Observed()
    with serving(app, http=http, **HIDING) as server:
        for method in METHODS:
            with talking_to(server) as client:
                assert client.ask(method, "/internal/stock") == HIDDEN, method
        with talking_to(server) as client:  # which is refused, whatever it asks for
            assert client.ask("CONNECT", "/internal/stock").startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert not app.scopes


def test_a_method_that_nobody_has_heard_of_tells_nothing_of_what_is_hidden(http: str) -> None:
    app = Observed()
    with serving(app, http=http, **HIDING) as server:
        for method in ("BREW", "get"):
            with talking_to(server) as client, talking_to(server) as other:
                answers = {client.ask(method, "/internal"), other.ask(method, "/internal/stock")}
            with talking_to(server) as client:
                refused = client.ask(method, "/")
            assert answers == {refused}
    assert not app.scopes


def test_a_question_for_the_head_is_answered_without_a_body(http: str) -> None:
    with serving(Observed(), http=http, **HIDING) as server, talking_to(server) as client:
        for path in ("/internal", "/internal/stock"):
            assert client.ask("HEAD", path) == HIDDEN.removesuffix(b"Not Found")
        assert is_public(client.ask("GET", "/"))


def test_a_hidden_request_tells_nothing_of_what_was_asked_with_it(http: str) -> None:
    headers = ["Cookie: session=1", "Authorization: Bearer x", "Accept: application/json", "Origin: http://localhost"]
    with serving(Observed(), http=http, **HIDING) as server, talking_to(server) as client:
        for header in [*headers, "X-Forwarded-For: 10.240.0.6", "If-None-Match: *", "Range: bytes=0-3"]:
            assert client.ask("GET", "/internal", header) == HIDDEN


def test_a_target_without_a_slash_in_front_is_refused(http: str) -> None:
    """Some frameworks add the slash."""
    app = Observed()
    with serving(app, http=http, **HIDING) as server:
        for target in ("internal/stock", "internal", "http:/internal/stock", "x:internal/stock"):
            with talking_to(server) as client:
                assert client.ask("GET", target).startswith(b"HTTP/1.1 400 Bad Request\r\n"), target
    assert not app.scopes


def test_hiding_everything_hides_what_is_no_path(http: str) -> None:
    app = Observed()
    with serving(app, http=http, private_paths=["/"]) as server, talking_to(server) as client:
        for method, target in (("GET", "/"), ("OPTIONS", "*")):
            assert client.ask(method, target) == HIDDEN, target
    assert not app.scopes


def test_a_hidden_request_can_be_answered_403(http: str) -> None:
    with serving(Observed(), http=http, hidden_status=403, **HIDING) as server, talking_to(server) as client:
        answers = {client.ask(method, path) for method in ("GET", "POST") for path in HIDDEN_PATHS}
        assert answers == {HIDDEN.replace(b"404 Not Found", b"403 Forbidden").replace(b"Not Found", b"Forbidden")}


def test_an_allow_list_hides_all_else_alike(http: str) -> None:
    app = Observed()
    rules: dict[str, Any] = {"public_paths": ["/shop"], "private_paths": ["/shop/internal"]}
    with serving(app, http=http, **rules) as server, talking_to(server) as client:
        for path in ("/", "/internal", "/shops", "/SHOP", "/shop/internal/x", "/shop/..", "/shop/%2e%2e/x", "*"):
            assert client.ask("OPTIONS", path) == HIDDEN, path
        assert is_public(client.ask("GET", "/shop/apples"))
    assert [scope["path"] for scope in app.scopes] == ["/shop/apples"]


def test_the_private_side_has_it_all(http: str) -> None:
    app = Observed()
    with serving(app, http=http, **HIDING) as server:
        for path in HIDDEN_PATHS:
            assert ask(server.url("private"), head("GET", path, "Connection: close")).endswith(b"\r\n\r\nprivate")
    assert len(app.scopes) == len(HIDDEN_PATHS)


def test_one_connection_asks_for_hidden_and_public_paths_in_turn(http: str) -> None:
    with serving(Observed(), http=http, **HIDING) as server, talking_to(server) as client:
        for _ in range(20):
            assert client.ask("GET", "/internal") == HIDDEN
            assert is_public(client.ask("GET", "/"))


BODIES: dict[str, tuple[bytes, bytes]] = {
    "small": (head("POST", "/internal", "Content-Length: 4"), b"abcd"),
    "large": (head("POST", "/internal", f"Content-Length: {MIB}"), b"x" * MIB),
    "chunked": (head("POST", "/internal", "Transfer-Encoding: chunked"), b"4\r\nabcd\r\n" * 3 + b"0\r\n\r\n"),
    "large and chunked": (
        head("PUT", "/internal", "Transfer-Encoding: chunked"),
        (b"10000\r\n" + b"x" * 65536 + b"\r\n") * 16 + b"0\r\n\r\n",
    ),
    "like a request": (head("POST", "/internal", f"Content-Length: {len(head('GET', '/'))}"), head("GET", "/")),
}


def test_a_body_is_thrown_away_and_the_connection_goes_on(http: str) -> None:
    app = Observed()
    with serving(app, http=http, **HIDING) as server, talking_to(server) as client:
        for name, parts in BODIES.items():
            client.say(*parts)
            assert client.hear() == HIDDEN, name
            assert is_public(client.ask("GET", "/")), name
        client.say(*BODIES["small"], head("GET", "/", "Connection: close"))
        assert client.hear() == HIDDEN
        assert client.hear().endswith(b"\r\n\r\npublic")
        assert client.rest() == b""
    assert {scope["method"] for scope in app.scopes} == {"GET"}
    assert len(app.scopes) == len(BODIES) + 1


def test_a_large_body_on_a_connection_that_is_to_be_closed_ends_without_a_reset(http: str) -> None:
    with serving(Observed(), http=http, **HIDING) as server, talking_to(server) as client:
        client.say(head("POST", "/internal", "Connection: close", f"Content-Length: {16 * MIB}"), b"x" * 16 * MIB)
        assert client.hear().startswith(b"HTTP/1.1 404 Not Found\r\n")
        assert client.rest() == b""


@pytest.mark.parametrize("method", ["POST", "HEAD"])
def test_a_connection_that_is_to_be_closed_is_closed_in_order(http: str, method: str) -> None:
    with serving(Observed(), http=http, **HIDING) as server, talking_to(server) as client:
        client.say(head(method, "/internal", "Connection: close", "Content-Length: 4") + b"abcd")
        assert client.hear(with_body=method != "HEAD").startswith(b"HTTP/1.1 404 Not Found\r\n")
        assert client.rest() == b""


def test_who_waits_to_be_asked_for_the_body_is_not_asked_for_it(http: str) -> None:
    app = Observed()
    with serving(app, http=http, **HIDING) as server, talking_to(server) as client:
        waiting = head("POST", "/internal", "Expect: 100-continue", "Content-Length: 4")
        client.say(waiting)
        answer = client.hear()  # and no "100 Continue" before it
        assert answer.replace(b"connection: close\r\n", b"") == HIDDEN
        assert answer != HIDDEN, "nobody can tell whether the body is still to come"
        assert client.rest() == b""
    assert not app.scopes


def test_a_body_that_never_ends_keeps_nobody_waiting(http: str) -> None:
    with serving(Observed(), http=http, **HIDING) as server, talking_to(server) as slow:
        slow.say(head("POST", "/internal", "Content-Length: 8"))
        assert slow.hear() == HIDDEN
        for byte in b"abcdefgh":
            slow.say(bytes([byte]))
            with talking_to(server) as other:
                assert is_public(other.ask("GET", "/"))
                assert other.ask("POST", "/internal") == HIDDEN
        assert is_public(slow.ask("GET", "/"))


def test_a_pipelined_request_is_answered_in_its_turn(http: str) -> None:
    with serving(Observed(), http=http, **HIDING) as server, talking_to(server) as client:
        hidden, public = head("GET", "/internal"), head("GET", "/")
        client.say(hidden + public + head("POST", "/internal", "Content-Length: 4") + b"abcd" + hidden + public)
        for is_hidden in (True, False, True, True, False):
            answer = client.hear()
            assert answer == HIDDEN if is_hidden else is_public(answer)


def websocket(url: str, path: str) -> str:
    return url.replace("http", "ws", 1) + path


def refused(url: str) -> tuple[int, bytes]:
    """Ask for a WebSocket that there is none of, and give the status and body of the answer."""
    with pytest.raises(InvalidStatus) as raised, connect(url):
        pass
    return raised.value.response.status_code, bytes(raised.value.response.body)


HANDSHAKE = (
    "Connection: Upgrade",
    "Upgrade: websocket",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
)


def test_a_websocket_at_a_hidden_path_is_not_found(http: str, ws: str) -> None:
    app = Observed()
    with serving(app, http=http, ws=ws, **HIDING) as server:
        for path in ("/internal", "/internal/stock", "/%69nternal", "//internal"):
            assert refused(websocket(server.url("public"), path)) == (404, b"Not Found")
        targets = ["/internal", "/internal/stock", "http://localhost/internal"]
        answers = {without_date(ask(server.url("public"), head("GET", target, *HANDSHAKE))) for target in targets}
        assert len(answers) == 1
        assert answers.pop().startswith(b"HTTP/1.1 404 ")
        assert not app.scopes
        reached: dict[Side, str] = {"public": "/", "private": "/internal"}
        for name, path in reached.items():
            with connect(websocket(server.url(name), path)) as accepted:
                assert accepted.recv() == name


def test_a_websocket_at_a_hidden_path_can_be_forbidden(ws: str) -> None:
    app = Observed()
    with serving(app, ws=ws, hidden_status=403, **HIDING) as server:
        assert refused(websocket(server.url("public"), "/internal")) == (403, b"Forbidden")
    assert not app.scopes


def test_without_websockets_an_upgrade_to_a_hidden_path_is_a_hidden_request(http: str) -> None:
    app = Observed()
    with serving(app, http=http, ws="none", **HIDING) as server, talking_to(server) as client:
        assert client.ask("GET", "/internal", *HANDSHAKE) == HIDDEN
        assert not app.scopes
    with serving(app, http=http, ws="none", **HIDING) as server, talking_to(server) as client:
        assert is_public(client.ask("GET", "/", *HANDSHAKE))


async def test_a_server_that_cannot_answer_a_handshake_closes_the_socket() -> None:
    app = Observed()
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.connect"}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    public = endpoint_set(app, "public", Rules(private=("/internal",)))
    offered: tuple[dict[str, Any], ...] = ({}, {"extensions": {}}, {"extensions": {"tls": {}}})
    for extensions in offered:
        await public({"type": "websocket", "path": "/internal", "raw_path": b"/internal"} | extensions, receive, send)
        assert [message["type"] for message in sent] == ["websocket.close"]
        sent.clear()
    assert not app.scopes


def test_the_side_door_hides_too(http: str) -> None:
    """127.0.0.1 stands for a private address here; the namespaces' tests have the real ones."""
    app = Observed()
    options: dict[str, Any] = {"private_network": ["127.0.0.0/8"], "private_host": "127.0.0.2"}
    with serving(app, http=http, **options, **HIDING) as server, talking_to(server) as client:
        assert client.ask("GET", "/internal") == HIDDEN
        assert refused(websocket(server.url("public"), "/internal")) == (404, b"Not Found")
        assert not app.scopes
        assert httpx.get(server.url("private") + "/internal").text == "private"


def test_a_port_that_both_sides_share_hides_from_all_but_the_admitted(http: str) -> None:
    """127.0.0.2 stands for the private address and 127.0.0.3 for a neighbour; the kernel chooses the port."""
    app = Observed()
    with sharing(app, http=http, **HIDING) as server:
        port = server.addresses["public"][1]
        assert server.addresses["private"] == ("127.0.0.2", port)
        for host in ("127.0.0.1", "127.0.0.2"):  # the second is the side door
            with talking_to((host, port)) as client:
                assert client.ask("GET", "/internal") == HIDDEN
                assert is_public(client.ask("GET", "/"))
            assert refused(f"ws://{host}:{port}/internal") == (404, b"Not Found")
        assert {scope["path"] for scope in app.scopes} == {"/"}
        with talking_to(("127.0.0.2", port), source="127.0.0.3") as neighbour:
            assert neighbour.ask("GET", "/internal").endswith(b"\r\n\r\nprivate")


WORKER_APP = """
import os

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"%d" % os.getpid()})
"""


def test_every_worker_hides(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(WORKER_APP)
    answered: set[str] = set()
    with launched("shop:app", "--workers", "2", "--private-path", "/internal", *FREE, cwd=tmp_path) as server:
        server.wait_for("Application startup complete", count=2)
        public, private = server.url("public"), server.url("private")

        def another_has_answered() -> bool:
            with httpx.Client() as client:  # one connection, and so one worker
                assert client.get(public + "/internal").status_code == 404
                answered.add(client.get(public).text)
                assert client.get(public + "/internal/x").status_code == 404
            return len(answered) == 2

        assert eventually(another_has_answered)
        assert httpx.get(private + "/internal").text in answered
