"""Request targets that have got past path rules elsewhere, byte for byte on the public listener of real servers.

None may reach a private handler, whatever framework, parser and rules there are; those that only look like one must be
served. `request_targets.json` has the targets, each with what makes it worth a try.
"""

from __future__ import annotations

import json
import posixpath
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

import pytest
from fastapi import FastAPI, WebSocket
from fastapi.responses import PlainTextResponse
from hyperframe.frame import DataFrame, Frame, RstStreamFrame
from starlette.applications import Starlette
from starlette.routing import Mount, Route, WebSocketRoute
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from duallisten.fastapi import PrivateRouter, private
from duallisten.sides import Receive, Scope, Send
from duallisten.testing import serve
from tests.http.http2_client import http2
from tests.support.applications import answer
from tests.support.running import DEADLINE, FREE, launched

pytestmark = pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")

REACHED = "REACHED-PRIVATE"
"""What a private handler answers, followed by how often it has been reached."""

SERVED = "served to everybody"
"""What the public handler answers."""


# --- The targets ---


class Target(NamedTuple):
    """A request as it is written to the socket; `host` None is no Host header, `version` 0.9 a request of one line."""

    id: str
    target: str
    method: str = "GET"
    headers: tuple[tuple[str, str], ...] = ()
    host: str | None = "localhost"
    version: str = "1.1"

    @property
    def request(self) -> bytes:
        if self.version == "0.9":  # an empty line, so that a server which waits for headers goes on
            return f"{self.method} {self.target}\r\n\r\n".encode("latin-1")
        headers = list(self.headers)
        if self.host is not None:
            headers.insert(0, ("Host", self.host))
        if not any(name.lower() == "connection" for name, _ in headers):
            headers.append(("Connection", "close"))
        lines = [f"{self.method} {self.target} HTTP/{self.version}", *(f"{name}: {value}" for name, value in headers)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")


def read_targets() -> list[Target]:
    """Read the file, without what is there for its readers."""
    told = json.loads(Path(__file__).with_name("request_targets.json").read_text())
    entries = [{name: value for name, value in entry.items() if name in Target._fields} for entry in told]
    return [Target(**entry | {"headers": tuple(map(tuple, entry.get("headers", ())))}) for entry in entries]


def answer_to(url: str, target: Target) -> bytes:
    """Send a target over a new connection, and give what comes back until the server closes or speaks WebSocket."""
    parts = urlsplit(url)
    with socket.create_connection((parts.hostname, parts.port), timeout=DEADLINE) as connection:
        connection.sendall(target.request)
        answered = b""
        while not speaks_websocket(answered) and (data := connection.recv(65536)):
            answered += data
    return answered


def speaks_websocket(answered: bytes) -> bool:
    return answered.startswith(b"HTTP/1.1 101 ")


TARGETS = read_targets()
CONTROLS = [target for target in TARGETS if target.id.startswith("control")]


def test_the_targets_are_what_they_were_collected_for() -> None:
    assert len({target.id for target in TARGETS}) == len(TARGETS) > 100
    assert len(CONTROLS) >= 5
    assert {target.version for target in TARGETS} == {"0.9", "1.0", "1.1"}


# --- The applications: a private handler at /internal and everything below, and a public one for all else ---


class PrivateHandler:
    """Answers every request and WebSocket with the marker and how often that has been."""

    def __init__(self) -> None:
        self.times = 0

    def text(self) -> str:
        self.times += 1
        return f"{REACHED} {self.times}"

    async def feed(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.send_text(self.text())
        await websocket.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await answer(send, self.text().encode())
            return
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": self.text()})
        await send({"type": "websocket.close"})


async def public_handler(scope: Scope, receive: Receive, send: Send) -> None:
    """Serve every request; there are no public WebSockets."""
    if scope["type"] == "http":
        await answer(send, SERVED.encode())
        return
    await receive()
    await send({"type": "websocket.close"})


def starlette_app() -> Starlette:
    handler = PrivateHandler()
    return Starlette(
        routes=[
            Route("/internal", handler),
            Route("/internal/secret", handler),
            WebSocketRoute("/internal/ws", handler),
            Mount("/internal", handler),
            Mount("/", public_handler),
        ]
    )


def fastapi_app(root_path: str = "") -> FastAPI:
    handler = PrivateHandler()
    app = FastAPI(root_path=root_path)
    for path in ("/internal", "/internal/", "/internal/secret"):
        app.add_api_route(path, handler.text, response_class=PlainTextResponse)
    app.add_api_websocket_route("/internal/ws", handler.feed)
    app.mount("/internal", handler)
    app.mount("/", public_handler)
    return app


def marked_starlette_app() -> Starlette:
    app = starlette_app()
    app.router.routes[:-1] = [private(route) for route in app.routes[:-1]]
    return app


def marked_fastapi_app() -> FastAPI:
    handler = PrivateHandler()
    internal = PrivateRouter(prefix="/internal")
    for path in ("", "/", "/secret"):
        internal.add_api_route(path, handler.text, response_class=PlainTextResponse)
    internal.add_api_websocket_route("/ws", handler.feed)
    app = FastAPI()
    app.include_router(internal)
    app.router.routes.append(private(Mount("/internal", handler)))
    app.mount("/", public_handler)
    return app


NORMALISATIONS: tuple[Callable[[str], str], ...] = (
    unquote,
    posixpath.normpath,
    str.lower,
    lambda path: path.replace("\\", "/"),
    lambda path: re.sub(";[^/]*", "", path),
    lambda path: re.sub("/+", "/", path),
    lambda path: path if path.startswith("/") else urlsplit(path).path,  # as Quart does
    lambda path: f"/{path.lstrip('/')}",  # as Werkzeug does, and with it Flask and Quart
)


def normalised(path: str) -> set[str]:
    """Normalise a path in every order."""
    found: set[str] = set()
    unread = [path]
    while unread:
        path = unread.pop()
        if path not in found:
            found.add(path)
            unread += [normalise(path) for normalise in NORMALISATIONS]
    return found


def bare_app() -> Any:
    """Make an application that does its utmost to take a path for a private one."""
    handler = PrivateHandler()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        root = scope["root_path"]
        received = scope["path"].removeprefix(root), scope["raw_path"].decode("latin-1").removeprefix(root)
        paths = normalised(received[0]) | normalised(received[1])
        is_private = any(path == "/internal" or path.startswith("/internal/") for path in paths)
        await (handler if is_private else public_handler)(scope, receive, send)

    return app


DJANGO_APP = f"""
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import HttpResponse
from django.urls import path, re_path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="a test", LOGGING_CONFIG=None)
times = 0


async def private(request, rest=""):
    global times
    times += 1
    return HttpResponse(f"{REACHED} {{times}}")


async def public(request):
    return HttpResponse("{SERVED}")


urlpatterns = [
    path("internal", private),
    path("internal/", private),
    path("internal/secret", private),
    path("internal/<path:rest>", private),
    re_path("", public),
]
app = get_asgi_application()
"""
"""For a process of its own: Django has its settings once a process."""


# --- What is served, and how ---

APPLICATIONS: dict[str, Callable[[], Any]] = {
    "starlette": starlette_app,
    "fastapi": fastapi_app,
    "fastapi with a root path": lambda: fastapi_app("/api"),
    "bare": bare_app,
}
MARKED: dict[str, Callable[[], Any]] = {"starlette": marked_starlette_app, "fastapi": marked_fastapi_app}
"""Applications whose handlers are private by their marks, and which no rule has to hide."""
RULES: dict[str, dict[str, Any]] = {
    "a private path": {"private_paths": "/internal"},
    "an allow-list": {"public_paths": "/public"},
    "a root path": {"private_paths": "/internal", "root_path": "/api"},
    "marks": {},
}
FLAGS = {"private_paths": "--private-path", "public_paths": "--public-path", "root_path": "--root-path"}


class Deployment(NamedTuple):
    """An application, uvicorn's parser and the rules (of `RULES`) that it is served with."""

    application: str
    http: str
    rules: str

    def __str__(self) -> str:
        return f"{self.application}, {self.http}, {self.rules}"


class Served(NamedTuple):
    """Where a deployment is served."""

    deployment: Deployment
    public: str
    private: str

    def times_reached(self) -> int:
        """Ask the private handler over the private listener how often it has been reached, this time included."""
        told = re.search(rf"{REACHED} (\d+)", answer_to(self.private, Target("", "/internal/secret")).decode())
        assert told, "the private listener does not reach the private handler"
        return int(told[1])


def all_deployments() -> Iterator[Deployment]:
    """Give every application with every parser and rules; a root path is the server's or the application's."""
    for http in ("h11", "httptools"):
        for application in (*APPLICATIONS, "django"):
            yield Deployment(application, http, "a private path")
            yield Deployment(application, http, "an allow-list")
            if application != "fastapi with a root path":
                yield Deployment(application, http, "a root path")
        for application in MARKED:
            yield Deployment(application, http, "marks")


DEPLOYMENTS = list(all_deployments())
WITH_WEBSOCKETS = [deployment for deployment in DEPLOYMENTS if deployment.application != "django"]


@pytest.fixture(scope="module", params=DEPLOYMENTS, ids=str)
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    deployment: Deployment = request.param
    served = served_django if deployment.application == "django" else served_here
    with served(deployment, tmp_path_factory.mktemp("served")) as urls:
        yield Served(deployment, *urls)


@contextmanager
def served_here(deployment: Deployment, directory: Path) -> Iterator[tuple[str, str]]:
    """Serve a deployment in this process; connections are closed after an answer, so that each has an end."""
    app = (MARKED if deployment.rules == "marks" else APPLICATIONS)[deployment.application]()
    options: dict[str, Any] = {"http": deployment.http, "lifespan": "off", "timeout_keep_alive": 0}
    with serve(app, **options, **RULES[deployment.rules], timeout=DEADLINE) as urls:
        yield urls.public, urls.private


@contextmanager
def served_django(deployment: Deployment, directory: Path) -> Iterator[tuple[str, str]]:
    """Serve Django with the command line."""
    (directory / "shop.py").write_text(DJANGO_APP)
    rules = [word for name, value in RULES[deployment.rules].items() for word in (FLAGS[name], value)]
    where = ["--platform", "none", "--private-host", "127.0.0.1", *FREE]
    how = ["--http", deployment.http, "--lifespan", "off", "--timeout-keep-alive", "0", "--no-access-log"]
    with launched("shop:app", *where, *how, *rules, cwd=directory) as running:
        yield running.url("public"), running.url("private")


# --- What must hold ---


def test_no_target_reaches_a_private_handler_from_the_public_side(served: Served) -> None:
    before = served.times_reached()
    answers = {target.id: answer_to(served.public, target) for target in TARGETS}
    reached = [name for name, answered in answers.items() if REACHED.encode() in answered or speaks_websocket(answered)]
    assert reached == []
    assert served.times_reached() == before + 1, "a target reached the private handler, and its answer was lost"


def test_a_target_that_only_looks_private_is_served(served: Served) -> None:
    for control in CONTROLS:
        answered = answer_to(served.public, control)
        if served.deployment.rules == "an allow-list" and not control.target.startswith("/public"):
            assert answered.startswith(b"HTTP/1.1 404 ") and answered.endswith(b"Not Found"), control
        else:
            assert answered.startswith(b"HTTP/1.1 200 ") and SERVED.encode() in answered, control


def test_a_neighbour_reaches_what_is_hidden_from_the_public(served: Served) -> None:
    for path in ("/internal", "/internal/", "/internal/secret"):
        target = Target("", path)
        assert REACHED.encode() in answer_to(served.private, target)
        hidden = answer_to(served.public, target)
        if served.deployment.rules == "marks":  # the public handler takes all that was not declared
            assert hidden.startswith(b"HTTP/1.1 200 ") and SERVED.encode() in hidden
        else:
            assert hidden.startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize("served", WITH_WEBSOCKETS, indirect=True, ids=str, scope="module")
def test_a_neighbour_alone_reaches_a_websocket(served: Served) -> None:
    with connect(f"{served.private.replace('http', 'ws')}/internal/ws", open_timeout=DEADLINE) as websocket:
        assert str(websocket.recv(DEADLINE)).startswith(REACHED)
    with pytest.raises(InvalidStatus, match="403" if served.deployment.rules == "marks" else "404"):
        connect(f"{served.public.replace('http', 'ws')}/internal/ws", open_timeout=DEADLINE)


# --- The same over HTTP/2, where a target is a field ---


@pytest.mark.parametrize("rules", ["a private path", "an allow-list", "a root path"])
def test_no_target_reaches_a_private_handler_over_http_2(rules: str) -> None:
    with serve(bare_app(), http2=True, lifespan="off", **RULES[rules], timeout=DEADLINE) as urls:
        answers = {target.id: answer_over_http_2(urls.public, target) for target in TARGETS}
        told = answer_over_http_2(urls.private, Target("", "/internal/secret"))
    assert [name for name, answered in answers.items() if REACHED.encode() in answered] == []
    assert told == f"{REACHED} 1".encode(), "a target reached the private handler, and its answer was lost"
    if rules == "a private path":
        assert {answers[control.id] for control in CONTROLS} == {SERVED.encode()}


def answer_over_http_2(url: str, target: Target) -> bytes:
    """Send a target on a connection of its own, and give the body that comes back; nothing where it is refused."""
    parts = urlsplit(url)
    assert parts.hostname is not None and parts.port is not None
    named = [(":method", target.method), (":scheme", "http"), (":path", target.target)]
    named += [(":authority", target.host)] if target.host is not None else []
    fields = [*named, *((name.lower(), value) for name, value in target.headers)]
    with http2((parts.hostname, parts.port)) as client:
        client.send(client.head(1, [(name.encode("latin-1"), value.encode("latin-1")) for name, value in fields]))
        while not any(is_end(frame) for frame in client.frames) and client.read():
            pass
        return b"".join(frame.data for frame in client.of(DataFrame, 1))


def is_end(frame: Frame) -> bool:
    return isinstance(frame, RstStreamFrame) or (frame.stream_id == 1 and "END_STREAM" in frame.flags)
