"""Workers that are forks of a process which the supervisor has forked early: what they share, and when not."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

import psutil
import pytest

from duallisten.config.uvicorn_contract import LOGGING_CONFIG
from tests.support.running import DEADLINE, FREE, Launched, ask, launched, processes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere workers are spawned")

SHOP = """
import json, logging, os, sqlite3, sys

class Formatter(logging.Formatter):
    pass

before = set(sys.modules)
os.register_at_fork(after_in_child=lambda: before.update(sys.modules))

async def app(scope, receive, send):
    if scope["type"] == "http":
        ours = ("duallisten", "uvicorn", "uvloop", "httptools", "websockets", "asyncio", "multiprocessing")
        new = [name for name in set(sys.modules) - before if name.partition(".")[0] in ours]
        body = json.dumps({"process": os.getpid(), "new": new, "mark": os.environ.get("MARK")}).encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
"""

WORKERS = ("--workers", "2", "--no-access-log", *FREE)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The folder of an application that tells what has been imported since it was, or since its process was forked."""
    (tmp_path / "shop.py").write_text(SHOP)
    return tmp_path


def zygote_of(server: Launched) -> psutil.Process:
    """The only child of the supervisor."""
    (zygote,) = psutil.Process(server.process.pid).children()
    return zygote


def are_spawned(server: Launched) -> bool:
    """Whether two workers run that are the supervisor's own children."""
    return (
        sum("spawn_main" in " ".join(child.cmdline()) for child in psutil.Process(server.process.pid).children()) == 2
    )


def log_config(folder: Path, formatter: str) -> str:
    """A file that asks for a formatter of the user's, beside uvicorn's."""
    formatters = {**LOGGING_CONFIG["formatters"], "mine": {"()": formatter}}
    (folder / "log.json").write_text(json.dumps({**LOGGING_CONFIG, "formatters": formatters}))
    return "log.json"


@pytest.mark.parametrize("more", [(), ("--preload",)], ids=["workers", "preload"])
def test_workers_share_what_was_imported_and_import_none_of_it_anew(more: tuple[str, ...], shop: Path) -> None:
    with launched("shop:app", *WORKERS, *more, cwd=shop, environ={"MARK": "here"}) as server:
        urls = server.url("public"), server.url("private")
        workers = {worker.pid for worker in server.workers}
        assert {psutil.Process(pid).ppid() for pid in workers} == {zygote_of(server).pid}
        for url in urls:
            told = json.loads(ask(url).partition(b"\r\n\r\n")[2])
            assert told.pop("process") in workers
            assert told == {"new": [], "mark": "here"}


@pytest.mark.parametrize("more", [(), ("--preload",)], ids=["workers", "preload"])
def test_the_supervisor_imports_nothing_of_the_application_and_nor_does_the_zygote(
    more: tuple[str, ...], shop: Path
) -> None:
    def have_imported(*everyone: psutil.Process) -> list[bool]:
        return ["_sqlite3" in " ".join(part.path for part in one.memory_maps()) for one in everyone]

    with launched("shop:app", *WORKERS, *more, cwd=shop) as server:
        server.url("public")
        assert have_imported(*server.workers) == [True, True]
        assert have_imported(psutil.Process(server.process.pid), zygote_of(server)) == [False, bool(more)]


def test_when_the_zygote_dies_workers_serve_on_and_their_successors_are_spawned(shop: Path) -> None:
    with launched("shop:app", *WORKERS, cwd=shop) as server:
        url = server.url("public")
        before = {worker.pid for worker in server.workers}
        zygote_of(server).kill()
        server.wait_for(r"Zygote \[\d+\] was killed by SIGKILL; workers are spawned from now on")
        assert processes(url) <= before
        for pid in before:
            os.kill(pid, signal.SIGKILL)
            server.wait_for(rf"Worker \[{pid}\] ended")
        server.wait_for("Application startup complete", count=4)
        assert are_spawned(server)
        assert b" 200 OK" in ask(url)
        assert server.end() == 0


def test_a_zygote_leaves_signals_to_the_supervisor(shop: Path) -> None:
    with launched("shop:app", *WORKERS, cwd=shop) as server:
        server.url("public")
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT):
            zygote_of(server).send_signal(number)
        victim = server.workers[0].pid
        os.kill(victim, signal.SIGTERM)  # which a fork obeys
        server.wait_for(rf"Worker \[{victim}\] exited with code 0")
        server.wait_for("Application startup complete", count=3)
        assert victim not in {worker.pid for worker in server.workers}
        assert not are_spawned(server)
        everyone = psutil.Process(server.process.pid).children(recursive=True)
        assert server.end() == 0
        assert psutil.wait_procs(everyone, timeout=DEADLINE)[1] == []


def test_workers_are_spawned_when_what_was_imported_has_changed(shop: Path) -> None:
    (shop / "lines.py").write_text("import logging\n\nclass Formatter(logging.Formatter):\n    pass\n")
    with launched("shop:app", *WORKERS, "--log-config", log_config(shop, "lines.Formatter"), cwd=shop) as server:
        server.url("public")
        assert not are_spawned(server)
        (shop / "lines.py").write_text("import logging\n\nclass Formatter(logging.Formatter):\n    new = True\n")
        server.send(signal.SIGHUP)
        server.wait_for("Finished server process", count=2)
        assert are_spawned(server)


def test_workers_are_spawned_where_something_of_the_application_was_imported(shop: Path) -> None:
    with launched("shop:app", *WORKERS, "--log-config", log_config(shop, "shop.Formatter"), cwd=shop) as server:
        server.url("public")
        assert are_spawned(server)
