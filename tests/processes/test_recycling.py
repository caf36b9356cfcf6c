"""Workers that have had enough: replaced by memory, age and requests served, and no request is lost."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import psutil
import pytest

from duallisten.config.options import Options
from duallisten.errors import UsageError
from duallisten.processes import recycling
from duallisten.processes.recycling import MIB, Limits, Recycling, Sample, check_readable, reason_to_replace
from tests.support.load import steady_load
from tests.support.running import FREE, Launched, ask, eventually, launched

HURRIED = """
import os, sys
from duallisten.cli import main
from duallisten.processes import recycling, rolling

if __name__ == "__main__":
    recycling.YOUNG = 1.0
    rolling.FIRST_RETRY, rolling.LONGEST_RETRY = 0.2, 1.0
    rolling.START_PATIENCE, rolling.START_FACTOR = float(os.environ.get("PATIENCE", "60")), 2.0
    main.main()
"""
"""The command line, with less patience."""

SHOP = """
import os, pathlib, time
from duallisten.demo import app as demo

if pathlib.Path("raise").exists():
    raise RuntimeError("not today")
if pathlib.Path("hang").exists():
    pathlib.Path("hanging").touch()
    time.sleep(600)
leak = []

async def app(scope, receive, send):
    if scope["type"] == "http" and os.environ.get("LEAK"):
        leak.append(b"x" * 200_000)
    await demo(scope, receive, send)
"""


def shop(folder: Path, *arguments: str, **environ: str) -> Launched:
    """Launch an application that does not start while there is a file `raise` or `hang`.

    environ: `LEAK` for one that leaks, `PATIENCE` in seconds for a successor's start
    """
    (folder / "shop.py").write_text(SHOP)
    (folder / "hurried.py").write_text(HURRIED)
    more = ("--no-access-log", "--timeout-graceful-shutdown", "2", *FREE)
    program = (sys.executable, str(folder / "hurried.py"))
    return launched("shop:app", *arguments, *more, command=program, cwd=folder, environ=environ)


REASONS = {
    "requests": (("--limit-max-requests", "50"), r"has served 50 requests \(--limit-max-requests\)"),
    "age": (("--limit-worker-age", "2"), r"is \d+ s old, its limit is 2 s \(--limit-worker-age\)"),
    "memory": (
        ("--limit-worker-memory", str(120 * MIB)),
        r"has \d+\.\d MiB of memory, its limit is 1[012]\d\.\d MiB \(--limit-worker-memory\)",
    ),
}

LEAKS = {"memory": {"LEAK": "1"}}
ALONE = {"requests": ("--preload", "--private-workers", "1")}


@pytest.mark.parametrize(("kind", "more"), [*((kind, ()) for kind in REASONS), *ALONE.items()])
def test_a_worker_that_has_had_enough_is_replaced_without_a_lost_request(
    kind: str, more: tuple[str, ...], tmp_path: Path
) -> None:
    arguments, reason = REASONS[kind]
    observed = ("--private-health", "/-", "--workers", "2", *more)
    with shop(tmp_path, *arguments, *observed, **LEAKS.get(kind, {})) as server:
        with steady_load(server.url("public"), server.url("private")) as load:
            server.wait_for(rf"Worker \[\d+\] {reason}; starting its successor", count=3)
            server.wait_for("Finished server process", count=2)
        assert load.failures == []
        assert all(load.answers)
        assert len(load.answers) > 100
        figures = httpx.get(server.url("private") + "/-/status.json").json()["figures"]
        assert figures["restarts"] == 0
        assert not [event for event in figures["events"] if "died" in event["event"]]
        assert server.end() == 0


FAULTS = {
    "raise": ("exited with code 3: .*not today.*", "60"),
    "hang": (r"does not serve after \d+ s", "1.5"),
}
"""What the log says of a successor, and for how many seconds it is waited for."""


@pytest.mark.parametrize("fault", FAULTS)
def test_a_successor_that_fails_leaves_a_worker_that_serves_on_and_is_tried_again(fault: str, tmp_path: Path) -> None:
    told, patience = FAULTS[fault]
    with shop(tmp_path, "--workers", "2", "--limit-max-requests", "5", PATIENCE=patience) as server:
        url = server.url("public")
        before = {worker.pid for worker in server.workers}
        (tmp_path / fault).touch()
        for _ in range(30):
            assert b" 200 OK" in ask(url)
        for delay in ("0.2", "0.4"):
            line = rf"New worker \[\d+\] {told}; worker \[(\d+)\] kept, next try in {delay} s"
            assert int(server.wait_for(line)[1]) in before
        assert b" 200 OK" in ask(url)
        assert before <= {worker.pid for worker in server.workers}
        (tmp_path / fault).unlink()
        assert eventually(lambda: not before & {worker.pid for worker in server.workers})
        assert b" 200 OK" in ask(url)
        assert server.end() == 0


def test_a_hangup_replaces_all_also_while_a_successor_does_not_come_to_serve(tmp_path: Path) -> None:
    with shop(tmp_path, "--workers", "2", "--limit-max-requests", "5") as server:
        url = server.url("public")
        before = {worker.pid for worker in server.workers}
        (tmp_path / "hang").touch()
        for _ in range(10):
            assert b" 200 OK" in ask(url)
        assert eventually((tmp_path / "hanging").exists)
        (tmp_path / "hang").unlink()
        server.send(signal.SIGHUP)
        server.wait_for("Finished server process", count=2)
        assert eventually(lambda: not before & {worker.pid for worker in server.workers})
        assert b" 200 OK" in ask(url)
        assert server.end() == 0


LIMITS = Limits(memory=100 * MIB, age=60.0)

DECISIONS: list[tuple[Sample, Limits, str]] = [
    (Sample(30.0, 99 * MIB), LIMITS, ""),
    (Sample(30.0, 101 * MIB), LIMITS, "has 101.0 MiB of memory, its limit is 100.0 MiB (--limit-worker-memory)"),
    (Sample(5.0, 101 * MIB), LIMITS, ""),
    (Sample(61.0, 99 * MIB), LIMITS, "is 61 s old, its limit is 60 s (--limit-worker-age)"),
    (Sample(0.1, 0, "7"), LIMITS, "has served 7 requests (--limit-max-requests)"),
    (Sample(1e9, 1 << 60), Limits(), ""),
]


@pytest.mark.parametrize(("sample", "limits", "reason"), DECISIONS)
def test_what_a_worker_has_come_to_decides_whether_it_is_replaced(sample: Sample, limits: Limits, reason: str) -> None:
    assert reason_to_replace(sample, limits) == reason


def test_the_limits_of_a_worker_are_at_most_a_tenth_lower() -> None:
    assert LIMITS.lowered(0.0) == LIMITS
    assert LIMITS.lowered(1.0) == pytest.approx((90 * MIB, 54.0))
    assert Limits().lowered(1.0) == Limits()


class FakeRolling:
    """Notes who is to be replaced."""

    def __init__(self) -> None:
        self.is_idle, self.retry_at = True, 0.0
        self.asked: list[str] = []

    def replace(self, slot: SimpleNamespace, why: str, *, retried: bool) -> None:
        assert retried
        self.asked.append(slot.name)


def looking(options: Options, *workers: SimpleNamespace) -> tuple[Recycling, FakeRolling]:
    """Build what looks at workers, each in a slot that is called after its age."""
    slots = [SimpleNamespace(name=f"{worker.age:g}", worker=worker) for worker in workers]
    rolling = FakeRolling()
    supervisor: Any = SimpleNamespace(
        config=SimpleNamespace(options=options), slots=slots, rolling=rolling, launched=True
    )
    return Recycling(supervisor), rolling


def worker(age: float, **state: Any) -> SimpleNamespace:
    usual = {"pid": 0, "jitter": 0.0, "at_limit": "", "serving": True, "is_available": True}
    return SimpleNamespace(age=age, **usual | state)


def test_of_several_that_have_had_enough_the_oldest_is_replaced_and_only_while_nothing_else_is() -> None:
    old = worker(70.0), worker(90.0), worker(80.0), worker(100.0, is_available=False), worker(10.0)
    look, rolling = looking(Options(limit_worker_age=60.0), *old)
    for rolling.is_idle, rolling.retry_at in ((False, 0.0), (True, float("inf"))):
        look.look()
    assert rolling.asked == []
    rolling.is_idle, rolling.retry_at = True, 0.0
    look.look()
    assert rolling.asked == ["90"]


def test_a_limit_that_a_worker_exceeds_from_the_start_is_said_to_be_too_low_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recycling, "resident_memory", lambda pid: 70 * MIB)
    monkeypatch.setattr(recycling, "LOOK_INTERVAL", 0.0)
    look, rolling = looking(Options(limit_worker_memory=60 * MIB), worker(2.0), worker(3.0))
    look.look()
    look.look()
    assert rolling.asked == []
    assert [record.getMessage() for record in caplog.records] == [
        f"Worker [0] has 70.0 MiB of memory 3 s after its start: --limit-worker-memory {60 * MIB} is too low"
    ]


def test_the_memory_of_a_process_is_what_the_system_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elsewhere than on Linux that takes psutil."""
    mine = psutil.Process()
    for platform in (sys.platform, "darwin"):
        monkeypatch.setattr(sys, "platform", platform)
        assert recycling.resident_memory(mine.pid) == pytest.approx(mine.memory_info().rss, rel=0.2)
        check_readable()
    monkeypatch.setitem(sys.modules, "psutil", None)
    assert recycling.resident_memory(mine.pid) is None
    with pytest.raises(UsageError, match="pip install psutil"):
        check_readable()
