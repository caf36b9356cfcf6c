"""A launch that is process 1 of a container."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import psutil
import pytest

from tests.support.running import DEADLINE, DUALLISTEN, FREE, Launched, ask, eventually, launched

ISOLATED = ("unshare", "--pid", "--fork", "--mount-proc", "--kill-child", *DUALLISTEN)
"""Runs it as process 1 of a PID namespace."""

FAMILY = """
import asyncio, json, os, subprocess
from duallisten.demo import app as demo

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        await demo(scope, receive, send)
        return
    if scope["path"] == "/orphans":
        for _ in range(8):
            subprocess.run(["sh", "-c", "true & exit 0"], check=True)
        answer = os.getpid()
    else:
        waited = subprocess.Popen(["sh", "-c", "exit 7"])
        awaited = await asyncio.create_subprocess_exec("sh", "-c", "exit 8")
        left = subprocess.Popen(["sh", "-c", "exit 9"])
        os.waitid(os.P_PID, left.pid, os.WEXITED | os.WNOWAIT)  # it is a zombie that others could reap
        answer = [waited.wait(), await awaited.wait(), left.wait()]
    body = json.dumps(answer).encode()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
    await send({"type": "http.response.body", "body": body})
"""
"""An application that has children which it waits for, and others."""

KINDS = pytest.mark.parametrize(
    "more",
    [("--loop", "asyncio"), ("--loop", "uvloop"), ("--workers", "2"), ("--workers", "2", "--preload")],
    ids=["asyncio", "uvloop", "workers", "preload"],
)


@pytest.mark.needs_root
@KINDS
def test_in_a_container_orphans_are_reaped_and_the_applications_children_are_left_to_it(
    more: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(FAMILY)
    with launched("shop:app", *more, *FREE, command=ISOLATED, cwd=tmp_path) as server:
        url = server.url("public")
        request = b"GET /%s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        for _ in range(3):
            ask(url, request % b"orphans")
            assert json.loads(ask(url, request % b"children").partition(b"\r\n\r\n")[2]) == [7, 8, 9]
        assert eventually(lambda: zombies(server) == [])
        assert end(server, signal.SIGTERM) == 0


def zombies(server: Launched) -> list[psutil.Process]:
    family = psutil.Process(server.process.pid).children(recursive=True)
    return [process for process in family if is_zombie(process)]


def is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:  # it was reaped meanwhile
        return False


def end(server: Launched, number: signal.Signals) -> int:
    """Send a signal to process 1, and give the exit code."""
    (first,) = psutil.Process(server.process.pid).children()
    first.send_signal(number)
    return server.process.wait(DEADLINE)


@pytest.mark.needs_root
@pytest.mark.parametrize("more", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_in_a_container_signals_reach_the_server_and_its_exit_code_is_that_of_process_1(
    more: tuple[str, ...], tmp_path: Path
) -> None:
    with launched("tests.faults.faulty:app", *more, *FREE, command=ISOLATED, cwd=tmp_path) as server:
        url = server.url("public")
        (first,) = psutil.Process(server.process.pid).children()
        first.send_signal(signal.SIGUSR1)
        first.send_signal(signal.SIGUSR2)
        server.wait_for(r"Process \[\d+\] has \d+ tasks")
        assert b" 200 OK" in ask(url)
        (tmp_path / "bad-end").touch()
        assert end(server, signal.SIGINT) == 1
        assert server.output.count("Application shutdown failed. Exiting.") == (2 if more else 1)
