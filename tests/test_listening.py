"""What a listener does when there is no room: a limit of its own, or no descriptors left; on both loops."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
from websockets.sync.client import connect

from duallisten.acceptor import Acceptor, Reception
from duallisten.admission import Verdict
from duallisten.listening import Room
from tests.applications import Observed
from tests.running import DEADLINE, FREE, Launched, address, ask, eventually, launched, serving

KEEP = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
APP = "from tests.applications import Observed\napp = Observed()\n"


@pytest.fixture(params=["asyncio", "uvloop"])
def loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def asked(url: str) -> socket.socket:
    """Connect, and send a request that keeps the connection."""
    connection = socket.create_connection(address(url), timeout=DEADLINE)
    connection.sendall(KEEP)
    return connection


def answer(connection: socket.socket) -> str:
    """Take an answer, which tells the side."""
    got = b""
    while not got.endswith((b"public", b"private")) and (data := connection.recv(65536)):
        got += data
    return got.rpartition(b"\n")[2].decode()


@pytest.mark.parametrize("side", ["public", "private"])
def test_connections_above_the_limit_wait_until_there_is_room(loop: str, side: str) -> None:
    other = {"public": "private", "private": "public"}[side]
    app = Observed()
    limits = {f"{'private_' if side == 'private' else ''}limit_connections": 2}
    if side == "public":
        limits["private_limit_connections"] = 0
    with serving(app, loop=loop, timeout_keep_alive=60, **limits) as server, ExitStack() as stack:
        here, there = server.url(side), server.url(other)  # type: ignore[arg-type]
        websocket = stack.enter_context(connect(here.replace("http", "ws")))
        assert websocket.recv() == side
        held = stack.enter_context(asked(here))
        assert answer(held) == side
        waiting = [stack.enter_context(asked(here)) for _ in range(3)]
        for _ in range(3):
            assert ask(there).endswith(other.encode())
        assert sum(scope["type"] == "http" for scope in app.scopes) == 4
        websocket.send("still here")
        assert websocket.recv() == "still here"
        held.close()
        assert answer(waiting[0]) == side
        websocket.close()
        assert answer(waiting[1]) == side
        waiting[0].close()
        assert answer(waiting[2]) == side


def test_those_that_wait_are_served_when_the_server_ends(loop: str) -> None:
    with serving(Observed(), loop=loop, timeout_keep_alive=60, limit_connections=1) as server, ExitStack() as stack:
        held = stack.enter_context(asked(server.url("public")))
        assert answer(held) == "public"
        waiting = [stack.enter_context(asked(server.url("public"))) for _ in range(5)]
        server.should_exit = True
        assert [answer(connection) for connection in waiting] == ["public"] * 5


def test_the_two_sides_of_one_socket_do_not_wait_for_each_other() -> None:
    """Nobody knows whose a connection is before it is accepted; so one above the limit is closed."""

    async def take() -> int:
        full = SimpleNamespace(room=Room(0), recorder=None)
        reception = Reception({Verdict.PRIVATE: full}, asyncio.get_running_loop())  # type: ignore[dict-item]
        ours, theirs = socket.socketpair()
        with ours, theirs:
            Acceptor(reception, lambda local, peer: Verdict.PRIVATE, "public").take(ours, None)
            assert theirs.recv(1) == b""
        return reception.refused

    assert asyncio.run(take()) == 1


@contextmanager
def with_few_descriptors(loop: str, tmp_path: Path, limit: int = 160) -> Iterator[Launched]:
    (tmp_path / "observed.py").write_text(APP)
    command = ("sh", "-c", f'ulimit -n {limit} && exec "$0" "$@"', sys.executable, "-m", "duallisten")
    options = ("--loop", loop, "--timeout-request-header", "0", "--timeout-keep-alive", "60", "--no-access-log", *FREE)
    environ = {"PYTHONPATH": str(Path(__file__).parents[1])}
    with launched("observed:app", *options, command=command, cwd=tmp_path, environ=environ) as running:
        yield running


def test_the_private_side_answers_when_the_public_one_has_used_up_the_descriptors(loop: str, tmp_path: Path) -> None:
    with with_few_descriptors(loop, tmp_path) as running, ExitStack() as stack:
        public, private = running.url("public"), running.url("private")
        flood = [stack.enter_context(socket.create_connection(address(public), timeout=DEADLINE)) for _ in range(300)]
        running.wait_for("Not accepting on .*few file descriptors are left")
        flood[-1].sendall(KEEP)
        for _ in range(5):
            assert ask(private).endswith(b"private")
        for connection in flood[:-1]:
            connection.close()
        assert answer(flood[-1]) == "public"
    assert sum("Not accepting" in line for line in running.lines) == 1
    assert "Traceback" not in running.output


def test_nothing_is_lost_when_there_is_no_descriptor_at_all(loop: str, tmp_path: Path) -> None:
    with with_few_descriptors(loop, tmp_path) as running, ExitStack() as stack:
        public, private = running.url("public"), running.url("private")
        flood = [stack.enter_context(asked(private)) for _ in range(200)]
        running.wait_for("Not accepting on .*Too many open files")
        waiting = stack.enter_context(asked(public))
        answered = [connection for connection in flood if eventually_answered(connection)]
        assert answer(waiting) == "public"
    assert len(answered) == len(flood)
    assert sum("Not accepting" in line for line in running.lines) <= 2
    assert "Traceback" not in running.output


def eventually_answered(connection: socket.socket) -> bool:
    """Take the answer, and make room for those who wait."""
    with connection:
        return answer(connection) == "private"


def test_a_socket_that_is_closed_is_not_served() -> None:
    with serving(Observed()) as server:
        listening = server.servers[0]
        assert listening.is_serving()
        assert listening.sockets[0].getsockname() == server.addresses["private"]
    assert not listening.is_serving()
    assert listening.sockets == ()
    assert eventually(lambda: not server.thread.is_alive())
