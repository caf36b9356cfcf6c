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

from duallisten.listeners.accept_loop import ConnectionLimit, Supply
from duallisten.listeners.acceptor import Acceptor, AcceptorState
from duallisten.listeners.admission import Verdict
from tests.support.applications import Observed
from tests.support.running import DEADLINE, FREE, PYTHON, Launched, address, ask, eventually, launched, serving

KEEP = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
APP = "from tests.support.applications import Observed\napp = Observed()\n"


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
        full = SimpleNamespace(limit=ConnectionLimit(lambda: 0, 0), counter=None, proxies=None)
        reception = AcceptorState({Verdict.PRIVATE: full}, asyncio.get_running_loop())  # type: ignore[dict-item]
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
    environ = {"PYTHONPATH": str(Path(__file__).parents[2])}
    with launched("observed:app", *options, command=command, cwd=tmp_path, environ=environ) as running:
        yield running


@pytest.mark.parametrize("side", ["public", "private"])
def test_a_flood_of_one_side_leaves_descriptors_to_the_other(loop: str, side: str, tmp_path: Path) -> None:
    other = {"public": "private", "private": "public"}[side]
    with with_few_descriptors(loop, tmp_path) as running, ExitStack() as stack:
        here, there = running.url(side), running.url(other)
        flood = [stack.enter_context(asked(here)) for _ in range(200)]
        running.wait_for(
            r"Pausing accept on .*nearly out of file descriptors: \d+ of 160 are in use, \d+ of them by this side"
        )
        held = [stack.enter_context(asked(there)) for _ in range(20)]
        assert [answer(connection) for connection in held] == [other] * 20
        for _ in range(5):
            assert ask(there).endswith(other.encode())
        answered = [connection for connection in flood if eventually_answered(connection, side)]
    assert len(answered) == len(flood)
    assert sum("Pausing accept" in line for line in running.lines) <= 2
    assert "Traceback" not in running.output


def eventually_answered(connection: socket.socket, side: str) -> bool:
    """Take the answer, and make room for those who wait."""
    with connection:
        return answer(connection) == side


# --- Each side's share of the descriptors ---


@pytest.mark.parametrize(
    ("used", "count", "total", "refused"),
    [
        (99, 99, 99, False),  # many are free: either side may hold them all
        (100, 80, 80, True),
        (100, 40, 40, True),  # with 60 files of the application's there are 80 for both sides
        (100, 38, 38, False),
        (100, 0, 80, False),
        (100, 1, 1, False),  # the application's own files take the others
        (139, 0, 100, False),
        (139, 50, 100, True),
        (140, 0, 100, True),  # the application's reserve
        (160, 0, 0, True),
        (1 << 30, 0, 0, True),
    ],
)
def test_when_few_descriptors_are_left_the_side_with_less_than_its_share_takes_them(
    used: int, count: int, total: int, refused: bool
) -> None:
    assert bool(Supply(160).refuses(used, count, total)) is refused


@pytest.mark.parametrize("limit", [16, 64, 160, 1024, 65536, 1 << 30])
@pytest.mark.parametrize("files", [0, 10])
def test_the_sides_never_wait_for_each_other_before_the_reserve(limit: int, files: int) -> None:
    supply = Supply(limit)
    assert 0 < supply.contested < supply.end < limit
    for used in {max(supply.contested, files), (supply.contested + supply.end) // 2, supply.end - 2}:
        total = used - files
        for one in (0, total // 3, total // 2, total):
            assert not all(supply.refuses(used, count, total) for count in (one, total - one))


TWO_SIDES = """
import asyncio, resource, socket, sys

from duallisten.listeners.accept_loop import AcceptLoop, ConnectionLimit

resource.setrlimit(resource.RLIMIT_NOFILE, (160, 160))


async def main() -> None:
    open_ones = {"public": [], "private": []}

    def total() -> int:
        return sum(map(len, open_ones.values()))

    for side, ones in open_ones.items():
        sock = socket.create_server(("127.0.0.1", 0), backlog=500)
        take = lambda connection, peer, ones=ones, side=side: (ones.append(connection), connection.send(side.encode()))
        await AcceptLoop(sock, take, total, ConnectionLimit(ones.__len__)).start_serving()
        print(sock.getsockname()[1], flush=True)
    loop = asyncio.get_running_loop()
    await loop.run_in_executor(None, sys.stdin.readline)
    print(*map(len, open_ones.values()), flush=True)
    files = []
    while True:
        try:
            files.append(socket.socket())
        except OSError:
            break
    print(len(files), flush=True)


if sys.argv[1] == "uvloop":
    import uvloop

    uvloop.run(main())
else:
    asyncio.run(main())
"""
"""Two listeners with 160 descriptors, that keep what they accept. On a line of input they tell how much that is, and
how many descriptors an application could still have."""


@pytest.mark.parametrize("first", [0, 1])
def test_either_side_has_its_share_of_the_descriptors(loop: str, first: int, tmp_path: Path) -> None:
    """A peer takes all that it can get of one side, then another of the other side; both are told which accept."""
    with launched("-c", TWO_SIDES, loop, command=PYTHON, cwd=tmp_path) as server, ExitStack() as stack:
        ports = [int(server.wait_for(r"^\d+$", count=number)[0]) for number in (1, 2)]

        def accepted(port: int) -> int:
            peers = [stack.enter_context(socket.create_connection(("127.0.0.1", port))) for _ in range(200)]
            for number, peer in enumerate(peers):
                peer.settimeout(0.5)  # five times as long as a listener waits before it looks again
                try:
                    peer.recv(7)
                except TimeoutError:
                    return number
            return len(peers)

        taken = accepted(ports[first])
        later = accepted(ports[1 - first])
        server.say()
        held = [int(number) for number in server.wait_for(r"^(\d+) (\d+)$").groups()]
        left = int(server.wait_for(r"^\d+$", count=3)[0])
        assert (held[first], held[1 - first]) == (taken, later)
    assert taken > 64
    assert later >= 40
    assert left >= 16


def none_open() -> int:
    return 0


def test_one_peer_has_no_more_connections_than_its_limit() -> None:
    limit = ConnectionLimit(none_open, per_peer=2)
    for _ in range(2):
        assert not limit.refuses("198.51.100.7")
        limit.enter("198.51.100.7")
    assert limit.refuses("198.51.100.7") == "2 connections of this peer are open (--limit-connections-per-peer)"
    assert not limit.refuses("198.51.100.8")
    limit.leave("198.51.100.7")
    assert not limit.refuses("198.51.100.7")


def test_peers_without_an_address_are_not_counted() -> None:
    limit = ConnectionLimit(none_open, per_peer=1)
    for _ in range(3):
        assert not limit.refuses(None)
        limit.enter(None)
    limit.leave(None)


def test_a_peer_that_has_left_takes_up_no_memory() -> None:
    limit = ConnectionLimit(none_open, per_peer=1)
    for number in range(1000):
        limit.enter(f"10.0.{number // 250}.{number % 250}")
        limit.leave(f"10.0.{number // 250}.{number % 250}")
    limit.leave("10.9.9.9")
    assert not limit.refuses("10.9.9.9")
    assert not limit._of_peer


def test_room_is_what_is_not_open_or_about_to_be() -> None:
    connections: list[int] = []
    limit = ConnectionLimit(lambda: len(connections), 2)
    assert (limit.is_full, limit.free) == (False, 2)
    connections.append(1)
    limit.enter("198.51.100.7")
    assert (limit.is_full, limit.free, limit.taken) == (True, 0, 2)
    assert limit.refuses("198.51.100.8") == "2 connections are open (--limit-connections)"
    limit.settle()
    assert (limit.is_full, limit.free, limit.taken) == (False, 1, 1)


async def test_those_that_wait_for_room_are_told_once_in_the_loop_s_next_turn() -> None:
    told: list[str] = []
    limit = ConnectionLimit(none_open, 0)
    limit.wait(lambda: told.append("told"))
    limit.notify()
    assert told == []
    limit.notify()
    await asyncio.sleep(0)
    assert told == ["told"]
    limit.wait(lambda: told.append("lifted"))
    limit.lift()
    await asyncio.sleep(0)
    assert told == ["told", "lifted"]
    assert not limit.is_full


def test_a_socket_that_is_closed_is_not_served() -> None:
    with serving(Observed()) as server:
        listening = server.servers[0]
        assert listening.is_serving()
        assert listening.sockets[0].getsockname() == server.addresses["public"]
    assert not listening.is_serving()
    assert listening.sockets == ()
    assert eventually(lambda: not server.thread.is_alive())
