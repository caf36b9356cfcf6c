"""SIGHUP: the configuration file is read again."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.support.running import FREE, Launched, ask, eventually, launched

DEMO = "duallisten.demo:app"


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
