"""The status page: what it tells, what a client gets of it and its events, and how it is in a real browser."""

from __future__ import annotations

import itertools
import json
import os
import platform
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from duallisten.admin import figures as status_figures
from duallisten.admin import history, status
from duallisten.admin.figures import Sample, make_figures, percentile, read
from duallisten.observability import Phase, View
from duallisten.observability.scoreboard import RowRef, Scoreboard
from duallisten.observability.scoreboard_layout import BOUNDS, BUCKETS, Cell, Head, bits, request_cell
from duallisten.starlette import private, public
from tests.faults.serving import faulty
from tests.support.applications import Observed
from tests.support.chromium import Page, browsing
from tests.support.running import FREE, Launched, ObservedServer, connect, eventually, launched, serving

DEMO = "duallisten.demo:app"
HEALTH = ("--private-health", "/health")


# What it tells


def counts(**at: int) -> list[int]:
    """Counts by bucket, of those that are named by the number of their bucket."""
    return [at.get(f"_{bucket}", 0) for bucket in range(BUCKETS)]


def test_a_percentile_lies_within_its_bucket_in_proportion() -> None:
    assert percentile(counts(), 0.5) is None
    assert percentile(counts(_0=10), 0.5) == pytest.approx(BOUNDS[0] / 2)
    assert percentile(counts(_0=50, _2=50), 0.75) == pytest.approx((BOUNDS[1] + BOUNDS[2]) / 2)
    assert percentile(counts(_0=99, _9=1), 0.99) == pytest.approx(BOUNDS[0])
    assert percentile(counts(_14=1), 0.99) == BOUNDS[-1]


@pytest.fixture
def board() -> Scoreboard:
    """The board of a launch that serves both sides, with one process."""
    board = Scoreboard(capacity=3)
    board.head[Head.SIDES] = bits(("public", "private"))
    board.head[Head.PHASE] = Phase.READY
    row = board.row(board.take_row())
    row.begin(7)
    row.set_state(Phase.READY, ("public", "private"))
    return board


def figures_of(view: View, earlier: Sample | None = None, stall: float = 10) -> dict[str, Any]:
    """The figures of a view, as the page's script gets them."""
    figures: dict[str, Any] = json.loads(json.dumps(make_figures(view, read(view), earlier, stall)))
    return figures


def serve_requests(row: RowRef, count: int, status: str = "2xx", method: str = "GET", bucket: int = 3) -> None:
    """Note requests of the public side."""
    row.side("public")[request_cell(method, status) + bucket] += count


def test_rates_and_shares_are_of_the_time_between_two_readings(board: Scoreboard) -> None:
    row = board.row(1)
    serve_requests(row, 1000, "5xx")
    earlier = read(board.read())
    serve_requests(row, 90)
    serve_requests(row, 6, "4xx", "POST")
    row.side("public")[Cell.BUSY] += 4  # uvicorn's own 503
    view = board.read()
    public = figures_of(view._replace(now=earlier.now + 10), earlier)["sides"]["public"]
    assert public["seconds"] == pytest.approx(10)
    assert public["rate"] == pytest.approx(10)
    assert (public["client_errors"], public["server_errors"]) == (0.06, 0.04)
    assert public["requests"] == 1100
    whole = figures_of(view._replace(age=60.0))["sides"]["public"]
    assert (whole["seconds"], whole["rate"]) == pytest.approx((60, 1100 / 60)), "without one, of the whole launch"


def test_neither_websockets_nor_aborted_requests_make_a_latency(board: Scoreboard) -> None:
    serve_requests(board.row(1), 1, "1xx", "websocket", bucket=0)
    serve_requests(board.row(1), 1, "aborted", bucket=14)
    public = figures_of(board.read())["sides"]["public"]
    assert (public["requests"], public["aborted"], public["median"]) == (2, 1, None)


def test_a_process_that_is_stuck_is_told(board: Scoreboard) -> None:
    figures = figures_of(board.read(), stall=-1.0)
    (process,) = figures["processes"]
    assert (process["pid"], process["stuck"], process["sides"]) == (7, True, ["public", "private"])
    assert "process 7 is stuck" in "; ".join(figures["reasons"])
    figures = figures_of(board.read())
    assert (figures["processes"][0]["stuck"], figures["reasons"]) == (False, [])


# What a client gets


@pytest.fixture
def server() -> Iterator[ObservedServer]:
    with serving(Observed(), private_health="/health") as server:
        assert eventually(lambda: get(server, "/health/readyz").status_code == 200)
        yield server


def get(server: ObservedServer, path: str = "/health/status") -> httpx.Response:
    return httpx.get(server.url("private") + path, timeout=30)


def document(server: ObservedServer | Launched) -> Any:
    """What the page shows."""
    return httpx.get(server.url("private") + "/health/status.json", timeout=30).json()


def events(stream: httpx.Response) -> Iterator[Any]:
    """The events of a stream."""
    return (json.loads(line.removeprefix("data: ")) for line in stream.iter_lines() if line.startswith("data: "))


def test_the_document_has_all_that_the_page_shows(server: ObservedServer) -> None:
    httpx.get(server.url("public") + "/")
    assert eventually(lambda: document(server)["figures"]["sides"]["public"]["requests"] == 1)
    answer = get(server, "/health/status.json")
    assert answer.headers["content-type"] == "application/json"
    launch, figures = answer.json()["launch"], answer.json()["figures"]
    assert (launch["application"], figures["phase"], figures["reasons"]) == ("Observed", "ready", [])
    listeners = {listener["side"]: listener for listener in launch["listeners"]}
    for side in ("public", "private"):
        assert listeners[side]["urls"] == [server.url(side)]
    assert listeners["private"]["peers_admitted"] == "127.0.0.0/8, ::1"
    assert [(one["name"], one["sides"]) for one in launch["applications"]] == [("Observed", ["public", "private"])]
    (process,) = figures["processes"]
    assert (process["state"], process["heartbeat_age"] < 2) == ("ready", True)


def test_the_document_has_no_values_of_options() -> None:
    """`--check` shows those to whoever may launch; this is for every neighbour."""
    with serving(Observed(), private_health="/health", headers=[("x-key", "secret")]) as server:
        assert "secret" not in get(server, "/health/status.json").text


def test_the_page_allows_nothing_but_its_own(server: ObservedServer) -> None:
    answer = get(server)
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//""", answer.text)


def test_it_is_on_the_private_side_alone(server: ObservedServer) -> None:
    for path in ("/health/status", "/health/status.json", "/health/status/events"):
        assert httpx.get(server.url("public") + path).text == "public", "the application's own answer"
        assert httpx.post(server.url("private") + path).status_code == 405
        assert httpx.head(server.url("private") + path).status_code == 200


def test_a_stream_begins_with_the_document_and_goes_on_with_the_figures(server: ObservedServer) -> None:
    whole = document(server)
    with httpx.stream("GET", server.url("private") + "/health/status/events", timeout=30) as stream:
        assert stream.headers["content-type"] == "text/event-stream"
        told = events(stream)
        first, second = next(told), next(told)
    assert first["launch"] == whole["launch"]
    assert second.keys() == {"figures"}
    assert first["figures"].keys() == second["figures"].keys() == whole["figures"].keys()
    assert second["figures"]["sides"].keys() == {"public", "private"}


def test_streams_are_limited_and_those_of_clients_who_leave_make_room(server: ObservedServer) -> None:
    url = server.url("private") + "/health/status/events"
    with httpx.Client(timeout=30) as client:
        with ExitStack() as stack:
            for _ in range(status.MOST):
                assert stack.enter_context(client.stream("GET", url)).status_code == 200
            assert client.get(url).status_code == 503
        assert eventually(lambda: client.head(url).status_code == 200)


def test_a_server_that_ends_does_not_wait_for_those_who_look(server: ObservedServer) -> None:
    with httpx.stream("GET", server.url("private") + "/health/status/events", timeout=30) as stream:
        told = events(stream)
        next(told)
        server.finish()
        *_, last = told  # the answer comes to its end in good order: httpx raises where it does not
        assert last["figures"]["phase"] == "draining"


def test_nor_for_one_who_reads_nothing(server: ObservedServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_figures, "make_figures", lambda *_: {"processes": [], "x": "x" * (1 << 23)})
    with httpx.stream("GET", server.url("private") + "/health/status/events", timeout=30):
        server.finish()


def test_who_comes_while_the_server_ends_gets_one_event() -> None:
    with serving(Observed(), private_health="/health", private_linger=60) as server:
        server.should_exit = True
        assert eventually(lambda: server.ending)
        (told,) = events(get(server, "/health/status/events"))
        assert told["figures"]["phase"] == "draining"
        server.force_exit = True


def test_the_page_comes_while_the_application_blocks_the_event_loop() -> None:
    blocked, released = threading.Event(), threading.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        blocked.set()
        released.wait(30)

    with serving(app, private_health="/health", lifespan="off") as server:
        asking = threading.Thread(target=lambda: httpx.get(server.url("public"), timeout=30))
        asking.start()
        try:
            assert blocked.wait(30)
            assert "Content-Security-Policy".lower() in get(server).headers
            assert document(server)["figures"]["sides"]["public"]["requests"] == 0
        finally:
            released.set()
            asking.join()


@pytest.mark.parametrize(
    ("accept", "is_json"),
    [
        (None, False),
        ("*/*", False),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", False),
        ("application/json", True),
        ("Application/JSON; charset=utf-8", True),
        ("application/*", True),
        ("application/json, text/html", False),
        ("application/json, text/html;q=0.9, */*;q=0.1", True),
        ("application/json;q=0, */*", False),
        ("text/html;q=0, */*", True),
        ("application/json;q=9", False),
    ],
)
def test_who_rather_has_json_gets_it_at_the_page(server: ObservedServer, accept: str | None, is_json: bool) -> None:
    request = httpx.Request("GET", server.url("private") + "/health/status")
    if accept is not None:
        request.headers["accept"] = accept
    with httpx.Client() as client:
        answer = client.send(request)
    assert answer.headers["content-type"].startswith("application/json" if is_json else "text/html")
    assert answer.headers["vary"] == "accept"
    assert not is_json or answer.json().keys() == document(server).keys()


def test_requests_that_rules_hide_are_told_apart_from_failures() -> None:
    with serving(Starlette(), private_health="/health", private_paths=["/internal"]) as server:
        for path in ("/internal", "/internal", "/internal", "/missing"):
            assert httpx.get(server.url("public") + path).status_code == 404
        assert server.observation is not None
        board = server.observation.board
        assert eventually(lambda: figures_of(board.read())["sides"]["public"]["requests"] == 4)
        public = figures_of(board.read())["sides"]["public"]
    assert (public["hidden"], public["client_errors"]) == (3, 0.25)
    assert public["hidden_rate"] == pytest.approx(0.75 * public["rate"])


def test_it_says_what_processes_take_up_and_what_they_run_on(server: ObservedServer) -> None:
    first = document(server)
    (process,) = first["figures"]["processes"]
    assert process["memory"] > 1 << 20
    assert process["cpu"] >= 0
    launch = first["launch"]
    assert launch["python"] == platform.python_version()
    assert (launch["uvicorn"], launch["metrics"]) == (uvicorn.__version__, None)
    assert launch["listeners"][0]["limits"]["head_bytes"] == 65536
    assert launch["listeners"][0]["limits"]["connections"] is None
    assert status.usage(0) is None, "as for a process that is gone"


def test_it_says_what_has_happened_to_the_processes() -> None:
    with launched(DEMO, *FREE, *HEALTH, "--workers", "2") as running:
        victim = document(running)["figures"]["processes"][0]["pid"]
        os.kill(victim, signal.SIGKILL)
        assert eventually(lambda: f"process {victim} died" in happened(document(running)))
        assert eventually(lambda: len([one for one in happened(document(running)) if one.endswith(" is ready")]) == 2)
        told = document(running)["figures"]["events"]
    assert told[-1]["event"] == "launched"
    assert [one["age"] for one in told] == sorted(one["age"] for one in told)


def happened(told: Any) -> list[str]:
    return [one["event"] for one in told["figures"]["events"]]


def test_workers_of_one_side_tell_of_both() -> None:
    arguments = (DEMO, *FREE, *HEALTH, "--private-missing", "loopback", "--workers", "2", "--private-workers", "1")
    with launched(*arguments) as running:
        for _ in range(5):
            httpx.get(running.url("public"))
        assert eventually(lambda: document(running)["figures"]["sides"]["public"]["requests"] == 5)
        launch, figures, _ = document(running).values()
    assert [listener["side"] for listener in launch["listeners"]] == ["private", "public"]
    assert any("a free port of 127.0.0.1" in url for listener in launch["listeners"] for url in listener["urls"])
    assert [process["state"] for process in figures["processes"]] == ["ready"] * 3


# In a browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Page]:
    with browsing() as page:
        yield page


@pytest.fixture
def page(browser: Page) -> Page:
    browser.reset()
    return browser


LINE = "document.querySelector('#{side} [data-lines~={name}] .first').getAttribute('d')"
HEIGHT = f"({LINE}.match(/[\\d.]+,[\\d.]+/g) || []).some(point => point.split(',')[1] < 57)"
"""Whether a chart has a point above its floor."""


def test_a_browser_draws_what_is_served_and_asks_nobody_else(page: Page, server: ObservedServer) -> None:
    page.open(server.url("private") + "/health/status")
    assert page.eventually("document.body?.classList.contains('live')")
    with httpx.Client() as client:
        for _ in range(20):
            client.get(server.url("public"))
            client.get(server.url("private"))
    for side, name in itertools.product(("public", "private"), ("rate", "median")):
        assert page.eventually(HEIGHT.format(side=side, name=name)), f"{name} of the {side} side"
    assert page.eventually(HEIGHT.format(side="private", name="open")), "the page itself"
    assert page.eventually("document.querySelector('#public [data-figure=requests]').textContent === '20'")
    assert page.run("document.querySelector('figure svg').getAttribute('aria-label')").startswith(
        "Requests of the last"
    )
    assert page.errors == []
    paths = ("/health/status", "/health/status.json", "/health/status/events")
    assert set(page.requested) == {server.url("private") + path for path in paths}

    page.run("document.body.append(Object.assign(new Image(), {src: '/elsewhere.png'}))")
    assert eventually(lambda: bool(page.run("true") and page.errors)), "what the policy forbids is noticed"


def test_a_phone_shows_it_without_scrolling_sideways(page: Page, server: ObservedServer) -> None:
    page.look(width=360, dark=True)
    page.open(server.url("private") + "/health/status")
    assert page.eventually("document.body?.classList.contains('live')")
    assert page.run("document.documentElement.scrollWidth") == 360
    assert page.run("getComputedStyle(document.body).backgroundColor") == "rgb(15, 19, 24)", "dark, as was asked for"


@pytest.fixture
def routed() -> Iterator[ObservedServer]:
    """A server with more routes than fit a screen, one of which is private and one public by a mark."""

    def answer(request: Any) -> Response:
        return PlainTextResponse("")

    paths = [Route(f"/shop/the/way/to/something/far/down/below/number/{number}", answer) for number in range(12)]
    routes = [*paths, private(Route("/stock", answer)), public(Route("/home", answer))]
    with serving(Starlette(routes=routes), private_health="/health", private_metrics="/metrics") as server:
        yield server


VISIBLE = "[...document.querySelectorAll('.routes tbody tr')].filter(one => one.checkVisibility())"


def test_a_phone_shows_what_each_side_gets_of_a_route(page: Page, routed: ObservedServer) -> None:
    page.look(width=360)
    page.open(routed.url("private") + "/health/status")
    assert page.eventually("document.body?.classList.contains('live')")
    assert page.run(f"{VISIBLE}.length") == 14
    cells = f"{VISIBLE}.flatMap(row => [...row.cells])"
    assert page.run(f"{cells}.every(one => one.getBoundingClientRect().right <= 360)")
    named = (
        f"{cells}.filter(one => one.dataset.column === 'public').map(one => getComputedStyle(one, '::before').content)"
    )
    assert set(page.run(named)) == {'"public: "'}, "each says which side it is about"


def test_a_long_list_of_routes_is_filtered_as_one_types(page: Page, routed: ObservedServer) -> None:
    page.open(routed.url("private") + "/health/status")
    assert page.eventually("document.body?.classList.contains('live')")
    typing = "field = document.querySelector('input'), field.value = {!r}, field.dispatchEvent(new Event('input')), "
    shown = f"{VISIBLE}.map(row => row.cells[0].textContent)"
    assert page.run(typing.format("STOCK") + shown) == ["/stock"]
    assert page.run(typing.format("marked public") + shown) == ["/home"]
    assert page.run(typing.format("shop number/11") + f"{shown}.length") == 1
    asked = page.run("new Promise(done => ask().then(() => done(field.isConnected)))")
    assert asked, "what somebody types stays when the page is told the same again"
    assert page.run(typing.format("") + f"{shown}.length") == 14


def test_routes_that_nobody_has_decided_on_stand_out(page: Page, routed: ObservedServer) -> None:
    page.open(routed.url("private") + "/health/status")
    assert page.eventually("document.body?.classList.contains('live')")
    colour = "getComputedStyle(document.querySelector('.routes tr{} td')).color"
    assert page.run(colour.format(".undecided")) != page.run(colour.format(":not(.undecided)"))
    assert page.run("document.querySelectorAll('.undecided').length") == 12
    caption = page.run("document.querySelector('.routes caption').textContent")
    assert "Public by default, without a rule or a mark: 12 of 14 routes." in caption


def test_the_page_leads_to_the_metrics_and_says_limits_versions_and_events(page: Page, routed: ObservedServer) -> None:
    page.open(routed.url("private") + "/health/status")
    assert page.eventually("document.body?.classList.contains('live')")
    assert page.run("document.querySelector('#metrics a').href") == routed.url("private") + "/metrics"
    assert page.run("document.getElementById('metrics').checkVisibility()")
    text = page.run("document.body.innerText")
    for words in (
        "no limit on connections, ",
        "request head 64 KiB, ",
        f"uvicorn {uvicorn.__version__}",
        "launched",
        f"{os.getpid()}",
    ):
        assert words in text
    assert re.search(r"\d MiB\t[\d.<]+ ?[\d.]* %", page.run("document.getElementById('rows').innerText"))
    assert page.errors == []


def test_a_page_opens_with_what_the_last_minutes_were(page: Page, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "STEP", 1.0)
    with serving(Observed(), private_health="/health") as server, httpx.Client() as client:

        def is_kept() -> bool:
            client.get(server.url("public"))
            return sum(bool(one["rate"]) for one in document(server)["history"]["public"]) >= 3

        assert eventually(is_kept)
        page.open(server.url("private") + "/health/status")
        assert page.eventually("document.body?.classList.contains('drawn')")
        assert page.run("points.public.filter(one => one.rate > 0).length") >= 3
        assert page.run(HEIGHT.format(side="public", name="rate"))
        assert page.errors == []


def test_without_javascript_it_says_where_the_figures_are(page: Page, server: ObservedServer) -> None:
    page.call("Emulation.setScriptExecutionDisabled", value=True)
    page.call("Page.navigate", url=server.url("private") + "/health/status")
    assert page.eventually("document.querySelector('noscript a')?.checkVisibility()")
    assert page.run("document.querySelector('noscript a').href") == server.url("private") + "/health/status.json"
    assert not page.run("document.body?.classList.contains('live')")


def test_what_comes_from_the_application_is_never_taken_for_html(page: Page) -> None:
    def answer(request: Any) -> Response:
        return PlainTextResponse("")

    app = Starlette(routes=[Route("/shop/<script>", answer), Route("/<img src=x onerror=alert(1)>", answer)])
    with serving(app, private_health="/health", private_paths=["/<b>", '/"']) as server:
        page.open(server.url("private") + "/health/status")
        assert page.eventually("document.body?.classList.contains('live')")
        shown = page.run("document.body.innerText")
        for text in ("/shop/<script>", "/<img src=x onerror=alert(1)>", 'not /<b>, /"'):
            assert text in shown
        assert page.run("document.querySelectorAll('script, img, dd b').length") == 1, "the page's own script"
        assert page.errors == []


def test_every_figure_has_its_words(page: Page, server: ObservedServer) -> None:
    page.open(server.url("private") + "/health/status")
    assert page.eventually("document.body?.classList.contains('live')")
    assert page.run("[...document.querySelectorAll('[data-figure]')].every(one => one.textContent)")
    assert page.run("[0, .254, 9.5, 12.34, 1234.4].map(number)") == ["0", "0.25", "9.5", "12.3", "1,234"]
    assert page.run("[0, .00001, .5].map(share)") == ["0 %", "< 0.01 %", "50.0 %"]
    assert page.run(f"[.0021, 1.5, {BOUNDS[-1]}, null].map(duration)") == ["2.1 ms", "1.5 s", "over 10 s", "\u2013"]
    assert page.run("[5.9, 60, 3725, 90000].map(span)") == ["5 s", "1 min", "1 h 2 min", "1 d 1 h"]


def test_a_process_that_is_stuck_stands_out(page: Page, server: ObservedServer, board: Scoreboard) -> None:
    page.open(server.url("private") + "/health/status")
    assert page.eventually("document.body?.classList.contains('live')")
    stuck = {"figures": figures_of(board.read(), stall=-1.0)}
    told = "document.querySelector('.stuck').innerText, document.getElementById('reasons').textContent"
    row, reasons, tone = page.run(f"show({json.dumps(stuck)}), [{told}, document.body.dataset.tone]")
    assert row.split("\t")[:3] == ["7", "stuck", "public and private"]
    assert "process 7 is stuck" in reasons
    assert tone == "bad"


def test_an_average_of_a_long_time_is_no_point_of_a_chart(
    page: Page, server: ObservedServer, board: Scoreboard
) -> None:
    page.open(server.url("private") + "/health/status")
    assert page.eventually("document.body?.classList.contains('live')")
    view = board.read()
    for age, is_point in ((1.0, True), (3600.0, False)):
        told = {"figures": figures_of(view._replace(age=age))}
        assert page.run(f"show({json.dumps(told)}), 'rate' in points.public.at(-1)") is is_point


def test_a_page_finds_the_next_launch_and_shows_what_that_serves(page: Page) -> None:
    arguments = (DEMO, "--port", "0", *HEALTH, "--private-missing", "loopback")
    with launched(*arguments, "--private-port", "0") as running:
        url = running.url("private")
        page.open(url + "/health/status")
        assert page.eventually("document.getElementById('link')?.textContent === 'live'")
    assert page.eventually("document.getElementById('link')?.textContent.startsWith('connection lost')")
    port = url.rpartition(":")[2]
    with launched(*arguments, "--private-port", port, "--private-path", "/next"):
        assert page.eventually("document.body?.innerText.includes('not /next')")
        assert page.eventually("document.getElementById('link')?.textContent === 'live'")


def opened(page: Page, url: str) -> None:
    """Look at the page of a launch until it is told events."""
    page.open(url + "/health/status")
    assert page.eventually("document.getElementById('link')?.textContent === 'live'")
    assert page.eventually("document.body.dataset.tone === 'good'")  # a busy machine may be late with a heartbeat
    assert page.run("document.title").startswith("ready | ")


def state(page: Page) -> tuple[str, str, str]:
    """What a person sees at a glance: the title of the tab, the tone of the page, and what its charts end with."""
    words = "document.title, document.body.dataset.tone, document.querySelector('.until').textContent"
    title, tone, end = page.run(f"[{words}]")
    return title.partition(" | ")[0], tone, end


def test_a_page_is_grey_while_its_process_is_blocked_and_still_shows_how_it_stands(page: Page, tmp_path: Path) -> None:
    with faulty(*HEALTH, "--health-stall", "1", cwd=tmp_path) as server:
        opened(page, server.url("private"))
        with connect(server.url("public")) as blocking:
            blocking.sendall(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
            try:
                assert page.eventually("document.title.startsWith('blocked | ')")
                _, tone, end = state(page)
                assert (tone, end.endswith(" UTC")) == ("gone", True)
                assert page.run("document.getElementById('link').textContent").startswith("no events since ")
                assert page.eventually("document.getElementById('reasons').textContent.includes('is stuck')")
                assert not (tmp_path / "released").exists(), "and it is still blocked"
            finally:
                (tmp_path / "released").touch()
            assert page.eventually("document.title.startsWith('ready | ')")
            assert page.eventually("document.body.classList.contains('live')")
        assert state(page) == ("ready", "good", "now")


def test_a_page_whose_launch_was_killed_is_grey_and_says_since_when(page: Page) -> None:
    with launched(DEMO, *FREE, *HEALTH) as running:
        opened(page, running.url("private"))
        running.end(signal.SIGKILL)
        assert page.eventually("document.title.startsWith('no answer | ')")
        _, tone, end = state(page)
        assert tone == "gone"
        assert f"no answer since {end}" in page.run("document.getElementById('link').textContent")


def test_a_page_follows_a_launch_that_drains_as_long_as_it_answers(page: Page) -> None:
    with launched(DEMO, *FREE, *HEALTH, "--private-linger", "60") as running:
        opened(page, running.url("private"))
        page.run(
            "links = [], shown = show, show = (...told) => {"
            " shown(...told); links.push(document.getElementById('link').textContent) }, 0"
        )
        running.send(signal.SIGTERM)
        assert page.eventually("document.title.startsWith('draining | ')")
        assert page.eventually("links.push() > 6")
        assert set(page.run("links")) == {"live"}, "through several streams"
        assert state(page) == ("draining", "fair", "now")
        running.send(signal.SIGINT)
        assert page.eventually("document.title.startsWith('no answer | ')")


def test_a_page_whose_worker_stands_still_goes_to_another(page: Page) -> None:
    with launched(DEMO, *FREE, *HEALTH, "--workers", "2") as running:
        opened(page, running.url("private"))
        page.run(
            "teller = 0, shown = show, show = (...told) => { teller = told[0].figures.process; shown(...told) }, 0"
        )
        assert page.eventually("teller !== 0")
        teller = psutil.Process(page.run("teller"))
        page.run(
            "wasGone = false, new MutationObserver(() => { wasGone ||= document.body.dataset.tone === 'gone' })"
            ".observe(document.body, {attributes: true}), 0"
        )
        teller.suspend()
        try:
            assert page.eventually("wasGone"), "perhaps for a moment, until another answers"
            assert page.eventually(f"document.body.classList.contains('live') && teller !== {teller.pid}")
        finally:
            with suppress(psutil.NoSuchProcess):  # one that stands still may be replaced
                teller.resume()


def test_a_contrast_that_everybody_can_read(page: Page, server: ObservedServer) -> None:
    """WCAG 2.2, 1.4.3: 4.5 to 1 between every text and what it stands on."""
    for dark in (False, True):
        page.look(width=1000, dark=dark)
        page.open(server.url("private") + "/health/status")
        assert page.eventually("document.body?.classList.contains('live')")
        assert page.run(CONTRAST) >= 4.5


CONTRAST = """
(() => {
  const light = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number).map(one => one / 255)
    .map(one => one <= .04045 ? one / 12.92 : ((one + .055) / 1.055) ** 2.4)
    .reduce((sum, one, index) => sum + one * [.2126, .7152, .0722][index], 0);
  const ground = element => {
    const colour = getComputedStyle(element).backgroundColor;
    return colour === 'rgba(0, 0, 0, 0)' && element.parentElement ? ground(element.parentElement) : colour;
  };
  const texts = [...document.querySelectorAll('body *')].filter(one => one.checkVisibility() &&
    [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim()));
  return Math.min(...texts.map(one => {
    const [low, high] = [light(getComputedStyle(one).color), light(ground(one))].sort((a, b) => a - b);
    return (high + .05) / (low + .05);
  }));
})()
"""
