"""Workers that are forks of a process which has imported the application."""

from __future__ import annotations

import os
import signal
import socket
import sys
from pathlib import Path

import psutil
import pytest

from duallisten import Config, LaunchError
from duallisten.listeners.address_watch import await_plan
from duallisten.listeners.plan import request_of
from duallisten.net import read_host
from duallisten.processes.fork_server import ForkServer
from tests.support.running import (
    DEADLINE,
    DUALLISTEN,
    FREE,
    Launched,
    ask,
    eventually,
    hurried,
    launched,
    processes,
    run,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="--preload is Linux's")

SHOP = """
import os, pathlib, sys
from duallisten.demo import app as demo

with pathlib.Path("imports").open("a") as imports:
    imports.write(f"{os.getpid()}\\n")

VERSION = "one"

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        pathlib.Path(f"lifespan-{os.getpid()}").touch()
    if scope.get("path") == "/version":
        body = VERSION.encode()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"%d" % len(body))]})
        await send({"type": "http.response.body", "body": body})
        return
    if scope.get("path") == "/exit":
        os._exit(7)
    await demo(scope, receive, send)
"""

ARGUMENTS = ("shop:app", "--workers", "2", "--preload", "--no-access-log", *FREE)


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The file of an application that notes its imports and lifespans."""
    file = tmp_path / "shop.py"
    file.write_text(SHOP)
    return file


def imports(shop: Path) -> list[int]:
    """Which processes have imported the application, in their order."""
    return [int(line) for line in (shop.parent / "imports").read_text().split()]


def version(url: str) -> bytes:
    return ask(url, b"GET /version HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").partition(b"\r\n\r\n")[2]


def descendants(server: Launched) -> list[psutil.Process]:
    return psutil.Process(server.process.pid).children(recursive=True)


def are_gone(everyone: list[psutil.Process]) -> bool:
    """Whether all of them end; that of `multiprocessing` which cleans up ends a moment after the supervisor."""
    return psutil.wait_procs(everyone, timeout=DEADLINE)[1] == []


def test_the_application_is_imported_once_and_started_in_each_worker(shop: Path) -> None:
    with launched(*ARGUMENTS, cwd=shop.parent) as server:
        urls = server.url("public"), server.url("private")
        (template,) = imports(shop)
        workers = processes(urls[0]) | processes(urls[1])
        assert len(workers) == 2
        assert template not in workers
        assert {psutil.Process(pid).ppid() for pid in workers} == {template}
        assert {int(path.name.removeprefix("lifespan-")) for path in shop.parent.glob("lifespan-*")} == workers
        everyone = descendants(server)
        assert server.end() == 0
        assert server.output.count("Finished server process") == 2
        assert are_gone(everyone)


def test_hangup_brings_new_code(shop: Path) -> None:
    with launched(*ARGUMENTS, cwd=shop.parent) as server:
        url, before = server.url("public"), processes(server.url("public"))
        assert version(url) == b"one"
        shop.write_text(SHOP.replace('"one"', '"the second"'))
        server.send(signal.SIGHUP)
        server.wait_for("Finished server process", count=2)
        assert {version(url) for _ in range(20)} == {b"the second"}
        assert not processes(url) & before
        assert len(imports(shop)) == 2
        assert eventually(lambda: not psutil.pid_exists(imports(shop)[0])), "the old template ends with its workers"


def test_new_code_that_cannot_be_imported_leaves_the_old_workers_in_place(shop: Path) -> None:
    with launched(*ARGUMENTS, cwd=shop.parent) as server:
        url, before = server.url("public"), processes(server.url("public"))
        shop.write_text("raise RuntimeError('not today')\n")
        server.send(signal.SIGHUP)
        server.wait_for("The new code cannot be imported: .*not today.*; reload aborted, old workers kept")
        assert processes(url) == before
        shop.write_text(SHOP.replace('"one"', '"mended"'))
        server.send(signal.SIGHUP)
        server.wait_for("Finished server process", count=2)
        assert version(url) == b"mended"


def test_a_forked_worker_that_dies_is_replaced_and_its_end_is_told(shop: Path) -> None:
    with launched(*ARGUMENTS, cwd=shop.parent) as server:
        url = server.url("public")
        victim = min(processes(url))
        os.kill(victim, signal.SIGKILL)
        server.wait_for(rf"Worker \[{victim}\] was killed by SIGKILL")
        server.wait_for("Application startup complete", count=3)
        ask(url, b"GET /exit HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_for(r"Worker \[\d+\] exited with code 7")
        server.wait_for("Application startup complete", count=4)
        assert len(imports(shop)) == 1


def test_a_forked_worker_at_its_limit_of_requests_has_ended_well(shop: Path) -> None:
    with launched(*ARGUMENTS, "--limit-max-requests", "1", cwd=shop.parent) as server:
        assert b"200 OK" in ask(server.url("public"))
        server.wait_for("Finished server process")
        server.wait_for("Application startup complete", count=3)
        assert "restarting in" not in server.output


def test_the_workers_serve_on_when_their_template_dies_and_another_one_is_made(shop: Path) -> None:
    with launched(*ARGUMENTS, cwd=shop.parent) as server:
        url, before = server.url("public"), processes(server.url("public"))
        os.kill(imports(shop)[0], signal.SIGKILL)
        server.wait_for("Fork server .* was killed by SIGKILL; restarting it")
        assert eventually(lambda: len(imports(shop)) == 2)
        assert processes(url) == before
        victim = min(before)
        os.kill(victim, signal.SIGKILL)
        server.wait_for(rf"Worker \[{victim}\] ended")
        server.wait_for("Application startup complete", count=3)
        assert eventually(lambda: len(processes(url)) == 2)
        assert len(imports(shop)) == 2
        everyone = descendants(server)
        assert server.end() == 0
        assert are_gone(everyone)


def test_nothing_outlives_a_killed_supervisor(shop: Path) -> None:
    with launched(*ARGUMENTS, cwd=shop.parent) as server:
        server.url("public")
        everyone = descendants(server)
        assert len(everyone) >= 3
        server.send(signal.SIGKILL)
        assert are_gone(everyone)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_launch_whose_import_takes_long(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import pathlib, time\npathlib.Path('importing').touch()\ntime.sleep(600)\n")
    with launched(*ARGUMENTS, cwd=tmp_path) as server:
        assert eventually((tmp_path / "importing").exists)
        everyone = descendants(server)
        assert server.end(number) == 0
        assert are_gone(everyone)


def test_an_application_that_cannot_be_imported_stops_the_launch_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("raise RuntimeError('no database')\n")
    ended = run(*ARGUMENTS, cwd=tmp_path)
    assert ended.returncode == 3
    told = [line for line in ended.stderr.splitlines() if line.startswith("duallisten: ")]
    assert len(told) == 1 and "no database" in told[0]
    assert "Serving" not in ended.stderr


def test_a_process_that_vanishes_during_the_import_stops_the_launch(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import os\nos._exit(7)\n")
    ended = run(*ARGUMENTS, cwd=tmp_path)
    assert ended.returncode == 3
    assert "the application could not be imported: fork server" in ended.stderr
    assert "exited with code 7" in ended.stderr


def test_what_must_not_be_done_at_import_is_told(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as database:
        (tmp_path / "shop.py").write_text(
            "import socket, threading\nfrom duallisten.demo import app\n"
            "threading.Thread(target=threading.Event().wait, name='beat', daemon=True).start()\n"
            f"connection = socket.create_connection({database.getsockname()!r})\n"
        )
        with launched(*ARGUMENTS, cwd=tmp_path) as server:
            server.wait_for(
                "--preload: importing the application has started threads, .*: beat; start them in its lifespan"
            )
            server.wait_for(rf"has opened connections .*: 127.0.0.1 port {database.getsockname()[1]}; open them in")
            assert b"200 OK" in ask(server.url("public"))


def test_what_is_done_as_it_should_be_is_not_told(shop: Path) -> None:
    with launched(*ARGUMENTS, cwd=shop.parent) as server:
        server.url("public")
        assert "--preload:" not in server.output


def test_a_factory_is_called_once(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(
        SHOP.replace("with pathlib", "def make():\n  with pathlib")
        .replace("    imports.write", "      imports.write")
        .replace('VERSION = "one"', '  return app\n\nVERSION = "one"')
    )
    with launched("shop:make", "--factory", *ARGUMENTS[1:], cwd=tmp_path) as server:
        assert version(server.url("private")) == b"one"
        assert len(imports(tmp_path / "shop.py")) == 1


def test_a_template_that_dies_amid_a_replacement_does_not_take_the_supervisor_with_it(shop: Path) -> None:
    """The first successor is starting; there is nothing to fork the second from, for the code is broken by now."""
    gate = shop.parent / "gate"
    shop.write_text(
        SHOP.replace("import os", "import asyncio, os").replace(
            ".touch()", ".touch()\n        while pathlib.Path('gate').exists():\n            await asyncio.sleep(0.01)"
        )
    )
    command = hurried("processes.fork_server", IMPORT_DELAY=0.5)
    with launched(*ARGUMENTS, cwd=shop.parent, command=command) as server:
        url, before = server.url("public"), processes(server.url("public"))
        gate.touch()
        server.send(signal.SIGHUP)
        assert eventually(lambda: len(list(shop.parent.glob("lifespan-*"))) == 3)
        mended = shop.read_text()
        shop.write_text("raise RuntimeError('not today')\n")
        os.kill(imports(shop)[1], signal.SIGKILL)
        server.wait_for("not today.*; restarting it")
        gate.unlink()
        server.wait_for("Finished server process")
        shop.write_text(mended)
        server.wait_for("Finished server process", count=2)
        assert eventually(lambda: len(processes(url)) == 2)
        assert not processes(url) & before


def test_nothing_outlives_a_supervisor_that_is_killed_during_the_import(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import pathlib, time\npathlib.Path('importing').touch()\ntime.sleep(600)\n")
    with launched(*ARGUMENTS, cwd=tmp_path) as server:
        assert eventually((tmp_path / "importing").exists)
        everyone = descendants(server)
        server.send(signal.SIGKILL)
        assert are_gone(everyone)


def test_what_the_import_prints_is_written_once(shop: Path) -> None:
    shop.write_text("print('hello from the import')\n" + SHOP)
    buffered = {"PYTHONUNBUFFERED": ""}
    with launched(*ARGUMENTS, "--limit-max-requests", "1", cwd=shop.parent, environ=buffered) as server:
        assert b"200 OK" in ask(server.url("public"))
        server.wait_for("Finished server process")  # a good end writes what is buffered
        assert server.end() == 0
        assert server.output.count("hello from the import") == 1


def test_a_template_that_ends_with_the_launch_is_not_missed(shop: Path) -> None:
    """A signal to all processes, such as systemd's, reaches the template before the supervisor has ended it."""
    with launched(*ARGUMENTS, cwd=shop.parent) as server:
        server.url("public")
        server.send(signal.SIGSTOP)
        server.send(signal.SIGTERM)
        psutil.Process(imports(shop)[0]).terminate()
        server.send(signal.SIGCONT)
        assert server.process.wait(DEADLINE) == 0
        assert "started again" not in server.output


def test_a_template_that_does_not_answer_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """What it tells too late would be taken for its answer to the next order."""
    monkeypatch.setattr("duallisten.processes.forker.PATIENCE", 0.1)
    config = Config("duallisten.demo:app", port=0, private_port=0)
    template = ForkServer.spawned(config)
    try:
        while not template.ready:
            template.read_reports(DEADLINE)
            assert not template.pipe.closed
        os.kill(template.process.pid or 0, signal.SIGSTOP)
        with pytest.raises(LaunchError, match="does not answer"):
            template.fork(await_plan(request_of(config), read_host), [])
        assert template.pipe.closed
        assert not template.process.is_alive()
    finally:
        template.end()


@pytest.mark.needs_root
def test_as_process_1_the_supervisor_takes_the_ends_of_what_a_dead_template_leaves(shop: Path) -> None:
    isolated = ("unshare", "--pid", "--fork", "--kill-child", *DUALLISTEN)
    with launched(*ARGUMENTS, command=isolated, cwd=shop.parent) as server:
        server.url("public")
        (supervisor,) = psutil.Process(server.process.pid).children()
        (template,) = (child for child in supervisor.children() if child.children())
        orphans = template.children()
        template.kill()
        server.wait_for("Fork server .*; restarting it")
        for orphan in orphans:
            orphan.kill()
        server.wait_for("Worker .* was killed by SIGKILL", count=2)
        assert eventually(lambda: not any(psutil.pid_exists(orphan.pid) for orphan in orphans))
        supervisor.terminate()
        assert server.process.wait(DEADLINE) == 0
