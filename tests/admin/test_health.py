"""Health: what probes are told, of every process, also while the application blocks."""

from __future__ import annotations

import json
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from duallisten import Config, LaunchError
from duallisten.admin.health import describe, livez, readyz, startupz
from duallisten.listeners import ListenerSet
from duallisten.observability import Lifecycle, Phase, RowRef, Scoreboard
from duallisten.observability.scoreboard import ProcessView, View
from duallisten.server.fallback_responder import HEAD_BYTES
from duallisten.server.heartbeat import Observation
from duallisten.sides import Side
from tests.faults.serving import faulty
from tests.support.applications import Observed
from tests.support.running import DEADLINE, FREE, Launched, ask, connect, eventually, launched, serving

STALL = 3.0


def process(
    pid: int = 1, state: Phase = Phase.READY, sides: tuple[Side, ...] = ("public", "private"), late: float = 0.1
) -> ProcessView:
    return ProcessView(pid, state, sides, late, 60.0)


def view(*processes: ProcessView, phase: Phase = Phase.READY, supervisor_age: float | None = None) -> View:
    return View(1.0, phase, 60.0, 0, ("public", "private"), supervisor_age, processes, {})


# --- What is told, of what is on the board ---


async def test_a_process_that_has_ended_and_is_yet_to_exit_is_draining_for_others() -> None:
    """Its threads may keep it for half a minute; meanwhile every page tells of it."""
    board, lifecycle = Scoreboard(), Lifecycle()
    row = RowRef(board, board.take_row())
    observation = Observation(ListenerSet(None, None), lifecycle, row)
    observation.start()
    await lifecycle.enter(Phase.STOPPED)
    observation.stop()
    health = livez(board.read(), STALL)
    assert health.reasons == ()
    assert [describe(process)["state"] for process in health.view.processes] == ["draining"]
    board.retire_row(row.number)
    assert [gone.state for gone in board.read().gone] == [Phase.DRAINING], "it has ended, and did not die"


@pytest.mark.parametrize(
    ("seen", "reasons"),
    [
        (view(process()), []),
        (view(process(late=STALL + 1)), ["process 1 is stuck: its event loop has not turned for 4.0 s"]),
        (view(process(), process(2, late=9.0)), ["process 2 is stuck: its event loop has not turned for 9.0 s"]),
        (view(process(state=Phase.STARTING, late=99.0)), []),
        (view(process(state=Phase.DRAINING, late=99.0)), []),
        (view(process(), supervisor_age=0.5), []),
        (view(process(), supervisor_age=8.0), ["the supervisor is stuck: its loop has not run for 8.0 s"]),
        (view(phase=Phase.STARTING), []),
    ],
)
def test_a_process_lives_whose_event_loop_turns(seen: View, reasons: list[str]) -> None:
    told = livez(seen, STALL)
    assert list(told.reasons) == reasons
    assert told.status == (503 if reasons else 200)


@pytest.mark.parametrize(
    ("seen", "reasons"),
    [
        (view(process()), []),
        (view(process(), phase=Phase.STARTING), ["starting"]),
        (view(process(), phase=Phase.AWAITING_PRIVATE), ["awaiting the private address"]),
        (view(process(), phase=Phase.DRAINING), ["draining"]),
        (view(), ["no process serves the public side", "no process serves the private side"]),
        (view(process(sides=("private",))), ["no process serves the public side"]),
        (view(process(sides=("private",)), process(2, sides=("public",))), []),
        (
            view(process(sides=("private",)), process(2, sides=("public",), late=9)),
            ["no process serves the public side"],
        ),
        (view(process(state=Phase.DRAINING), process(2)), []),
    ],
)
def test_a_launch_is_ready_when_every_listener_has_a_process_that_accepts(seen: View, reasons: list[str]) -> None:
    told = readyz(seen, STALL)
    assert list(told.reasons) == reasons
    assert told.status == (503 if reasons else 200)


def test_a_launch_has_started_once_it_has_come_to_serve() -> None:
    assert startupz(view(phase=Phase.STARTING), STALL).status == 503
    for phase in (Phase.AWAITING_PRIVATE, Phase.READY, Phase.DRAINING):
        assert startupz(view(phase=phase), STALL).status == 200


# --- What a probe is told over the wire ---


def probe(url: str, name: str) -> httpx.Response:
    return httpx.get(f"{url}/-/{name}", timeout=DEADLINE)


def told(url: str, name: str) -> tuple[int, dict[str, Any]]:
    answer = probe(url, name)
    return answer.status_code, answer.json()


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_the_private_side_tells_and_the_public_side_does_not(http: str) -> None:
    app = Observed()
    with serving(app, http=http, private_health="/-/") as server:
        for name in ("livez", "readyz", "startupz"):
            assert eventually(lambda name=name: told(server.url("private"), name)[0] == 200)  # type: ignore[misc]
            assert probe(server.url("public"), name).text == "public", "it is the application's there"
        status, body = told(server.url("private"), "readyz")
        assert (status, body["status"], body["reasons"], body["phase"]) == (200, "ok", [], "ready")
        assert [one["pid"] for one in body["processes"]] == [os.getpid()]
        answer = probe(server.url("private"), "livez")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["content-type"] == "application/json"
    assert {scope["path"] for scope in app.scopes} == {"/-/livez", "/-/readyz", "/-/startupz"}
    assert all(scope["extensions"]["duallisten"]["side"] == "public" for scope in app.scopes)


@pytest.mark.parametrize(
    "path", ["/-/livez/", "/-//livez", "/-/%6civez", "/-/LIVEZ", "/-/livez;x", "/x/../-/livez", "/-"]
)
def test_no_other_spelling_of_a_page_is_one(path: str) -> None:
    with serving(Observed(), private_health="/-") as server:
        request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        assert ask(server.url("private"), request).endswith(b"private"), "it is the application's"


def test_a_page_is_read_and_nothing_else() -> None:
    with serving(Observed(), private_health="/-") as server:
        url = f"{server.url('private')}/-/livez"
        assert httpx.post(url, content=b"x").status_code == 405
        assert httpx.post(url, content=b"x").headers["allow"] == "GET, HEAD"
        head = httpx.head(url)
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 0
        assert httpx.get(f"{url}?verbose=1").status_code == 200


def test_pages_are_below_the_private_root_path() -> None:
    with serving(Observed(), private_health="/-", private_root_path="/inner") as server:
        assert probe(server.url("private"), "livez").status_code == 200


def test_every_worker_is_told_of_and_a_dead_one_is_not() -> None:
    with launched("duallisten.demo:app", *FREE, "--workers", "2", "--private-health", "/-") as server:
        private = server.url("private")
        assert eventually(lambda: told(private, "readyz")[0] == 200)
        _, body = told(private, "livez")
        pids = {one["pid"] for one in body["processes"]}
        assert len(pids) == 2
        victim = min(pids)
        os.kill(victim, signal.SIGKILL)
        assert eventually(lambda: victim not in {one["pid"] for one in told(private, "livez")[1]["processes"]})
        assert eventually(lambda: len(told(private, "livez")[1]["processes"]) == 2)
        assert eventually(lambda: told(private, "readyz")[0] == 200)


@pytest.mark.parametrize("more", [("--workers", "2"), ("--workers", "1", "--private-workers", "1")])
def test_a_worker_that_is_stuck_is_found_out_by_another(more: tuple[str, ...], tmp_path: Path) -> None:
    with faulty(*more, "--private-health", "/-", "--health-stall", "1", cwd=tmp_path) as server:
        private = server.url("private")
        assert eventually(lambda: told(private, "readyz")[0] == 200)
        assert told(private, "livez")[0] == 200
        with connect(server.url("public")) as blocking:
            blocking.sendall(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
            assert eventually((tmp_path / "blocked").exists)
            stuck = "is stuck: its event loop has not turned for"
            assert eventually(lambda: any(stuck in reason for reason in told(private, "livez")[1]["reasons"]))
            if "--private-workers" in more:
                assert told(private, "readyz")[1]["reasons"] == ["no process serves the public side"]
            (tmp_path / "released").touch()
        assert eventually(lambda: told(private, "livez")[0] == 200)


@pytest.mark.parametrize("more", [(), ("--workers", "2", "--preload")])
def test_who_is_told_to_end_is_not_ready_from_the_first(more: tuple[str, ...]) -> None:
    """The private side goes on for a while, for neighbours, and says so to whoever asks."""
    arguments = (*FREE, "--private-health", "/-", "--private-linger", "20", *more)
    with launched("duallisten.demo:app", *arguments) as server:
        private = server.url("private")
        assert eventually(lambda: told(private, "readyz")[0] == 200)
        server.send(signal.SIGTERM)
        server.wait_for("the private side goes on accepting")
        assert eventually(lambda: told(private, "readyz")[0] == 503)
        assert told(private, "readyz")[1]["reasons"] == ["draining"]
        assert told(private, "livez")[0] == told(private, "startupz")[0] == 200
        server.send(signal.SIGINT)
        server.process.wait(DEADLINE)


# --- While the application blocks the event loop ---


@pytest.fixture
def blocked(tmp_path: Path) -> Iterator[tuple[Launched, Path]]:
    """One process, whose event loop a handler has blocked."""
    with faulty("--private-health", "/-", "--health-stall", "1", cwd=tmp_path) as server:
        assert eventually(lambda: told(server.url("private"), "readyz")[0] == 200)
        with connect(server.url("public")) as blocking:
            blocking.sendall(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
            assert eventually((tmp_path / "blocked").exists)
            try:
                yield server, tmp_path / "released"
            finally:
                (tmp_path / "released").touch()


def test_one_blocked_process_tells_how_it_stands(blocked: tuple[Launched, Path]) -> None:
    server, released = blocked
    private = server.url("private")
    assert told(private, "startupz")[0] == 200
    assert eventually(lambda: told(private, "livez")[0] == 503)
    assert not released.exists(), "and it is still blocked"
    answer = probe(private, "readyz")
    assert (answer.status_code, answer.headers["connection"]) == (503, "close")
    assert answer.json()["reasons"] == ["no process serves the public side", "no process serves the private side"]
    assert httpx.head(f"{private}/-/livez").content == b""
    assert httpx.post(f"{private}/-/livez").status_code == 405
    released.touch()
    assert eventually(lambda: told(private, "livez")[0] == 200)


def test_what_is_meant_for_the_application_waits_for_it_untouched(blocked: tuple[Launched, Path]) -> None:
    server, released = blocked
    private = server.url("private")
    assert told(private, "livez")[0] in (200, 503)
    answers: list[bytes] = []
    requests = [
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"GET /?/-/livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n" + bytes(100_000),
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX: " + b"x" * HEAD_BYTES + b"\r\n\r\n",
        b"GET / HTTP/9.1\r\n\r\n",
    ]
    asking = [threading.Thread(target=lambda one=one: answers.append(ask(private, one))) for one in requests]
    for thread in asking:
        thread.start()
    with connect(private) as slow:
        slow.sendall(b"GET / HT")
        assert told(private, "startupz")[0] == 200
        assert answers == []
        released.touch()
        for thread in asking:
            thread.join(DEADLINE)
        slow.sendall(b"TP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert b'"private"' in slow.recv(65536)
    assert len(answers) == len(requests)
    assert sum(b'"private"' in one for one in answers) == 4
    assert sum(b" 400 " in one for one in answers) == 1


def test_a_probe_that_comes_in_pieces_is_answered(blocked: tuple[Launched, Path]) -> None:
    server, _ = blocked
    with connect(server.url("private")) as connection:
        for piece in (b"GET /-/star", b"tupz HTTP/1.1\r\nHo", b"st: localhost\r\n\r\n"):
            connection.sendall(piece)
        assert b"HTTP/1.1 200 OK\r\n" in connection.recv(65536)


def test_a_peer_that_is_not_admitted_is_told_nothing_by_a_blocked_process(tmp_path: Path) -> None:
    with faulty("--private-health", "/-", "--private-allow", "192.0.2.0/24", cwd=tmp_path) as server:
        private = server.url("private")
        with connect(server.url("public")) as blocking, connect(private) as refused:
            assert refused.recv(1) == b""
            blocking.sendall(b"GET /block HTTP/1.1\r\nHost: x\r\n\r\n")
            assert eventually((tmp_path / "blocked").exists)
            with connect(private) as waiting:
                waiting.sendall(b"GET /-/livez HTTP/1.1\r\nHost: localhost\r\n\r\n")
                waiting.settimeout(1.0)
                with pytest.raises(TimeoutError):
                    waiting.recv(1)
                (tmp_path / "released").touch()
                waiting.settimeout(DEADLINE)
                assert refusal(waiting) == b""


def refusal(connection: socket.socket) -> bytes:
    """What a peer that is not admitted gets: the end, or a reset, for it has sent something."""
    try:
        return connection.recv(1)
    except ConnectionResetError:
        return b""


# --- Mistakes ---


async def endpoint(request: Any) -> Any:
    """Stand for one."""


def fastapi_app() -> FastAPI:
    app = FastAPI()
    app.get("/-/livez")(endpoint)
    return app


@pytest.mark.parametrize(
    ("app", "route"),
    [
        (fastapi_app(), "/-/livez"),
        (Starlette(routes=[Route("/-/{name}", endpoint)]), "/-/{name}"),
        (Starlette(routes=[Mount("/-", routes=[Route("/readyz", endpoint)])]), "/-/readyz"),
    ],
)
def test_a_path_of_the_application_is_not_taken_from_it(app: Any, route: str) -> None:
    with pytest.raises(LaunchError, match=r"has a route for /-/.*choose another path") as refused:
        Config(app, private_health="/-").load()
    assert route in str(refused.value)


def test_a_route_that_takes_what_is_left_gives_way() -> None:
    app = Starlette(routes=[Route("/{rest:path}", endpoint)])
    with serving(app, private_health="/-") as server:
        assert probe(server.url("private"), "livez").status_code == 200


@pytest.mark.parametrize("prefix", ["-", "", "/a b", "/a/../b", "/%2d", "/a//b"])
def test_a_prefix_with_more_than_one_spelling_is_refused(prefix: str) -> None:
    from duallisten import UsageError

    with pytest.raises(UsageError, match=r"private.health"):
        Config("duallisten.demo:app", private_health=prefix)


def test_beats_come_from_the_event_loop_alone(tmp_path: Path) -> None:
    """A thread could say that it lives while the loop does not."""
    with serving(Observed(), private_health="/-") as server:
        assert server.observation is not None
        row = server.observation.row
        loop = next(iter(server.listeners.services.values())).context.loop
        held, release = threading.Event(), threading.Event()

        def hold() -> None:
            held.set()
            release.wait(DEADLINE)

        loop.call_soon_threadsafe(hold)
        assert held.wait(DEADLINE)
        before = row.words[2]
        time.sleep(0.3)
        assert row.words[2] == before
        release.set()
        assert eventually(lambda: row.words[2] > before)
        assert json.loads(ask(server.url("private"), b"GET /-/livez HTTP/1.0\r\n\r\n").partition(b"\r\n\r\n")[2])
