"""Processes that are killed, stopped, blocked or replaced all the time."""

from __future__ import annotations

import signal
import socket
import sys
import threading
from contextlib import suppress
from pathlib import Path

import psutil
import pytest

from tests.faults.serving import FAULTY, ask_over, faulty, request
from tests.processes.test_reload import APP
from tests.support.running import DEADLINE, FREE, address, ask, connect, eventually, launched, process_of, processes


def test_the_clients_of_others_and_new_ones_are_answered_while_a_worker_is_stopped(tmp_path: Path) -> None:
    """Long before it is taken for dead: its queue is looked after when its event loop has not turned for a second."""
    with faulty("--workers", "2", "--timeout-worker-healthcheck", "600", cwd=tmp_path) as server:
        url, private = server.url("public"), server.url("private")
        victim, other = server.workers
        connection = connect(url)
        while process_of(ask_over(connection)) != other.pid:
            connection.close()
            connection = connect(url)
        with connection:
            victim.suspend()
            assert process_of(ask_over(connection)) == other.pid
            assert processes(url) == processes(private) == {other.pid}
            victim.resume()
        assert eventually(lambda: processes(url) == {victim.pid, other.pid})
        assert server.end() == 0


def test_new_clients_are_answered_while_a_handler_blocks_the_event_loop_of_a_worker(tmp_path: Path) -> None:
    """It is not killed, as under uvicorn; it answers what it was asked when it can, and accepts again."""
    answers: list[bytes] = []
    with faulty("--workers", "2", cwd=tmp_path) as server:
        url = server.url("public")
        before = {worker.pid for worker in server.workers}
        blocking = threading.Thread(
            target=lambda: answers.append(ask(url, request("/block", b"Connection: close\r\n")))
        )
        blocking.start()
        assert eventually((tmp_path / "blocked").exists)
        serving = processes(url)
        assert len(serving) == 1
        (tmp_path / "released").touch()
        blocking.join(DEADLINE)
        assert before - serving == {process_of(answers[0])}
        assert eventually(lambda: processes(url) == before)
        assert server.end() == 0


@pytest.mark.parametrize("more", [(), ("--preload",)], ids=["spawned", "preload"])
def test_a_killed_supervisor_leaves_its_port_to_the_next(more: tuple[str, ...], tmp_path: Path) -> None:
    with faulty("--workers", "2", *more, cwd=tmp_path) as server:
        urls = server.url("public"), server.url("private")
        family = psutil.Process(server.process.pid).children(recursive=True)
        server.send(signal.SIGKILL)
        assert psutil.wait_procs(family, timeout=DEADLINE)[1] == []
    ports = [str(address(url)[1]) for url in urls]
    again = ("--port", ports[0], "--private-port", ports[1])
    with faulty("--workers", "2", *more, cwd=tmp_path, ports=again) as server:
        assert (server.url("public"), server.url("private")) == urls
        assert not processes(urls[0], 10) & {process.pid for process in family}
        assert b'"private"' in ask(urls[1])


HURRIED = f"""
import duallisten, duallisten.errors, duallisten.processes.supervisor, sys

if __name__ == "__main__":
    duallisten.processes.worker_slots.FIRST_DELAY = 0.01
    duallisten.processes.worker_slots.LONGEST_DELAY = 0.02
    try:
        duallisten.run("{FAULTY}", workers=2, port=0, private_port=0)
    except duallisten.LaunchError as error:
        sys.stderr.write(f"gave up: {{error}}\\n")
        sys.exit(error.exit_code)
"""
"""A launch that loses its patience sooner."""


def test_workers_that_keep_crashing_are_given_up(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(HURRIED)
    with launched(command=(sys.executable, str(program)), cwd=tmp_path) as server:
        url = server.url("public")
        (tmp_path / "crash").touch()
        for worker in server.workers:
            worker.kill()
        server.wait_for(r"gave up: the workers keep dying; the last one: worker \[\d+\] exited with code 9")
        assert server.process.wait(DEADLINE) == 3
        assert server.output.count("s after its start; restarting in") >= 9
        with pytest.raises(ConnectionRefusedError):
            ask(url)


CHANGES = 100


def test_after_a_storm_of_reloads_the_last_version_is_served(tmp_path: Path) -> None:
    module = tmp_path / "shop.py"
    module.write_text(APP.format(version=""))
    pace = threading.Event()
    with launched("shop:app", "--reload", *FREE, cwd=tmp_path) as server:
        urls = {side: server.url(side) for side in ("public", "private")}
        server.wait_for("Application startup complete|appears unsupported")
        for number in range(1, CHANGES + 1):
            module.write_text(APP.format(version="x" * number))  # of another size each: a .pyc is told stale by that
            pace.wait(0.03)  # an editor or a build is no faster, and the watcher puts together what comes at once
        for side, url in urls.items():
            last = f"{side} {'x' * CHANGES}".encode()
            assert eventually(lambda url=url, last=last: reads(url).endswith(b"\r\n\r\n" + last))  # type: ignore[misc]
        assert server.output.count("Reloading...") > 1
        assert len(family := server.workers) == 1
        server.end()
    assert psutil.wait_procs(family, timeout=DEADLINE)[1] == []
    for url in urls.values():
        socket.create_server(address(url)).close()


def reads(url: str) -> bytes:
    """Ask, and give nothing where a process that ends has closed the connection."""
    with suppress(ConnectionError):
        return ask(url)
    return b""
