"""How servers end: in order, with what was accepted answered, and in time; one process or several."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import trustme
from uvicorn.protocols.http.h11_impl import H11Protocol
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect as websocket

from duallisten import Config
from duallisten.errors import ShutdownError
from duallisten.listeners.admission import Admission
from duallisten.listeners.plan import Listener, Plan
from duallisten.net import TCPAddress
from duallisten.observability import Phase
from duallisten.server import drain, shutdown
from duallisten.server.drain import _has_unread
from duallisten.server.lifespan import Lifespans
from duallisten.server.shutdown import linger_seconds
from tests.support.applications import Observed
from tests.support.gated import SHOP
from tests.support.running import (
    DEADLINE,
    FREE,
    ObservedServer,
    ask,
    connect,
    eventually,
    launched,
    local_config,
    processes,
    serving,
)

DEMO = "duallisten.demo:app"
HEAD = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
LONG = ("--private-linger", "60", "--timeout-graceful-shutdown", "120")


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The folder of that application."""
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def noted(folder: Path, what: str) -> set[int]:
    """Which processes have noted something."""
    return {int(path.name.removeprefix(f"{what}-")) for path in folder.glob(f"{what}-*")}


def is_refused(url: str) -> bool:
    try:
        connect(url).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pytest.fail("it was accepted, and reset")
    return False


class Asking:
    """Clients that have connected and sent a request, each, and wait."""

    def __init__(self, url: str, count: int) -> None:
        self.connections = [connect(url) for _ in range(count)]
        for connection in self.connections:
            connection.sendall(HEAD)

    def answers(self) -> list[bytes]:
        """What each is answered until its connection ends."""
        found = []
        for connection in self.connections:
            with connection:
                answer = b""
                while data := connection.recv(65536):
                    answer += data
            found.append(answer)
        return found


def are_answered(answers: list[bytes]) -> bool:
    return all(each.startswith(b"HTTP/1.1 200") for each in answers)


def are_answered_and_closed(answers: list[bytes]) -> bool:
    return all(each.startswith(b"HTTP/1.1 200") and b"connection: close\r\n" in each for each in answers)


WORKERS = pytest.mark.parametrize("workers", [(), ("--workers", "2"), ("--workers", "2", "--preload")])


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_what_the_queue_holds_at_the_end_is_answered(loop: str, shop: Path) -> None:
    """More connections than the loop takes at a time come in while it is blocked, and so does the signal."""
    more = ("--backlog", "6", "--loop", loop)
    with launched("shop:app", *more, *FREE, cwd=shop) as server:
        urls = server.url("public"), server.url("private")
        blocking = threading.Thread(target=ask, args=(urls[0], HEAD.replace(b"/ ", b"/block ")))
        blocking.start()
        assert eventually((shop / "blocked").exists)
        asking = [Asking(url, 7) for url in urls]
        server.send(signal.SIGTERM)
        (shop / "released").touch()
        assert [are_answered(each.answers()) for each in asking] == [True, True]
        blocking.join(DEADLINE)
        server.process.wait(DEADLINE)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_the_first_answer_after_the_signal_says_that_its_connection_ends(loop: str) -> None:
    with launched(DEMO, "--loop", loop, *FREE) as server, connect(server.url("private")) as client:
        client.sendall(HEAD)
        assert b"connection: close\r\n" not in client.recv(65536)
        server.send(signal.SIGTERM)
        client.sendall(HEAD)
        assert b"connection: close\r\n" in client.recv(65536)


def test_what_the_queues_of_workers_hold_when_all_end_is_answered() -> None:
    with launched(DEMO, "--workers", "2", *FREE) as server:
        urls = server.url("public"), server.url("private")
        workers = processes(urls[0])
        assert len(workers) == 2
        with stopped(workers):
            asking = [Asking(url, 20) for url in urls]
            server.send(signal.SIGTERM)
            server.wait_for("Received SIGTERM")
            assert eventually(lambda: all(signal.SIGTERM in pending(worker) for worker in workers))
        assert [are_answered(each.answers()) for each in asking] == [True, True]
        assert server.process.wait(DEADLINE) == 0


@contextmanager
def stopped(pids: Iterable[int]) -> Iterator[None]:
    """Stop processes for as long as the block lasts."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
            # A process that has yet to take its SIGSTOP would take the signals that come meanwhile first.
            assert eventually(lambda pid=pid: psutil.Process(pid).status() == psutil.STATUS_STOPPED)  # type: ignore[misc]
        yield
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


def pending(process: int) -> set[int]:
    """The signals that a process is yet to take (proc(5))."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    masks = [int(line.split()[1], 16) for line in lines if line.startswith(("SigPnd", "ShdPnd"))]
    return {number for number in range(1, 65) for mask in masks if mask >> (number - 1) & 1}


@WORKERS
def test_the_private_side_lingers_and_the_public_one_does_not(workers: tuple[str, ...]) -> None:
    arguments = (DEMO, "--private-linger", "2.5", *workers, *FREE)
    with launched(*arguments) as server:
        public, private = server.url("public"), server.url("private")
        count = 2 if workers else 1
        server.send(signal.SIGTERM)
        server.wait_for("the private side accepts connections for another 2.5 s", count=count)
        assert is_refused(public)
        assert are_answered_and_closed([ask(private, HEAD)])
        server.wait_for("the private listener stopped accepting connections", count=count)
        assert is_refused(private)
        server.process.wait(DEADLINE)
        order = [
            "Shutting down",
            "the public listener stopped accepting connections",
            "the private side accepts connections",
            "the private listener stopped accepting connections",
            "Application shutdown complete",
        ]
        places = [[at for at, line in enumerate(server.lines) if text in line] for text in order]
        assert [len(each) for each in places] == [count] * len(order), server.output
        assert [min(each) for each in places] == sorted(min(each) for each in places)


@WORKERS
def test_the_public_side_lingers_where_it_is_asked_to(workers: tuple[str, ...]) -> None:
    more = ("--public-linger", "2.5", "--private-linger", "3.5", "--private-health", "/-")
    with launched(DEMO, *more, *workers, *FREE) as server:
        public, private = server.url("public"), server.url("private")
        count = 2 if workers else 1
        server.send(signal.SIGTERM)
        server.wait_for("the public side accepts connections for another 2.5 s", count=count)
        server.wait_for("the private side accepts connections for another 3.5 s", count=count)
        assert httpx.get(private + "/-/readyz").status_code == 503
        assert are_answered_and_closed([ask(public, HEAD), ask(private, HEAD)])
        server.wait_for("the public listener stopped accepting connections", count=count)
        assert is_refused(public)
        assert are_answered_and_closed([ask(private, HEAD)])
        server.wait_for("the private listener stopped accepting connections", count=count)
        assert is_refused(private)
        server.wait_for("Application shutdown complete", count=count)


def test_a_websocket_stays_open_as_long_as_its_side_lingers() -> None:
    with (
        serving(Observed(), public_linger=1, private_linger=2) as server,
        websocket(server.url("public").replace("http", "ws")) as public,
        websocket(server.url("private").replace("http", "ws")) as private,
    ):
        assert (public.recv(), private.recv()) == ("public", "private")
        server.should_exit = True
        assert eventually(lambda: server.phase is Phase.DRAINING)
        public.send("hello")
        assert public.recv(timeout=DEADLINE) == "hello"
        with pytest.raises(ConnectionClosed):
            public.recv(timeout=DEADLINE)
        private.send("hello")
        assert private.recv(timeout=DEADLINE) == "hello"


class Broken(H11Protocol):
    """A protocol class of a user's that cannot end a connection."""

    def shutdown(self) -> None:
        raise RuntimeError("no end")


def test_a_connection_whose_end_fails_keeps_the_application_from_no_shutdown(caplog: pytest.LogCaptureFixture) -> None:
    app = Observed()
    server = ObservedServer(local_config(app, http=Broken))
    server.thread.start()
    assert server.ready.wait(DEADLINE)
    with (
        socket.create_connection(server.addresses["public"], timeout=DEADLINE) as one,
        socket.create_connection(server.addresses["private"], timeout=DEADLINE) as other,
    ):
        assert eventually(lambda: sum(len(state.connections) for state in server.states) == 2)
        server.should_exit = True
        server.thread.join(DEADLINE)
        for client in (one, other):
            with suppress(ConnectionResetError):
                assert client.recv(1) == b""
    assert app.stopped == 1
    assert isinstance(server.error, ShutdownError) and "2 shutdown step(s) failed" in str(server.error)
    assert caplog.text.count("Shutdown step failed: end a connection") == 2
    assert "RuntimeError: no end" in caplog.text


@pytest.mark.parametrize("step", ["_stop", "_has_unread"])
def test_a_step_of_the_shutdown_that_fails_keeps_no_other_from_running(
    step: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no end")

    app = Observed()
    server = ObservedServer(local_config(app))
    server.thread.start()
    assert server.ready.wait(DEADLINE)
    monkeypatch.setattr(drain if step == "_has_unread" else shutdown, step, fail)
    with socket.create_connection(server.addresses["public"], timeout=DEADLINE):
        assert eventually(lambda: sum(len(state.connections) for state in server.states) == 1)
        server.should_exit = True
        server.thread.join(DEADLINE)
    assert app.stopped == 1
    assert isinstance(server.error, ShutdownError)
    assert "RuntimeError: no end" in caplog.text


FAILING = """
async def app(scope, receive, send):
    await receive()
    await send({"type": "lifespan.startup.complete"})
    await receive()
    FAIL
"""


@pytest.mark.parametrize(
    "fail",
    [
        'await send({"type": "lifespan.shutdown.failed", "message": "the database is gone"})',
        'raise RuntimeError("the database is gone")',
    ],
)
@WORKERS
def test_an_application_that_fails_to_shut_down_ends_with_another_code(
    workers: tuple[str, ...], fail: str, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(FAILING.replace("FAIL", fail))
    with launched("shop:app", "--private-app", DEMO, *workers, *FREE, cwd=tmp_path) as server:
        server.url("public")
        assert server.end() == 1
    assert server.lines[-1].startswith("duallisten: ")
    assert "the shutdown of the application failed: see the error above" in server.lines[-1]
    assert "Application shutdown complete" in server.output  # of the private application


def test_one_socket_for_both_sides_lingers_for_both() -> None:
    with socket.create_server(("0.0.0.0", 0)) as free:
        port = str(free.getsockname()[1])
    own = next((str(one) for one in addresses() if not one.startswith("127.")), None)
    if own is None:
        pytest.skip("this host has no other address than loopback")
    private = ("--private-host", own, "--private-network", f"{own}/32", "--private-port", port, "--fence", "address")
    arguments = (DEMO, "--host", "0.0.0.0", "--port", port, *private, "--private-linger", "2")
    with launched(*arguments) as server:
        server.url("private")
        server.send(signal.SIGTERM)
        server.wait_for("the private side accepts connections")
        assert b'"private"' in ask(f"http://{own}:{port}", HEAD)
        server.wait_for("the public listener stopped accepting connections")
        assert is_refused(f"http://{own}:{port}")


def addresses() -> list[str]:
    found = psutil.net_if_addrs().values()
    return [entry.address for entries in found for entry in entries if entry.family == socket.AF_INET]


def test_a_worker_that_is_replaced_does_not_linger() -> None:
    with launched(DEMO, "--workers", "2", *LONG, *FREE) as server:
        server.url("private")
        server.send(signal.SIGHUP)
        server.wait_for("Finished server process", count=2)
        assert "accepts connections for another" not in server.output
        server.send(signal.SIGINT)
        server.wait_for("accepts connections for another 60 s", count=2)
        server.send(signal.SIGINT)
        assert server.process.wait(DEADLINE) == 0


def test_a_second_interrupt_ends_the_lingering() -> None:
    with launched(DEMO, *LONG, *FREE) as server:
        server.url("private")
        server.send(signal.SIGINT)
        server.wait_for("accepts connections for another 60 s")
        server.send(signal.SIGINT)
        server.process.wait(DEADLINE)
        assert "Waiting for application shutdown" not in server.output


@WORKERS
def test_a_start_that_comes_through_is_shut_down_in_order(workers: tuple[str, ...], shop: Path) -> None:
    (shop / "gate").touch()
    with launched("shop:app", *workers, *FREE, cwd=shop) as server:
        count = 2 if workers else 1
        assert eventually(lambda: len(noted(shop, "starting")) == count)
        server.send(signal.SIGTERM)
        server.wait_for("Received a stop signal during startup; waiting up to 10 s", count=count)
        (shop / "gate").unlink()
        server.process.wait(DEADLINE)
        assert noted(shop, "shutdown") == noted(shop, "starting")
        assert "Serving" not in server.output


@WORKERS
def test_a_start_that_does_not_come_through_is_cut_short(workers: tuple[str, ...], shop: Path) -> None:
    (shop / "gate").touch()
    with launched("shop:app", "--timeout-graceful-shutdown", "1", *workers, *FREE, cwd=shop) as server:
        count = 2 if workers else 1
        assert eventually(lambda: len(noted(shop, "starting")) == count)
        server.send(signal.SIGTERM)
        server.process.wait(DEADLINE)
        server.wait_for("Startup has not finished; cancelling it", count=count)
        assert noted(shop, "ended") == noted(shop, "starting")
        assert noted(shop, "shutdown") == set()
        assert "Serving" not in server.output
        assert "Traceback" not in server.output


@WORKERS
def test_a_start_that_blocks_is_interrupted(workers: tuple[str, ...], shop: Path) -> None:
    (shop / "blocking").touch()
    with launched("shop:app", "--timeout-graceful-shutdown", "1", *workers, *FREE, cwd=shop) as server:
        count = 2 if workers else 1
        assert eventually(lambda: len(noted(shop, "starting")) == count)
        server.send(signal.SIGTERM)
        server.process.wait(DEADLINE)
        server.wait_for("blocked the event loop during startup; interrupted it", count=count)
        assert noted(shop, "ended") == noted(shop, "starting")
        assert "Serving" not in server.output
        assert "Traceback" not in server.output


async def test_a_shutdown_that_takes_too_long_is_cut_short() -> None:
    ended: list[str] = []

    async def app(scope: object, receive: object, send: object) -> None:
        await receive()  # type: ignore[operator]
        await send({"type": "lifespan.startup.complete"})  # type: ignore[operator]
        await receive()  # type: ignore[operator]
        try:
            await eternity.wait()
        finally:
            ended.append("in order")

    eternity = asyncio.Event()
    config = Config(app, log_config=None)
    config.load()
    lifespans = Lifespans(config.lifespan_class(config), config)
    await lifespans.startup()
    ending = asyncio.ensure_future(lifespans.shutdown())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    lifespans.cut_shutdown_short()
    await asyncio.wait_for(ending, DEADLINE)
    assert ended == ["in order"]


def test_a_sigterm_while_the_application_is_imported_is_not_lost(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        "import pathlib, time\n"
        "pathlib.Path('importing').touch()\n"
        "while not pathlib.Path('released').exists():\n"
        "    time.sleep(0.01)\n" + SHOP
    )
    with launched("shop:app", *FREE, cwd=tmp_path) as server:
        assert eventually((tmp_path / "importing").exists)
        server.send(signal.SIGTERM)
        (tmp_path / "released").touch()
        server.wait_for("Received a stop signal during startup")
        assert server.process.wait(DEADLINE) in (0, -signal.SIGTERM)
    assert "Serving the" not in server.output
    assert list(tmp_path.glob("shutdown-*"))


def test_observers_hear_of_the_end_first_and_one_that_fails_holds_nothing_up(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "uvicorn.error")
    seen: list[str] = []

    async def leave(phase: Phase) -> None:
        await asyncio.sleep(0)
        seen.append(f"{phase.label}, {sum(one.is_serving() for one in server.servers)} listeners")

    async def fail(phase: Phase) -> None:
        raise OSError("the registry is gone")

    def fail_at_once(phase: Phase) -> None:
        raise OSError("the pipe is gone")

    with serving(Observed()) as server:
        assert server.phase is Phase.READY
        server.lifecycle.observers += [fail_at_once, fail, leave]
    assert seen == ["draining, 2 listeners", "stopped, 0 listeners"]
    text = caplog.text
    assert text.index("the pipe is gone") < text.index("stopped accepting connections")
    assert text.index("An observer of the phase 'draining' failed") < text.index("stopped accepting connections")
    assert text.index("the registry is gone") < text.index("stopped accepting connections")


def test_bytes_that_nobody_has_read_are_seen() -> None:
    class Transport:
        def __init__(self, sock: socket.socket) -> None:
            self.get_extra_info = {"socket": sock}.get
            self.is_closing = lambda: False

    class Connection:
        def __init__(self, sock: socket.socket) -> None:
            self.transport = Transport(sock)

    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert not _has_unread(Connection(ours))
        theirs.sendall(b"G")
        assert _has_unread(Connection(ours))


def test_scalingo_s_grace_is_kept_within(caplog: pytest.LogCaptureFixture) -> None:
    made = Config(Observed(), platform="scalingo", log_config=None)
    assert (made.timeout_graceful_shutdown, made.timeout_keep_alive, made.options.private_linger) == (20, 75, 5.0)
    asked: dict[str, Any] = {"timeout_graceful_shutdown": 60, "timeout_keep_alive": 3, "private_linger": 1}
    made = Config(Observed(), platform="scalingo", log_config=None, **asked)
    assert (made.timeout_graceful_shutdown, made.timeout_keep_alive, made.options.private_linger) == (25, 3, 1.0)
    assert (
        "--timeout-graceful-shutdown lowered from 60 to 25 s: scalingo sends SIGKILL 30 s after SIGTERM" in caplog.text
    )
    made = Config(Observed(), platform="none", log_config=None)
    assert (made.timeout_graceful_shutdown, made.timeout_keep_alive, made.options.private_linger) == (None, 5, 0.0)


PUBLIC = Listener("public", (TCPAddress("0.0.0.0", 5000),))
PRIVATE = Listener("private", (TCPAddress("10.240.0.5", 9240),))
NOBODY = Admission(())


@pytest.mark.parametrize(
    ("plan", "asked", "seconds"),
    [
        (Plan(PUBLIC, PRIVATE, NOBODY), {}, (0, 0)),
        (Plan(PUBLIC, PRIVATE, NOBODY), {"private_linger": 5}, (0, 5)),
        (Plan(PUBLIC, PRIVATE, NOBODY), {"public_linger": 5}, (5, 5)),
        (Plan(PUBLIC, PRIVATE, NOBODY), {"public_linger": 5, "private_linger": 9}, (5, 9)),
        (Plan(PUBLIC, PRIVATE, NOBODY), {"public_linger": 5, "timeout_graceful_shutdown": 4}, (2, 2)),
        (Plan(PUBLIC, PRIVATE, NOBODY), {"public_linger": 90}, (15, 15)),
        (Plan(PUBLIC, PRIVATE, NOBODY), {"public_linger": 90, "timeout_graceful_shutdown": 0}, (90, 90)),
        (Plan(PUBLIC, PRIVATE, NOBODY, shared=True), {"public_linger": 1, "private_linger": 3}, (3, 3)),
        (Plan(PUBLIC, None, NOBODY), {"public_linger": 1, "private_linger": 3}, (1, 3)),
        (Plan(None, PRIVATE, NOBODY), {"public_linger": 5, "private_linger": 3}, (0, 3)),
    ],
)
def test_a_side_lingers_as_long_as_asked_and_leaves_time_for_what_is_accepted_last(
    plan: Plan, asked: dict[str, Any], seconds: tuple[float, float]
) -> None:
    made = Config(Observed(), platform="none", log_config=None, **asked)
    assert (linger_seconds(made, plan, "public"), linger_seconds(made, plan, "private")) == seconds


def test_whoever_asks_for_a_longer_linger_than_there_is_time_for_is_told() -> None:
    made = Config(Observed(), platform="none", log_config=None, public_linger=40, private_linger=15)
    (warning,) = made.warnings
    assert warning.startswith("--public-linger lowered from 40 to 15 s: half of --timeout-graceful-shutdown")


def test_connections_have_thirty_seconds_to_end_unless_asked_otherwise() -> None:
    def seconds(**asked: Any) -> float:
        return Config(Observed(), log_config=None, **asked).graceful_seconds

    assert [seconds(), seconds(timeout_graceful_shutdown=7)] == [30, 7]
    assert seconds(timeout_graceful_shutdown=0) == float("inf")
    assert seconds(timeout_graceful_shutdown=0, platform="scalingo") == 25


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_a_tls_handshake_that_is_under_way_at_the_end_is_completed(loop: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    files = {"private_ssl_keyfile": str(tmp_path / "key.pem"), "private_ssl_certfile": str(tmp_path / "cert.pem")}
    issued.private_key_pem.write_to_path(files["private_ssl_keyfile"])
    issued.cert_chain_pems[0].write_to_path(files["private_ssl_certfile"])
    context = ssl.create_default_context()
    authority.configure_trust(context)
    with serving(Observed(), loop=loop, private_linger=2, **files) as server:
        with socket.create_connection(server.addresses["private"], timeout=DEADLINE) as plain:
            assert eventually(lambda: len(server.handshakes) == 1)
            server.should_exit = True
            assert eventually(lambda: server.phase is Phase.DRAINING)
            with context.wrap_socket(plain, server_hostname="127.0.0.1") as secure:
                secure.sendall(HEAD)
                answer = b""
                while data := secure.recv(65536):
                    answer += data
        assert are_answered_and_closed([answer])
        assert answer.endswith(b"private")


def test_a_launch_that_fails_does_not_linger(shop: Path) -> None:
    """One worker cannot start, when the other serves."""
    code = SHOP + "import pathlib\npathlib.Path('first').touch(exist_ok=False)\n"
    (shop / "shop.py").write_text(code)
    with launched("shop:app", "--workers", "2", "--private-linger", "60", *FREE, cwd=shop) as running:
        assert running.process.wait(DEADLINE) == 3
