"""Workers with accept queues of their own: what clients get, whoever is missing."""

from __future__ import annotations

import asyncio
import os
import resource
import signal
import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
from uvicorn.server import ServerState

from duallisten import Config
from duallisten.listeners.accept_loop import ConnectionLimit
from duallisten.listeners.acceptor import AcceptorState
from duallisten.listeners.address_watch import await_plan
from duallisten.listeners.admission import Verdict
from duallisten.listeners.plan import request_of
from duallisten.listeners.sockets import bound_socket
from duallisten.net import read_host
from duallisten.observability import Phase
from duallisten.processes.worker_main import SupervisedServer
from tests.support.gated import SHOP
from tests.support.running import (
    DEADLINE,
    FREE,
    Launched,
    ask,
    connect,
    eventually,
    hurried,
    launched,
    process_of,
    processes,
)

DEMO = "duallisten.demo:app"


@contextmanager
def held(url: str, count: int) -> Iterator[list[int]]:
    """Open connections, keep them all open, and tell which process answered on each."""
    answered = []
    with ExitStack() as stack:
        for _ in range(count):
            connection = stack.enter_context(connect(url))
            connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while not answer.endswith(b"}\n"):
                answer += connection.recv(65536)
            answered.append(process_of(answer))
        yield answered


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A folder with the gated application, the gate open."""
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path / "gate"


def started(folder: Path) -> set[int]:
    """Which processes have come as far as the application's start."""
    return {int(path.name.removeprefix("starting-")) for path in folder.glob("starting-*")}


@pytest.mark.parametrize("side", ["public", "private"])
def test_connections_are_spread_over_all_workers(side: str) -> None:
    with launched(DEMO, "--workers", "4", "--no-access-log", *FREE) as server:
        with held(server.url(side), 200) as answered:
            shares = Counter(answered)
        # By chance alone one of four gets more than twice its share of 200 once in 10^12 times, or less than a fifth.
        assert len(shares) == 4
        assert max(shares.values()) < 100
        assert min(shares.values()) > 10


def test_while_a_worker_is_missing_another_answers_what_comes_into_its_queue(gate: Path) -> None:
    with launched("shop:app", "--workers", "2", "--no-access-log", *FREE, cwd=gate.parent) as server:
        urls = server.url("public"), server.url("private")
        victim, survivor = sorted(started(gate.parent))
        gate.touch()
        os.kill(victim, signal.SIGKILL)
        for url in urls:
            assert processes(url) == {survivor}
        assert eventually(lambda: len(started(gate.parent)) == 3), "its successor is on its way"
        assert processes(urls[0]) == {survivor}
        gate.unlink()
        successor = (started(gate.parent) - {victim, survivor}).pop()
        server.wait_for("Application startup complete", count=3)
        for url in urls:
            assert eventually(lambda url=url: processes(url) == {survivor, successor})  # type: ignore[misc]


def test_no_queue_is_left_alone_when_workers_die_one_after_the_other(gate: Path) -> None:
    """Who stood in for the first dies, too; the third stands in for both."""
    with launched("shop:app", "--workers", "3", "--no-access-log", *FREE, cwd=gate.parent) as server:
        url = server.url("public")
        gate.touch()
        alive = started(gate.parent)
        for victim in sorted(alive)[:2]:
            os.kill(victim, signal.SIGKILL)
            alive.discard(victim)
            assert processes(url) <= alive
        assert processes(url) == alive
        gate.unlink()
        assert eventually(lambda: len(processes(url)) == 3)


def settled_descriptors(pid: int) -> frozenset[int]:
    """The descriptors of a process, when they have been the same for a while: its last connection has ended."""
    looks: list[frozenset[int]] = []

    def are_settled() -> bool:
        looks.append(frozenset(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir()))
        return len(looks) > 10 and len(set(looks[-10:])) == 1

    assert eventually(are_settled)
    return looks[-1]


def test_a_worker_that_is_to_stand_in_without_a_descriptor_left_serves_on() -> None:
    with launched(DEMO, "--workers", "2", "--no-access-log", *FREE) as server:
        url = server.url("public")
        assert eventually(lambda: len(processes(url)) == 2)
        victim, survivor = sorted(processes(url))
        used = settled_descriptors(survivor)
        lowest_free = min(set(range(len(used) + 1)) - used)
        resource.prlimit(survivor, resource.RLIMIT_NOFILE, (lowest_free, lowest_free))
        os.kill(victim, signal.SIGKILL)
        server.wait_for("No descriptor is left for an order to back up")
        server.wait_for("Application startup complete", count=3)
        assert psutil.pid_exists(survivor)
        assert server.output.count("Worker") == 1


def test_a_worker_whose_application_gives_all_sockets_a_timeout_stands_in_as_others_do(gate: Path) -> None:
    (gate.parent / "shop.py").write_text("import socket\nsocket.setdefaulttimeout(5)\n" + SHOP)
    with launched("shop:app", "--workers", "2", "--no-access-log", *FREE, cwd=gate.parent) as server:
        url = server.url("public")
        victim, survivor = sorted(started(gate.parent))
        gate.touch()
        os.kill(victim, signal.SIGKILL)
        assert processes(url) == {survivor}
        gate.unlink()
        assert eventually(lambda: len(processes(url)) == 2)
        assert survivor in processes(url)
        assert server.output.count("Worker") == 1


async def test_a_worker_that_is_told_to_end_while_it_comes_to_stand_in_leaves_the_queue() -> None:
    pipe, _theirs = Pipe()
    config = Config(DEMO, port=0, private_port=0, log_config=None)
    server = SupervisedServer(config, await_plan(request_of(config), read_host), [], pipe)
    service: Any = SimpleNamespace(limit=ConnectionLimit(lambda: 0), side="public", state=ServerState())
    server.listeners.services = {Verdict.PUBLIC: service}
    server._reception = AcceptorState(server.listeners.services, asyncio.get_running_loop())
    server.lifecycle.enter(Phase.DRAINING)
    with socket.create_server(("127.0.0.1", 0)) as queue:
        await server._back_up(1, [bound_socket("public", queue)])
        assert queue.fileno() == -1
    assert (server.listeners.listening, server._backed_up) == ([], {})


def test_the_queue_of_a_worker_that_was_taken_away_is_answered() -> None:
    with launched(DEMO, "--workers", "3", "--no-access-log", *FREE) as server:
        url = server.url("public")
        assert eventually(lambda: len(processes(url)) == 3)
        for count in (1, 2):
            server.send(signal.SIGTTOU)
            server.wait_for("Finished server process", count=count)
        (left,) = processes(url)
        server.send(signal.SIGTTIN)
        assert eventually(lambda: len(processes(url)) == 2)
        assert left in processes(url)


def test_a_request_that_waits_for_a_worker_which_dies_is_answered_by_another() -> None:
    """One worker is stopped with connections in its queue, and killed."""
    with launched(DEMO, "--workers", "2", "--no-access-log", *FREE) as server:
        url = server.url("public")
        assert eventually(lambda: len(processes(url)) == 2)
        victim = min(processes(url))
        os.kill(victim, signal.SIGSTOP)
        answers: list[bytes] = []
        asking = [threading.Thread(target=lambda: answers.append(ask(url))) for _ in range(20)]
        for thread in asking:
            thread.start()
        os.kill(victim, signal.SIGKILL)
        for thread in asking:
            thread.join(DEADLINE)
        assert [b"200 OK" in answer for answer in answers] == [True] * 20


def test_of_two_launches_at_the_same_time_one_gets_the_port_and_the_other_an_error(gate: Path) -> None:
    """Both are bound and start their application; nothing but the first connection would tell them apart.

    The second binds when the first has, for an instant in which both try the port may make one of them give up sooner.
    """
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    arguments = ("shop:app", "--workers", "2", "--port", port, "--private-port", "0")
    gate.touch()
    with ExitStack() as stack:
        one = stack.enter_context(launched(*arguments, cwd=gate.parent))
        assert eventually(lambda: len(started(gate.parent)) == 2), one.output
        other = stack.enter_context(launched(*arguments, cwd=gate.parent))
        assert eventually(lambda: len(started(gate.parent)) == 4), one.output + other.output
        gate.unlink()
        assert eventually(lambda: one.process.poll() is not None or other.process.poll() is not None)
        loser, winner = (one, other) if one.process.poll() is not None else (other, one)
        assert loser.end() == 3
        assert "the public listener cannot listen on" in loser.output
        assert "another process has taken the port meanwhile" in loser.output
        assert loser.output.count("duallisten: ") == 1
        assert process_of(ask(winner.url("public"))) in {worker.pid for worker in winner.workers}


@pytest.mark.parametrize("shares", [False, True])
def test_a_port_that_another_program_has_is_an_error_at_launch(shares: bool, gate: Path) -> None:
    with socket.socket() as stranger:
        if shares:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = str(stranger.getsockname()[1])
        arguments = ("shop:app", "--workers", "2", "--port", port, "--private-port", "0")
        with launched(*arguments, cwd=gate.parent) as server:
            server.wait_for("Address already in use; another process may use it")
            assert server.process.wait(DEADLINE) == 3
        assert started(gate.parent) == set()


def block(server: Launched, folder: Path) -> threading.Thread:
    """Block a worker that serves the public side; gives the thread that waits for the answer."""
    request = b"GET /block HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"

    def ask_for_it() -> None:
        with suppress(ConnectionResetError):  # its worker may die
            ask(server.url("public"), request)

    asking = threading.Thread(target=ask_for_it)
    asking.start()
    assert eventually((folder / "blocked").exists)
    return asking


def test_a_worker_whose_loop_is_blocked_does_not_outlive_a_killed_supervisor(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    command = hurried("processes.worker_main", ORPHAN_GRACE=0.5)
    with launched("shop:app", "--workers", "2", *FREE, cwd=tmp_path, command=command) as server:
        server.url("public")
        children = psutil.Process(server.process.pid).children(recursive=True)
        asking = block(server, tmp_path)
        server.send(signal.SIGKILL)
        _, alive = psutil.wait_procs(children, timeout=DEADLINE)
        assert alive == []
        asking.join(DEADLINE)


@pytest.mark.parametrize("more", [(), ("--preload",)])
def test_the_private_side_answers_while_the_public_one_is_blocked(more: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    with launched("shop:app", "--private-workers", "1", *more, *FREE, cwd=tmp_path) as server:
        public, private = server.url("public"), server.url("private")
        assert server.output.count("Application startup complete") == 2
        assert processes(public, 5) != processes(private, 5)
        asking = block(server, tmp_path)
        assert len(processes(private)) == 1
        assert asking.is_alive()
        (tmp_path / "released").touch()
        asking.join(DEADLINE)
        assert server.end() == 0


def test_workers_of_one_side_never_answer_for_the_other() -> None:
    with launched(DEMO, "--workers", "2", "--private-workers", "2", "--no-access-log", *FREE) as server:
        public, private = server.url("public"), server.url("private")
        assert eventually(lambda: len(processes(public)) == 2 and len(processes(private)) == 2)
        assert not processes(public) & processes(private)
        assert b'"private"' in ask(private) and b'"public"' in ask(public)
        for victim in processes(private):
            os.kill(victim, signal.SIGKILL)
        assert not processes(private) & processes(public)
        assert counts_told(server) == {"public": "2 workers", "private": "2 workers"}


def counts_told(server: Launched) -> dict[str, str]:
    """What the log says of how many serve each side."""
    pattern = r"Serving the {} side on \S+ \(process \d+, (\d workers?)"
    return {side: server.wait_for(pattern.format(side))[1] for side in ("public", "private")}


def test_in_a_process_type_of_the_private_side_alone_private_workers_serve_it() -> None:
    arguments = (DEMO, "--listeners", "private", "--private-port", "0", "--private-workers", "2")
    with launched(*arguments, "--no-access-log") as server:
        url = server.url("private")
        assert eventually(lambda: len(processes(url)) == 2)


def test_private_workers_and_preload_are_said_to_be_ignored_while_reloading(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("from duallisten.demo import app\n")
    arguments = ("shop:app", "--reload", "--private-workers", "1", "--preload", *FREE)
    with launched(*arguments, cwd=tmp_path) as server:
        server.wait_for("--private-workers is ignored while reloading")
        server.wait_for("--preload is ignored while reloading")
        assert server.url("private")
