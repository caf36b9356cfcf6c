"""SIGHUP: the configuration file is read again. The replacement of one worker: when its turn comes."""

from __future__ import annotations

import json
import math
import re
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from duallisten.processes.rolling import Rolling
from duallisten.processes.starting import Start, describe
from tests.support.running import FREE, Launched, ask, eventually, hurried, launched, run

DEMO = "duallisten.demo:app"
CONTROL = (sys.executable, "-m", "duallisten.control")


def write(folder: Path, version: int, more: str = "") -> None:
    (folder / "duallisten.toml").write_text(f'header = ["X-Version:{version}"]\n{more}')


def versions(server: Launched) -> set[int]:
    """The versions of the file that answer on the public side."""
    answers = [ask(server.url("public")) for _ in range(20)]
    return {int(answer.lower().partition(b"x-version: ")[2].partition(b"\r\n")[0]) for answer in answers}


@pytest.mark.parametrize("more", [(), ("--preload",)], ids=["spawned", "preload"])
def test_a_hangup_reads_the_configuration_file_again(more: tuple[str, ...], tmp_path: Path) -> None:
    write(tmp_path, 1)
    with launched(DEMO, "--workers", "2", *more, *FREE, cwd=tmp_path) as server:
        assert versions(server) == {1}
        write(tmp_path, 2)
        server.send(signal.SIGHUP)
        assert eventually(lambda: versions(server) == {2})
        assert eventually(lambda: len(server.workers) == 2)
        server.workers[0].kill()
        server.wait_for("was killed by SIGKILL")
        server.wait_for("Application startup complete", count=5)
        assert versions(server) == {2}


WRONG = {
    "no-toml": ("this is not TOML", "duallisten.toml cannot be read: "),
    "unknown": ("listenners = 'both'", "duallisten.toml has the unknown key 'listenners': did you mean"),
    "value": ("max-body-size = 'big'", "duallisten.toml, max-body-size big: must be a number"),
    "logging": ("log-config = 'bad.json'", "--log-config bad.json: "),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_file_that_is_wrong_stops_nothing_that_runs(kind: str, tmp_path: Path) -> None:
    line, message = WRONG[kind]
    write(tmp_path, 1)
    (tmp_path / "bad.json").write_text("{}")
    with launched(DEMO, "--workers", "2", *FREE, cwd=tmp_path) as server:
        assert versions(server) == {1}
        before = {worker.pid for worker in server.workers}
        write(tmp_path, 2, line)
        server.send(signal.SIGHUP)
        server.wait_for(f"{message}.*; reload aborted, old workers kept")
        assert versions(server) == {1}
        assert {worker.pid for worker in server.workers} == before
        write(tmp_path, 3)
        server.send(signal.SIGHUP)
        assert eventually(lambda: versions(server) == {3})
        assert server.end() == 0


def test_what_no_worker_can_serve_with_is_not_given_to_those_that_are_started_later(tmp_path: Path) -> None:
    write(tmp_path, 1)
    with launched(DEMO, "--workers", "2", *FREE, cwd=tmp_path) as server:
        assert versions(server) == {1}
        write(tmp_path, 2, 'ssl-certfile = "none.pem"')
        server.send(signal.SIGHUP)
        server.wait_for(r"New worker \[\d+\] .*none.pem.*; reload aborted, old workers kept")
        server.workers[0].kill()
        server.wait_for("Application startup complete", count=3)
        assert versions(server) == {1}
        assert server.end() == 0


def test_what_cannot_change_while_it_runs_is_said(tmp_path: Path) -> None:
    write(tmp_path, 1, "workers = 2")
    with launched(DEMO, *FREE, cwd=tmp_path) as server:
        assert versions(server) == {1}
        write(tmp_path, 2, 'workers = 3\nprivate-allow = ["10.0.0.0/8"]')
        server.send(signal.SIGHUP)
        server.wait_for("SIGHUP does not change --private-allow, --workers: that takes a restart")
        assert eventually(lambda: versions(server) == {2})
        assert eventually(lambda: len(server.workers) == 2)
        assert server.end() == 0


HANGING = """
import pathlib, time
while not pathlib.Path("go").exists():
    time.sleep(0.02)
from duallisten.demo import app
"""

LATE = {
    (): r"Worker \[(\d+)\] has been starting for \d+ s; worker \[\d+\] serves meanwhile; another SIGHUP restarts",
    ("--preload",): r"Fork server \[(\d+)\] has been importing the application for \d+ s; the old workers serve",
}


@pytest.mark.parametrize("more", LATE, ids=["spawned", "preload"])
def test_a_successor_that_does_not_come_to_serve_is_told_and_given_up_by_another_hangup(
    more: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text("from duallisten.demo import app\n")
    arguments = ("shop:app", "--workers", "2", "--control", "socket", *more, *FREE)
    with launched(*arguments, cwd=tmp_path, command=hurried("processes.starting", NOTICE=0.0)) as server:
        url, before = server.url("public"), {worker.pid for worker in server.workers}
        assert told(tmp_path)["starting"] == []
        (tmp_path / "shop.py").write_text(HANGING)
        server.send(signal.SIGHUP)
        late = int(server.wait_for(LATE[more])[1])
        (start,) = told(tmp_path)["starting"]
        assert (start["pid"], start["imports"]) == (late, bool(more))
        assert start["replaces"] in ({None} if more else before)
        shown = run("socket", "status", command=CONTROL, cwd=tmp_path).stdout
        assert re.search(rf"Starting for \d+ s: (worker|a fork server,) {late}[;,]", shown)
        assert httpx.get(url).status_code == 200
        (tmp_path / "shop.py").write_text("from duallisten.demo import app\n# mended\n")
        server.send(signal.SIGHUP)
        assert eventually(lambda: len(pids := {one.pid for one in server.workers} - {late}) == 2 and not pids & before)
        assert server.output.count(f"[{late}] has been") == 1
        (tmp_path / "go").touch()
        assert server.end() == 0


def told(folder: Path) -> dict[str, Any]:
    """The status of the launch in `folder`."""
    ended = run("socket", "status", "--json", command=CONTROL, cwd=folder)
    assert (ended.returncode, ended.stderr) == (0, "")
    status: dict[str, Any] = json.loads(ended.stdout)
    return status


@pytest.mark.parametrize(
    ("start", "patience", "text"),
    [
        (Start(2, 12.0, 1), 60.0, "; worker [1] serves meanwhile; the start may take 60 s"),
        (Start(2, 12.0), math.inf, "; it replaces one that has ended"),
    ],
)
def test_what_is_waited_for_and_how_long_is_said(start: Start, patience: float, text: str) -> None:
    assert describe(start, patience) == f"Worker [2] has been starting for 12 s{text}"


class FakeSupervisor:
    """Two workers, and what is done about them; a successor serves when a test says so."""

    def __init__(self) -> None:
        self.slots = [self.slot("a"), self.slot("b")]
        self.factory = SimpleNamespace(is_ready=True, is_renewing=False)
        self.has_leaving = False
        self.retired: list[str] = []

    @staticmethod
    def slot(name: str) -> SimpleNamespace:
        serving = SimpleNamespace(name=name, pid=1, serving=True, start_time=0.0)
        return SimpleNamespace(worker=serving, successor=None, wanted=True, young_deaths=0)

    def start_worker(self, slot: SimpleNamespace) -> SimpleNamespace:
        return SimpleNamespace(name=slot.worker.name + "+", pid=2, serving=False, age=0.0)

    def retire(self, worker: SimpleNamespace) -> None:
        self.retired.append(worker.name)


def test_workers_are_replaced_one_after_the_other_each_when_its_successor_serves() -> None:
    supervisor: Any = FakeSupervisor()
    first, second = supervisor.slots
    rolling = Rolling(supervisor, None)
    for slot in (first, second, first):  # once is enough
        assert rolling.replace(slot, "is to be replaced")
    rolling.advance()
    assert rolling.replace(first, "is to be replaced")
    rolling.advance()
    assert (first.successor.name, second.successor, supervisor.retired) == ("a+", None, [])
    first.successor.serving = True
    rolling.advance()
    assert (first.worker.name, supervisor.retired, second.successor.name) == ("a+", ["a"], "b+")
    second.successor.serving = True
    rolling.advance()
    assert (second.worker.name, supervisor.retired, rolling.is_idle) == ("b+", ["a", "b"], True)


def test_a_worker_that_is_gone_when_its_turn_comes_is_not_replaced() -> None:
    supervisor: Any = FakeSupervisor()
    first, second = supervisor.slots
    rolling = Rolling(supervisor, None)
    assert rolling.replace(first, "is to be replaced")
    assert rolling.replace(second, "is to be replaced")
    first.worker = supervisor.slot("new").worker
    second.wanted = False
    for _ in range(2):
        rolling.advance()
    assert (first.successor, second.successor, rolling.is_idle) == (None, None, True)
    first.worker = None
    assert not rolling.replace(first, "is to be replaced")


def test_a_successor_that_fails_is_not_tried_again_by_itself(caplog: pytest.LogCaptureFixture) -> None:
    supervisor: Any = FakeSupervisor()
    rolling = Rolling(supervisor, None)
    (first, _) = supervisor.slots
    rolling.replace(first, "is to be replaced")
    rolling.advance()
    rolling.fail(first, "[2] exited with code 3")
    rolling.advance()
    assert (first.worker.name, first.successor, rolling.is_idle, rolling.retry_at) == ("a", None, True, 0.0)
    assert caplog.messages[-1] == "New worker [2] exited with code 3; worker [1] kept"
    rolling.replace(first, "is to be replaced", retried=True)
    rolling.advance()
    first.successor.age = 61.0
    rolling.advance()
    assert caplog.messages[-1] == "New worker [2] does not serve after 60 s; worker [1] kept, next try in 10 s"
    assert supervisor.retired == ["a+"]
    assert rolling.retry_at > 0
