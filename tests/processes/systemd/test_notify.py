"""systemd is told how a launch stands, by the process that it has started."""

from __future__ import annotations

import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from duallisten.processes.service_manager import Notifier, make_notifier, watchdog_interval
from tests.processes.systemd.manager import Manager, manager
from tests.support.gated import SHOP
from tests.support.running import FREE, Launched, ask, eventually, launched


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The file of an application that blocks its event loop, or only waits, when it is asked to."""
    file = tmp_path / "shop.py"
    file.write_text(SHOP)
    return file


@pytest.fixture
def told() -> Iterator[Manager]:
    with manager() as made:
        yield made


def end_and_hear(server: Launched, told: Manager) -> None:
    server.send(signal.SIGTERM)
    assert told.wait_for("STOPPING=1").process == server.process.pid
    assert server.end() == 0


def test_a_server_tells_when_it_serves_that_it_lives_and_when_it_ends(shop: Path, tmp_path: Path) -> None:
    with manager(tmp_path / "notify") as told:
        environ = {"NOTIFY_SOCKET": told.name, "WATCHDOG_USEC": "200000"}
        with launched("shop:app", *FREE, cwd=tmp_path, environ=environ) as server:
            assert told.hear() == ("READY=1\nSTATUS=Serving the public side and the private side", server.process.pid)
            told.wait_for("WATCHDOG=1")
            hold(server, shop, "/wait", "waiting")
            server.send(signal.SIGTERM)
            told.wait_for("STOPPING=1")
            told.wait_for("WATCHDOG=1")  # while it drains
            (tmp_path / "released").touch()
            assert server.end() == 0


def test_a_loop_that_does_not_turn_gives_no_sign_of_life(shop: Path, told: Manager) -> None:
    environ = {"NOTIFY_SOCKET": told.name, "WATCHDOG_USEC": "200000"}
    with launched("shop:app", *FREE, cwd=shop.parent, environ=environ) as server:
        told.wait_for("WATCHDOG=1")
        hold(server, shop, "/block", "blocked")
        told.wait_for_silence(1.0)
        (shop.parent / "released").touch()
        told.wait_for("WATCHDOG=1")


def hold(server: Launched, shop: Path, path: str, sign: str) -> None:
    """Ask for a path whose answer does not come for now, and wait until a file is the sign that it is asked for."""
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    asking = threading.Thread(target=ask, args=(server.url("public"), request), daemon=True)
    asking.start()
    assert eventually((shop.parent / sign).exists)


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_a_supervisor_tells_of_its_workers_and_of_their_replacement(
    preload: tuple[str, ...], shop: Path, told: Manager
) -> None:
    environ = {"NOTIFY_SOCKET": told.name}
    arguments = ("shop:app", "--workers", "2", *preload, *FREE)
    with launched(*arguments, cwd=shop.parent, environ=environ) as server:
        ready = ("READY=1\nSTATUS=Serving the public side and the private side", server.process.pid)
        assert told.hear() == ready
        assert httpx.get(server.url("private")).status_code == 200
        server.send(signal.SIGHUP)
        reloading = told.hear()
        assert reloading.text.startswith("RELOADING=1\nMONOTONIC_USEC=")
        assert told.hear() == ready
        shop.write_text("x = (\n")
        server.send(signal.SIGHUP)
        assert told.hear().text.startswith("RELOADING=1\n")
        assert told.hear().text == ready[0] + "; the last reload failed"
        end_and_hear(server, told)


def test_a_worker_that_stands_still_for_long_stops_the_signs_of_life(shop: Path, told: Manager) -> None:
    environ = {"NOTIFY_SOCKET": told.name, "WATCHDOG_USEC": "600000"}
    with launched("shop:app", "--workers", "2", *FREE, cwd=shop.parent, environ=environ) as server:
        told.wait_for("READY=1")
        told.wait_for("WATCHDOG=1")
        hold(server, shop, "/block", "blocked")
        told.wait_for_silence(1.5)
        (shop.parent / "released").touch()
        told.wait_for("WATCHDOG=1")
        end_and_hear(server, told)


def test_the_reloader_tells_of_the_process_under_it(shop: Path, told: Manager) -> None:
    environ = {"NOTIFY_SOCKET": told.name, "WATCHDOG_USEC": "2000000"}
    with launched("shop:app", "--reload", *FREE, cwd=shop.parent, environ=environ) as server:
        assert told.wait_for("READY=1").process == server.process.pid
        assert told.wait_for("WATCHDOG=1").process == server.process.pid
        end_and_hear(server, told)


def test_a_manager_that_is_gone_is_told_of_once_and_holds_nothing_up(tmp_path: Path) -> None:
    environ = {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "100000"}
    with launched("duallisten.demo:app", *FREE, environ=environ) as server:
        server.wait_for("Cannot send READY=1 to the service manager")
        assert httpx.get(server.url("public")).status_code == 200
        assert server.end() == 0
        assert server.output.count("to the service manager") == 1


def test_what_cannot_be_told_or_read_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    assert make_notifier({"NOTIFY_SOCKET": "vsock:2:1234"}, 7) is None
    assert make_notifier({"NOTIFY_SOCKET": ""}, 7) is None
    with manager() as told:
        made = make_notifier({"NOTIFY_SOCKET": told.name, "WATCHDOG_USEC": "soon"}, 7)
        assert made is not None and made.interval is None
    assert "vsock:2:1234 is neither a path" in caplog.text
    assert "WATCHDOG_USEC=soon is not a number" in caplog.text


def test_the_watchdog_of_another_process_is_not_ours() -> None:
    assert watchdog_interval({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "7"}, 7) == 1.5
    assert watchdog_interval({"WATCHDOG_USEC": "3000000"}, 7) == 1.5
    assert watchdog_interval({"WATCHDOG_USEC": "3000000", "WATCHDOG_PID": "8"}, 7) is None
    assert watchdog_interval({"WATCHDOG_USEC": "0"}, 7) is None
    assert watchdog_interval({}, 7) is None


def test_a_sign_of_life_is_given_only_by_what_lives() -> None:
    heard: list[str] = []
    notifier = Notifier(heard.append, 1.0)
    assert not notifier.feed(lambda: False)
    assert notifier.feed(lambda: True)
    assert not Notifier(heard.append).feed(lambda: True)
    assert heard == ["WATCHDOG=1"]


def test_a_full_queue_is_not_waited_for(caplog: pytest.LogCaptureFixture) -> None:
    with manager() as told, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as other:
        other.setblocking(False)
        with pytest.raises(BlockingIOError):
            while True:
                other.sendto(b"x", "\0" + told.name[1:])
        notifier = make_notifier({"NOTIFY_SOCKET": told.name}, 7)
        assert notifier is not None
        notifier.ready("Serving")
    assert "Cannot send READY=1 to the service manager: timed out" in caplog.text
