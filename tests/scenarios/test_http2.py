"""HTTP/2 on both listeners: who speaks it and when, and that all else holds as with HTTP/1.1."""

from __future__ import annotations

import asyncio
import json
import signal
import ssl
from pathlib import Path
from typing import Any

import httpx
import pytest
import trustme
from fastapi import FastAPI, Request
from fastapi.responses import StreamingResponse
from hyperframe.frame import GoAwayFrame, PingFrame

from duallisten import Config
from duallisten.registry.http import client as registry_client
from tests.http.http2_client import asking, http2
from tests.support.applications import Observed
from tests.support.chromium import browsing
from tests.support.running import FREE, address, launched, run, serving

DEMO = "duallisten.demo:app"


def clear() -> httpx.Client:
    """A client of HTTP/2 without TLS, which must be known to be spoken."""
    return httpx.Client(http1=False, http2=True)


@pytest.fixture
def authority(tmp_path: Path) -> tuple[ssl.SSLContext, list[str]]:
    """What a client trusts, and the options of a server with such a certificate."""
    made = trustme.CA()
    certificate = made.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(tmp_path / "cert.pem", append=True)
    trusting = ssl.create_default_context()
    made.configure_trust(trusting)
    return trusting, [str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")]


def test_each_side_speaks_it_where_it_is_asked_for(authority: tuple[ssl.SSLContext, list[str]]) -> None:
    trusting, (key, certificate) = authority
    tls = {"ssl_keyfile": key, "ssl_certfile": certificate}
    app = Observed()
    with serving(app, http2=True, private_paths=["/internal"], **tls) as server:
        with httpx.Client(http2=True, verify=trusting) as public, clear() as private:
            for path, status in (("/", 200), ("/internal/x", 404)):
                answered = public.get(server.url("public") + path)
                assert (answered.http_version, answered.status_code) == ("HTTP/2", status)
            inside = private.get(server.url("private") + "/internal")
            assert (inside.http_version, inside.text) == ("HTTP/2", "private")
        assert httpx.get(server.url("public"), verify=trusting).http_version == "HTTP/1.1"
        assert httpx.get(server.url("private")).http_version == "HTTP/1.1"
    assert [(scope["http_version"], scope["scheme"]) for scope in app.scopes[:2]] == [("2", "https"), ("2", "http")]


@pytest.mark.needs_chromium
def test_a_browser_has_a_websocket_on_the_connection_of_its_page(authority: tuple[ssl.SSLContext, list[str]]) -> None:
    _, (key, certificate) = authority
    app = Observed()
    with (
        serving(app, http2=True, private_paths=["/internal"], ssl_keyfile=key, ssl_certfile=certificate) as server,
        browsing("--ignore-certificate-errors") as page,
    ):
        page.open(server.url("public"))
        page.run(TALK)
        assert page.eventually("window.got.length === 2")
        assert page.run("window.got") == ["public", "x".ljust(100_000, "x")]
        page.run("window.talk.close(4000)")
        assert page.eventually("window.code === 4000")
        page.run("window.denied = ''; new WebSocket('/internal/feed').onerror = () => window.denied = 'denied'")
        assert page.eventually("window.denied === 'denied'")
    (websocket,) = [scope for scope in app.scopes if scope["type"] == "websocket"]
    assert (websocket["http_version"], websocket["scheme"], websocket["path"]) == ("2", "wss", "/feed")
    assert len({scope["client"] for scope in app.scopes if scope["path"] in ("/", "/feed")}) == 1


TALK = """
window.got = [];
window.talk = new WebSocket('/feed');
window.talk.onmessage = event => window.got.push(event.data);
window.talk.onopen = () => window.talk.send('x'.repeat(100000));
window.talk.onclose = event => window.code = event.code;
"""


def test_one_side_may_speak_it_alone() -> None:
    with serving(Observed(), private_http2=True) as server, clear() as client:
        assert client.get(server.url("private")).text == "private"
        with pytest.raises(httpx.HTTPError):
            client.get(server.url("public"))
    with serving(Observed(), http2=True, private_http2=False) as server, clear() as client:
        assert client.get(server.url("public")).text == "public"
        with pytest.raises(httpx.HTTPError):
            client.get(server.url("private"))


def test_it_is_the_engine_that_serves_it() -> None:
    config = Config(Observed(), http2=True, log_config=None)
    config.load()
    assert config.is_engine and config.http2
    assert not any("--http2" in warning for warning in config.warnings)


def test_lines_ids_and_limits_are_those_of_http_1_1() -> None:
    asked = ("--http2", "--log-format", "json", "--max-body-size", "10", "--private-health", "/-")
    with launched(DEMO, *asked, *FREE) as server:
        with clear() as client:
            for side in ("public", "private"):
                client.get(f"{server.url(side)}/?b", headers={"x-request-id": "mine"})
            assert client.get(f"{server.url('private')}/-/livez").status_code == 200  # a page of ours has no line
            assert client.post(server.url("public"), content=bytes(11)).status_code == 413
            assert client.get(server.url("public"), headers={"a": "b" * 70_000}).status_code == 431
        server.end()
        lines = [json.loads(line) for line in server.output.splitlines() if line.startswith("{")]
    access = [one for one in lines if one["logger"] == "uvicorn.access"]
    assert [(one["side"], one["path"], one["http_version"], one["status"]) for one in access] == [
        ("public", "/?b", "2", 200),
        ("private", "/?b", "2", 200),
    ]
    assert all(one["request_id"] == "mine" for one in access)  # loopback is believed
    assert all(one["bytes"] > 50 and one["duration_ms"] > 0 for one in access)


def test_access_lines_are_left_out_where_they_are_not_wanted() -> None:
    with launched(DEMO, "--http2", "--no-private-access-log", *FREE) as server:
        with clear() as client:
            client.get(server.url("private"))
            client.get(server.url("public"))
        server.wait_for(r'"GET / HTTP/2" 200')
        server.end()
        assert server.output.count("HTTP/2") == 1


def test_requests_in_hand_are_answered_when_the_server_ends(tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import asyncio\n"
        "async def app(scope, receive, send):\n"
        "    if scope['type'] != 'http': raise NotImplementedError\n"
        "    await asyncio.sleep(1)\n"
        "    await send({'type': 'http.response.start', 'status': 200, 'headers': []})\n"
        "    await send({'type': 'http.response.body', 'body': b'slow'})\n"
    )
    with launched("slow:app", "--app-dir", str(tmp_path), "--http2", *FREE) as server:
        with http2(address(server.url("private"))) as client:
            for stream in (1, 3, 5):
                client.send(client.head(stream, asking(f"/{stream}")))
            client.ping()
            server.send(signal.SIGTERM)
            client.until(lambda: client.of(GoAwayFrame))
            asked = next(one for one in client.of(PingFrame) if "ACK" not in one.flags)
            client.send(PingFrame(0, opaque_data=asked.opaque_data, flags=["ACK"]))
            assert [client.response(stream).body for stream in (1, 3, 5)] == [b"slow"] * 3
            assert client.goaway().last_stream_id == 5
        assert server.wait() in (0, -signal.SIGTERM)


def test_a_framework_is_served_a_thousand_requests_at_a_time() -> None:
    app = FastAPI()

    @app.post("/sum")
    async def sum_of(request: Request) -> int:
        return sum([sum(part) async for part in request.stream()])

    @app.get("/count")
    async def count() -> StreamingResponse:
        async def parts() -> Any:
            for number in range(20):
                await asyncio.sleep(0)
                yield f"{number:05}" * 4000

        return StreamingResponse(parts())

    async def ask(url: str) -> None:
        async with registry_client(
            "127.0.0.1",
            None,
            port=int(url.rpartition(":")[2]),
            http1=False,
            http2=True,
            networks=["127.0.0.0/8"],
            timeout=60,
        ) as http:
            sums = [http.post("/sum", content=bytes([1]) * 50_000) for _ in range(40)]
            counts = [http.get("/count") for _ in range(40)]
            missing = [http.get("/missing") for _ in range(920)]
            answers = await asyncio.gather(*sums, *counts, *missing)
        assert {one.http_version for one in answers} == {"HTTP/2"}
        assert [one.json() for one in answers[:40]] == [50_000] * 40
        assert [len(one.text) for one in answers[40:80]] == [400_000] * 40
        assert {one.status_code for one in answers[80:]} == {404}

    with serving(app, http2=True) as server:
        asyncio.run(ask(server.url("private")))


def test_without_its_package_the_launch_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import importlib.util as util\nfind = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if name == 'hpack' else find(name, *more)\n"
    )
    for option in ("--http2", "--private-http2"):
        ended = run(DEMO, option, *FREE, environ={"PYTHONPATH": str(tmp_path)})
        assert ended.returncode == 3
        assert "pip install 'duallisten[http2]'" in ended.stderr.splitlines()[-1]


FRAMEWORKS = {
    "starlette": """
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

async def home(request):
    return JSONResponse([request.scope["http_version"], len(await request.body())])

app = Starlette(routes=[Route("/", home, methods=["POST"])])
""",
    "litestar": """
from litestar import Litestar, Request, post

@post("/", status_code=200)
async def home(request: Request) -> list:
    return [request.scope["http_version"], len(await request.body())]

app = Litestar([home])
""",
    "quart": """
from quart import Quart, jsonify, request

app = Quart(__name__)

@app.post("/")
async def home():
    return jsonify([request.http_version, len(await request.get_data())])
""",
    "django": """
import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.http import JsonResponse
from django.urls import path

settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="of a test", MIDDLEWARE=[])
django.setup()

def home(request):
    return JsonResponse([request.scope["http_version"], len(request.body)], safe=False)

urlpatterns = [path("", home)]
app = get_asgi_application()
""",
}


@pytest.mark.parametrize("framework", FRAMEWORKS)
def test_a_framework_is_given_what_a_client_sends(framework: str, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(FRAMEWORKS[framework])
    with launched("shop:app", "--http2", *FREE, cwd=tmp_path) as server, clear() as client:
        answer = client.post(server.url("public"), content=bytes(300_000))
        assert (answer.http_version, answer.json()) == ("HTTP/2", ["2", 300_000])
