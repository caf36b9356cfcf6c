"""Metrics: what a scraper sees of one process."""

from __future__ import annotations

import asyncio
import re
import socket
import sys
import threading
from types import SimpleNamespace
from typing import Any

import fastapi
import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route
from websockets.sync.client import connect as connect_websocket

from duallisten import LaunchError
from duallisten.listeners.accept_loop import ConnectionLimit
from duallisten.listeners.acceptor import Acceptor, AcceptorState
from duallisten.listeners.admission import Verdict
from duallisten.observability.request_counter import RequestCounter
from duallisten.observability.scoreboard_layout import BOUNDS, SIDE_WORDS, WORD, Cell
from duallisten.sides import Receive, Scope, Send
from tests.support.applications import Observed, answer
from tests.support.running import DEADLINE, FREE, address, ask, eventually, launched, run, serving
from tests.support.scraping import OPENMETRICS, Scrape, get

METRICS: Any = {"private_metrics": "/metrics"}
REQUESTS = "duallisten_http_requests_total"
DURATION = "duallisten_http_request_duration_seconds"


def test_requests_are_counted_by_side_method_and_status() -> None:
    with serving(Observed(), private_paths=["/internal"], **METRICS) as server:
        public, private = server.url("public"), server.url("private")
        for _ in range(3):
            httpx.get(public)
        httpx.post(f"{public}/internal")
        httpx.request("PROPFIND", private)
        with connect_websocket(private.replace("http", "ws")) as websocket:
            websocket.recv()
            assert eventually(lambda: Scrape(private)["duallisten_websockets_open{side=private}"] == 1)
        counts = {
            "{method=GET,side=public,status=2xx}": 3,
            "{method=POST,side=public,status=4xx}": 1,
            "{method=other,side=private,status=2xx}": 1,
            "{method=websocket,side=private,status=1xx}": 1,
        }
        assert eventually(lambda: Scrape(private).named(REQUESTS) == counts), Scrape(private).named(REQUESTS)
        scrape = Scrape(private)
        assert scrape["duallisten_hidden_requests_total"] == 1
        assert scrape["duallisten_websockets_open{side=private}"] == 0
        assert scrape["duallisten_sent_bytes_total{side=public}"] > 4 * len("HTTP/1.1 200 OK")
        assert scrape["duallisten_connections_accepted_total{side=public}"] == 4
        assert scrape[f"{DURATION}_count{{side=public}}"] == 4
        assert scrape[f"{DURATION}_count{{side=private}}"] == 1, "a handshake has no duration"


def test_buckets_have_all_that_is_below_them_and_the_last_one_has_all() -> None:
    with serving(Observed(), **METRICS) as server:
        for _ in range(20):
            httpx.get(server.url("public"))
        assert eventually(lambda: Scrape(server.url("private"))[f"{DURATION}_count{{side=public}}"] == 20)
        scrape = Scrape(server.url("private"))
        buckets = [value for key, value in scrape.items() if key.startswith(f"{DURATION}_bucket") and "public" in key]
        assert len(buckets) == len(BOUNDS) + 1
        assert buckets == sorted(buckets)
        assert buckets[-1] == 20
        assert 0 < scrape[f"{DURATION}_sum{{side=public}}"] < DEADLINE


def test_every_series_is_there_from_the_start() -> None:
    with serving(Observed(), **METRICS) as server:
        scrape = Scrape(server.url("private"))
        assert scrape[f"{REQUESTS}{{method=DELETE,side=public,status=5xx}}"] == 0
        for side, reason in (("public", "side door"), ("public", "limit"), ("private", "peer"), ("private", "limit")):
            assert scrape[f"duallisten_connections_refused_total{{reason={reason},side={side}}}"] == 0
        assert eventually(lambda: Scrape(server.url("private")).named("duallisten_workers") == {"{state=ready}": 1})
        assert not any("pid" in key for key in scrape)


async def slow(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers when the client has sent a body."""
    if scope["type"] == "http":
        await receive()
        await answer(send, b"")


def test_what_is_no_request_or_one_too_many_is_counted_apart() -> None:
    request = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n"
    with serving(slow, limit_concurrency=2, private_limit_concurrency=100, lifespan="off", **METRICS) as server:
        public, private = server.url("public"), server.url("private")
        with socket.create_connection(address(public), timeout=DEADLINE) as busy:
            busy.sendall(request)
            assert eventually(lambda: server.listeners.services[Verdict.PUBLIC].state.tasks != set())
            assert b"503 Service Unavailable" in ask(public)
            assert b"400 Bad Request" in ask(public, b"nonsense\r\n\r\n")
        aborted = {"{method=POST,side=public,status=aborted}": 1.0}
        assert eventually(lambda: Scrape(private).named(REQUESTS) == aborted)
        assert Scrape(private).named("duallisten_busy_requests_total") == {"{side=public}": 1}
        assert Scrape(private).named("duallisten_bad_requests_total") == {"{side=public}": 1}


def test_a_refused_peer_and_the_side_door_are_counted() -> None:
    """The private network is 127.0.0.2 alone, from where the scrapes come."""
    here: Any = {"private_host": "127.0.0.2", "private_network": ["127.0.0.2/32"], "private_allow": ["127.0.0.2/32"]}
    for side_door, name in (
        ("serve", "duallisten_side_door_connections_total"),
        ("refuse", "duallisten_connections_refused_total{reason=side door,side=public}"),
    ):
        with serving(Observed(), side_door=side_door, **here, **METRICS) as server:
            with socket.create_connection(address(server.url("private")), timeout=DEADLINE) as stranger:
                assert stranger.recv(1) == b""
            with socket.create_connection(
                address(server.url("public")), timeout=DEADLINE, source_address=("127.0.0.2", 0)
            ) as neighbour:
                if side_door == "serve":
                    neighbour.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert neighbour.recv(1) == (b"H" if side_door == "serve" else b"")
            transport = httpx.HTTPTransport(local_address="127.0.0.2")
            with httpx.Client(transport=transport) as client:
                text = client.get(server.url("private") + "/metrics").text
            told = {line.rpartition(" ")[0].replace('"', ""): line.rpartition(" ")[2] for line in text.splitlines()}
            assert told["duallisten_connections_refused_total{reason=peer,side=private}"] == "1.0"
            assert told[name] == "1.0"


def test_a_connection_above_the_limit_of_a_shared_port_is_counted() -> None:
    async def take() -> int:
        recorder = RequestCounter(memoryview(bytearray(SIDE_WORDS * WORD)).cast("Q"))
        full = SimpleNamespace(limit=ConnectionLimit(lambda: 0, 0), counter=recorder, proxies=None)
        reception = AcceptorState({Verdict.PRIVATE: full}, asyncio.get_running_loop())  # type: ignore[dict-item]
        ours, theirs = socket.socketpair()
        with ours, theirs:
            Acceptor(reception, lambda local, peer: Verdict.PRIVATE, "public").take(ours, None)
        return int(recorder.cells[Cell.REFUSED_LIMIT])

    assert asyncio.run(take()) == 1


@pytest.mark.parametrize(
    ("accept", "begin"),
    [
        ("", "text/plain; version=0.0.4"),
        ("*/*", "text/plain; version=0.0.4"),
        (OPENMETRICS, "application/openmetrics-text; version=1.0.0"),
        (f"{OPENMETRICS},text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "application/openmetrics-text; version=1.0.0"),
        ("application/openmetrics-text;version=x.y", "text/plain; version=0.0.4|application/openmetrics-text"),
    ],
)
def test_the_scraper_chooses_the_format(accept: str, begin: str) -> None:
    with serving(Observed(), **METRICS) as server:
        answer = get(server.url("private"), accept)
        assert re.match(begin, answer.headers["content-type"])
        assert answer.text.endswith("# EOF\n") is ("openmetrics" in answer.headers["content-type"])
        assert Scrape(server.url("private"), accept)["duallisten_worker_restarts_total"] == 0


def test_metrics_are_the_private_side_s_and_are_asked_for_with_get_and_head() -> None:
    app = Observed()
    with serving(app, private_root_path="/root", **METRICS) as server:
        url = server.url("private") + "/metrics"
        assert httpx.get(server.url("public") + "/metrics").text == "public"
        assert httpx.get(url + "/").text == "private", "no other spelling is ours"
        assert (httpx.post(url).status_code, httpx.post(url).headers["allow"]) == (405, "GET, HEAD")
        head = httpx.head(url)
        assert (head.status_code, head.content, int(head.headers["content-length"]) > 1000) == (200, b"", True)
        assert httpx.get(url).headers["cache-control"] == "no-store"
        assert [scope["path"] for scope in app.scopes] == ["/metrics", "/root/metrics/"]


def test_a_scrape_tells_also_while_the_application_blocks_the_event_loop() -> None:
    blocking, release = threading.Event(), threading.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            blocking.set()
            release.wait(DEADLINE)
            await answer(send, b"")

    with serving(app, lifespan="off", **METRICS) as server:
        ready = {"{state=ready}": 1}
        assert eventually(lambda: Scrape(server.url("private")).named("duallisten_workers") == ready)
        asking = threading.Thread(target=lambda: httpx.get(server.url("public"), timeout=DEADLINE))
        asking.start()
        try:
            assert blocking.wait(DEADLINE)
            scrape = Scrape(server.url("private"))
            assert scrape["duallisten_heartbeat_age_seconds"] > 0.2
            assert scrape.named(REQUESTS) == {}
        finally:
            release.set()
            asking.join(DEADLINE)


def endpoint() -> None:
    """Never called."""


def starlette_app(*routes: Any) -> Starlette:
    return Starlette(routes=list(routes))


def fastapi_app(path: str) -> fastapi.FastAPI:
    app = fastapi.FastAPI()
    app.get(path)(endpoint)
    return app


@pytest.mark.parametrize(
    ("app", "route"),
    [
        (fastapi_app("/metrics"), "/metrics"),
        (starlette_app(Route("/metrics", endpoint)), "/metrics"),
        (starlette_app(Mount("/metrics", Observed())), "/metrics"),
    ],
)
def test_a_path_that_the_application_has_stops_the_launch(app: Any, route: str) -> None:
    message = re.escape(f"--private-metrics /metrics: {type(app).__name__} has a route for /metrics, too ({route}")
    with pytest.raises(LaunchError, match=message), serving(app, **METRICS):
        pass


@pytest.mark.parametrize(
    "app",
    [
        fastapi_app("/{name}"),
        starlette_app(Route("/{name}", endpoint)),
        starlette_app(Mount("/", Observed())),
        starlette_app(Route("/metric", endpoint), Route("/metrics/of/mine", endpoint)),
    ],
)
def test_a_route_that_takes_whatever_no_other_does_gives_way(app: Any) -> None:
    with serving(app, **METRICS) as server:
        assert Scrape(server.url("private"))["duallisten_worker_restarts_total"] == 0


WITHOUT_THE_PACKAGE = (
    sys.executable,
    "-c",
    "import sys; sys.modules['prometheus_client'] = None; from duallisten.cli.main import main; main()",
)


@pytest.mark.parametrize("more", [("--check",), (), ("--workers", "2")])
def test_what_metrics_lack_is_told_in_one_line_before_the_application_is_imported(more: tuple[str, ...]) -> None:
    for command, arguments, line in (
        (
            WITHOUT_THE_PACKAGE,
            ("--private-metrics", "/metrics"),
            "--private-metrics /metrics needs prometheus-client: pip install 'duallisten[metrics]'",
        ),
        (
            None,
            ("--private-metrics", "/m", "--private-health", "/-", "--listeners", "public"),
            "--private-health /- and --private-metrics /m are for the private side, and this launch has none: "
            "see --listeners",
        ),
        (
            None,
            ("--private-metrics", "/-/livez", "--private-health", "/-"),
            "--private-metrics /-/livez: that is a path of --private-health /-; choose another",
        ),
    ):
        options = {"command": command} if command is not None else {}
        ended = run("no_such_module:app", *arguments, *FREE, *more, **options)  # type: ignore[arg-type]
        assert (ended.returncode, ended.stderr) == (3, f"duallisten: {line}\n")


def test_a_private_side_that_comes_later_is_one() -> None:
    arguments = ("--private-host", "10.255.255.254", "--private-missing", "later", "--private-metrics", "/metrics")
    ended = run("duallisten.demo:app", "--check", "--port", "0", *arguments)
    assert ended.returncode == 0, ended.stderr


def test_a_server_in_a_program_says_so_too() -> None:
    with (
        pytest.raises(LaunchError, match="is for the private side"),
        serving(Observed(), listeners="public", **METRICS),
    ):
        pass


@pytest.mark.needs_prometheus
@pytest.mark.parametrize("accept", ["", OPENMETRICS])
def test_promtool_finds_nothing_to_complain_of(accept: str) -> None:
    with launched("duallisten.demo:app", "--private-metrics", "/metrics", *FREE) as server:
        httpx.get(server.url("public"))
        text = get(server.url("private"), accept).text.removesuffix("# EOF\n")
    if accept:  # promtool of Debian reads the older format, in which a counter's name has its ending
        assert text.count("# TYPE duallisten_http_requests counter") == 1
        return
    done = run("check", "metrics", command=("promtool",), text=text)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
