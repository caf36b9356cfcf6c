"""The probe of the public side: ready or not, and no more, to anybody."""

from __future__ import annotations

import logging
import signal
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from duallisten import Config, LaunchError, UsageError
from duallisten.admin.health import is_public_ready
from duallisten.observability import Cell, Phase
from duallisten.observability.scoreboard import View
from duallisten.starlette import private
from tests.admin.test_health import STALL, endpoint, process, view
from tests.support.applications import Observed
from tests.support.running import DEADLINE, FREE, ask, eventually, launched, serving


@pytest.mark.parametrize(
    ("seen", "is_ready"),
    [
        (view(process()), True),
        (view(process(sides=("public",))), True),
        (view(process(sides=("public",)), phase=Phase.AWAITING_PRIVATE), True),
        (view(process(sides=("private",))), False),
        (view(process(late=STALL + 1)), False),
        (view(process(state=Phase.DRAINING)), False),
        (view(process(state=Phase.DRAINING), process(2)), True),
        (view(process(), phase=Phase.STARTING), False),
        (view(process(), phase=Phase.DRAINING), False),
        (view(), False),
    ],
)
def test_the_public_side_is_ready_if_a_process_serves_it_whatever_the_private_one_does(
    seen: View, is_ready: bool
) -> None:
    assert is_public_ready(seen, STALL) is is_ready


@pytest.mark.parametrize("http", ["h11", "httptools", "uvicorn.protocols.http.h11_impl:H11Protocol"])
def test_anybody_is_told_whether_it_is_ready_and_no_more(http: str, caplog: pytest.LogCaptureFixture) -> None:
    app = Observed()
    with caplog.at_level(logging.INFO), serving(app, http=http, public_health="/up", public_paths=["/shop"]) as server:
        url = server.url("public") + "/up"
        assert eventually(lambda: httpx.get(url).status_code == 200)
        headers = {"Host": "healthcheck.railway.app", "Sec-Fetch-Site": "cross-site"}
        answer = httpx.get(url + "?x", headers=headers)
        assert (answer.status_code, answer.text, answer.headers["cache-control"]) == (200, "ok\n", "no-store")
        head = httpx.head(url)
        assert (head.status_code, head.content, head.headers["content-length"]) == (200, b"", "3")
        assert httpx.post(url).status_code == 405
        for other in ("/up/", "//up", "/%75p", "/UP"):
            assert b" 404 " in ask(
                server.url("public"), f"GET {other} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
            )
        assert httpx.get(server.url("private") + "/up").text == "private", "it is the application's there"
        assert server.observation is not None
        cells = server.observation.row.side("public")
        assert eventually(lambda: cells[Cell.HIDDEN] == 4)
    assert [scope["path"] for scope in app.scopes] == ["/up"]
    if "uvicorn" not in http:
        lines = [record.getMessage() for record in caplog.records if record.name == "uvicorn.access"]
        assert not [line for line in lines if line.endswith('/up HTTP/1.1" 200') or "POST" in line or "HEAD" in line]
        assert [line for line in lines if line.endswith('/up/ HTTP/1.1" 404')], "other lines are written"


def test_it_is_below_the_public_root_path_and_at_the_side_door() -> None:
    network = {"private_network": ["127.0.0.0/8"], "private_host": "127.0.0.2"}
    with serving(Observed(), public_health="/up", root_path="/api", **network) as server:
        assert eventually(lambda: httpx.get(server.url("public") + "/up").status_code == 200)


@pytest.mark.parametrize("more", [("--listeners", "public"), ("--workers", "2", "--private-workers", "1")])
def test_who_is_told_to_end_is_not_ready_from_the_first(more: tuple[str, ...]) -> None:
    with launched("duallisten.demo:app", *FREE, "--public-health", "/up", "--public-linger", "10", *more) as server:
        url = server.url("public") + "/up"
        assert eventually(lambda: httpx.get(url, timeout=DEADLINE).text == "ok\n")
        server.send(signal.SIGTERM)
        server.wait_for("the public side accepts connections for another")
        assert eventually(lambda: httpx.get(url, timeout=DEADLINE).text == "unavailable\n")
        assert httpx.get(url, timeout=DEADLINE).status_code == 503
        server.send(signal.SIGINT)
        server.process.wait(DEADLINE)


# --- Mistakes ---


@pytest.mark.parametrize(
    ("routes", "route"),
    [
        ([Route("/health/up", endpoint)], "/health/up"),
        ([Route("/health/{name}", endpoint)], "/health/{name}"),
        ([Mount("/health", routes=[Route("/up", endpoint)])], "/health/up"),
    ],
)
def test_a_route_of_the_application_is_not_taken_from_it(routes: list[Any], route: str) -> None:
    with pytest.raises(
        LaunchError, match=r"--public-health /health/up: .*has a route for .*choose another path"
    ) as error:
        Config(Starlette(routes=routes), public_health="/health/up").load()
    assert route in str(error.value)


def test_a_route_that_the_public_side_does_not_reach_is_not_in_the_way() -> None:
    app = Starlette(routes=[private(Route("/up", endpoint)), Route("/{rest:path}", endpoint)])
    Config(app, public_health="/up", log_config=None).load()
    own = Starlette(routes=[Route("/up", endpoint)])
    Config(Starlette(), private_app=own, public_health="/up", log_config=None).load()


def test_a_private_path_that_covers_it_contradicts_it() -> None:
    with pytest.raises(UsageError, match="--public-health /internal/up lies inside --private-path /internal"):
        Config("duallisten.demo:app", public_health="/internal/up", private_paths=["/internal"])
    with pytest.raises(UsageError, match="must be in normal form"):
        Config("duallisten.demo:app", public_health="/a//b")
