"""The control socket of a launch, of one process and of several, asked by its command."""

from __future__ import annotations

import json
import os
import signal
import stat
import sys
import threading
from pathlib import Path
from typing import Any

import httpx
import pytest

from duallisten.config import Config
from duallisten.errors import UsageError
from tests.support.gated import SHOP
from tests.support.running import DEADLINE, FREE, Launched, ask, connect, eventually, launched, run

COMMAND = (sys.executable, "-m", "duallisten.control")
OPTIONS = (*FREE, "--control", "socket", "--private-health", "/-")


def told(folder: Path, *arguments: str) -> Any:
    """What the launch in `folder` answers, as JSON."""
    ended = run("socket", *arguments, "--json", command=COMMAND, cwd=folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    return json.loads(ended.stdout)


def shown(folder: Path, *arguments: str) -> str:
    """What the launch in `folder` answers, as a person reads it, with single spaces."""
    ended = run("socket", *arguments, command=COMMAND, cwd=folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    return " ".join(ended.stdout.split())


def refused(folder: Path, *arguments: str) -> str:
    ended = run("socket", *arguments, command=COMMAND, cwd=folder)
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (3, "", 1)
    return ended.stderr


def pids(folder: Path, state: str = "serving") -> set[int]:
    return {one["pid"] for one in told(folder, "workers")["workers"] if one["state"] == state}


def readyz(server: Launched) -> httpx.Response:
    return httpx.get(f"{server.url('private')}/-/readyz")


def requesting(server: Launched, path: str, side: str = "public") -> threading.Thread:
    """Send a request that will be answered late."""
    request = f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
    asking = threading.Thread(target=ask, args=(server.url(side), request), daemon=True)
    asking.start()
    return asking


def check_drain(server: Launched, folder: Path) -> None:
    assert readyz(server).status_code == 200
    assert told(folder, "drain") == {"drained": True, "told": ["readyz"]}
    assert (readyz(server).status_code, readyz(server).json()["reasons"]) == (503, ["drained by an operator"])
    page = httpx.get(f"{server.url('private')}/-/status.json").json()
    assert (page["figures"]["drained"], page["figures"]["reasons"]) == (True, ["drained by an operator"])
    assert all(b" 200 OK" in ask(server.url(side)) for side in ("public", "private"))
    assert "ready, but drained by an operator" in shown(folder, "status")


def check_tasks_and_stacks(folder: Path, processes: int) -> None:
    """Check what is told while one request waits and another one blocks an event loop."""
    tasks = [task for process in told(folder, "tasks")["processes"] for task in process["tasks"]]
    innermost = [(task["running"], task["frames"][-2:]) for task in tasks if task["coroutine"] == "Exchange.run"]
    waiting = [frames for running, frames in innermost if not running]
    blocked = [frames for running, frames in innermost if running]
    assert [frame["function"] for frames in waiting for frame in frames] == ["app", "sleep"]
    assert [frame["file"].endswith("gated.py") for frames in blocked for frame in frames[-1:]] == [True]
    threads = [
        thread
        for process in told(folder, "stacks")["processes"]
        for thread in process["threads"]
        if thread["name"] == "MainThread"
    ]
    assert len(threads) == processes
    stacks = shown(folder, "stacks")
    assert "gated.py" in stacks
    assert "time.sleep(0.01)" in stacks


def test_a_launch_of_one_process_answers_also_while_its_event_loop_is_blocked(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    with launched("shop:app", *OPTIONS, cwd=tmp_path) as server:
        server.url("public")
        assert stat.S_IMODE((tmp_path / "socket").stat().st_mode) == 0o600
        check_drain(server, tmp_path)
        assert told(tmp_path, "drain", "--off")["drained"] is False
        assert readyz(server).status_code == 200
        assert "one process, and no workers" in refused(tmp_path, "workers", "add")
        assert "one process, and no workers" in refused(tmp_path, "reload")
        told(tmp_path, "log-level", "warning")
        with connect(server.url("private")):
            waiting = requesting(server, "/wait?x=1")
            assert eventually((tmp_path / "waiting").exists)
            blocking = requesting(server, "/block", "private")
            assert eventually((tmp_path / "blocked").exists)
            check_tasks_and_stacks(tmp_path, processes=1)
            found = told(tmp_path, "connections")
        first, second, *others = found["connections"]
        assert (first["side"], first["path"], first["state"]) == ("public", "/wait?x=1", "request")
        assert (second["side"], second["path"], second["state"]) == ("private", "/block", "request")
        assert first["seconds"] >= second["seconds"] > 0
        assert [one["state"] for one in others] == ["idle"]
        assert {(one["side"], one["connections"], one["requests"]) for one in found["peers"]} == {
            ("public", 1, 1),
            ("private", 2, 1),
        }
        status = told(tmp_path, "status")
        assert [one["pid"] for one in status["figures"]["processes"]] == [server.process.pid]
        assert status["figures"]["sides"]["public"]["requests"] == 1
        assert {one["side"]: one["urls"] for one in status["launch"]["listeners"]} == {
            side: [server.url(side)] for side in ("public", "private")
        }
        (tmp_path / "released").touch()
        waiting.join(DEADLINE)
        blocking.join(DEADLINE)
        assert server.end() == 0
        assert "GET /wait" not in server.output  # by the level of the log
        assert not (tmp_path / "socket").exists()
    assert "no such socket" in refused(tmp_path, "status")


@pytest.mark.parametrize("more", [(), ("--preload",)], ids=["spawned", "preload"])
def test_a_launch_with_workers_is_told_what_to_do(more: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    with launched("shop:app", "--workers", "2", *more, *OPTIONS, cwd=tmp_path) as server:
        server.url("public")
        first, second = sorted(pids(tmp_path))
        check_drain(server, tmp_path)
        told(tmp_path, "log-level", "warning")
        assert told(tmp_path, "workers", "add") == {"added": 1}
        assert eventually(lambda: len(pids(tmp_path)) == 3)
        assert readyz(server).status_code == 503
        assert told(tmp_path, "workers", "replace", str(first)) == {"replacing": first}
        assert eventually(lambda: first not in pids(tmp_path) and len(pids(tmp_path)) == 3)
        assert told(tmp_path, "workers", "remove", str(second)) == {"removed": [second]}
        left = pids(tmp_path)
        assert len(left) == 2
        assert "there is no worker 1;" in refused(tmp_path, "workers", "replace", "1")
        told(tmp_path, "reload")
        assert eventually(lambda: len(pids(tmp_path)) == 2 and not pids(tmp_path) & left)
        assert readyz(server).status_code == 503
        told(tmp_path, "drain", "--off")
        assert readyz(server).status_code == 200
        told(tmp_path, "workers", "remove")
        assert "the last worker of a pool" in refused(tmp_path, "workers", "remove")
        url = server.url("public")
        ask(url, b"GET /unseen HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        told(tmp_path, "log-level", "info")
        # A worker notices within a second how its lines are logged.
        assert eventually(lambda: b" 200 " in ask(url) and '"GET / HTTP/1.1" 200' in server.output)
        assert "GET /unseen" not in server.output
        assert server.end() == 0


def test_workers_are_asked_also_while_one_is_blocked_or_stopped(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(SHOP)
    with launched("shop:app", "--workers", "2", *OPTIONS, cwd=tmp_path) as server:
        server.url("public")
        requests = [requesting(server, "/wait")]
        assert eventually((tmp_path / "waiting").exists)
        requests.append(requesting(server, "/block"))
        assert eventually((tmp_path / "blocked").exists)
        check_tasks_and_stacks(tmp_path, processes=3)
        found = told(tmp_path, "connections")
        assert [one["path"] for one in found["connections"]] == ["/wait", "/block"]
        assert found["missing"] == []
        stopped = next(iter(pids(tmp_path)))
        os.kill(stopped, signal.SIGSTOP)
        try:
            missing = told(tmp_path, "connections")["missing"]
            assert [(one["pid"], "it does not answer" in one["reason"]) for one in missing] == [(stopped, True)]
            assert f"No answer from process {stopped}: it does not answer" in shown(tmp_path, "stacks")
        finally:
            os.kill(stopped, signal.SIGCONT)
        (tmp_path / "released").touch()
        for request in requests:
            request.join(DEADLINE)
        assert server.end() == 0


def test_a_launch_is_not_started_where_another_has_its_socket(tmp_path: Path) -> None:
    options = (*FREE, "--control", "socket")
    with launched("duallisten.demo:app", *options, cwd=tmp_path) as server:
        server.url("public")
        assert "that needs --private-health or --register" in refused(tmp_path, "drain")
        ended = run("duallisten.demo:app", *options, cwd=tmp_path)
        assert (ended.returncode, ended.stderr.count("\n")) == (3, 1)
        assert "another launch uses this socket; choose another path" in ended.stderr
        assert told(tmp_path, "status")["figures"]["phase"] == "ready"
        server.end(signal.SIGKILL)
    assert "connection refused; the launch that had this socket has ended" in refused(tmp_path, "status")
    with launched("duallisten.demo:app", "--workers", "2", *options, cwd=tmp_path) as server:
        server.url("public")
        assert told(tmp_path, "status")["figures"]["phase"] == "ready"
        assert server.end() == 0


def test_it_is_a_path_of_a_file() -> None:
    assert Config("duallisten.demo:app", control=Path("socket")).options.control == "socket"  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="must be the path of a file"):
        Config("duallisten.demo:app", control="\0abstract")
