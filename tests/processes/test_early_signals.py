"""Signals that come before a process of a launch acts on them."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from tests.support.running import FREE, ROOT, launched, run

DEMO = "duallisten.demo:app"

MEANT = ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGQUIT")
STOPPING = ("SIGTTIN", "SIGTTOU")
"""Only a supervisor gives them a meaning."""


def command(*names: str) -> list[str]:
    """The command, which is sent these signals when it has read its configuration."""
    return [sys.executable, "-c", COMMAND, *names]


COMMAND = """
import os, signal, sys
from duallisten.__main__ import main
from duallisten.processes import launch

def plan(*given, real=launch.await_plan):
    for name in names:
        os.kill(os.getpid(), getattr(signal, name))
    return real(*given)

names = [name for name in sys.argv if name.startswith("SIG")]
sys.argv = [name for name in sys.argv if name not in names]
launch.await_plan = plan
main()
"""

WORKER = f"""
import os, signal, sys
if "--multiprocessing-fork" in sys.argv:
    for name in {MEANT}:
        os.kill(os.getpid(), getattr(signal, name))
"""
"""The `sitecustomize` of a worker that is sent them before any line of ours runs there."""


@pytest.mark.parametrize("more", [(), ("--preload",)], ids=["spawned", "preload"])
def test_a_supervisor_ignores_them(more: tuple[str, ...]) -> None:
    with launched(DEMO, "--workers", "2", *more, *FREE, command=command(*MEANT, *STOPPING)) as server:
        server.url("public")
        assert "Received SIGHUP" not in server.output
        assert len(server.workers) == 2
        server.send(signal.SIGHUP)
        server.wait_for("Finished server process", count=2)
        assert server.end() == 0


def test_a_single_process_ends_by_sighup_as_it_does_when_it_serves() -> None:
    with launched(DEMO, *FREE, command=command(*MEANT)) as server:
        assert server.wait() == 0
        assert "Application shutdown complete" in server.output


def test_a_worker_that_is_spawned_ignores_them(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(WORKER)
    (tmp_path / "launch.py").write_text(
        "import duallisten\n"
        "if __name__ == '__main__':\n"
        f"    duallisten.run({DEMO!r}, workers=2, port=0, private_port=0)\n"
    )
    environ = {"PYTHONPATH": f"{tmp_path}:{ROOT}"}
    with launched(command=[sys.executable, "launch.py"], cwd=tmp_path, environ=environ) as server:
        server.url("public")
        assert server.output.count("Started server process") == 2
        assert server.end() == 0


def test_a_process_that_the_application_starts_is_sent_them_all(tmp_path: Path) -> None:
    """None of them is blocked there."""
    (tmp_path / "shop.py").write_text(
        "import subprocess, sys\n"
        "blocked = 'b\"blocked: %a\\\\n\" % sorted(signal.pthread_sigmask(signal.SIG_BLOCK, []))'\n"
        "line = f'import os, signal; os.write(1, {blocked})'\n"  # one write: two workers write at the same time
        "subprocess.run([sys.executable, '-c', line], check=True)\n"
        "from duallisten.demo import app\n"
    )
    for more in ((), ("--workers", "2"), ("--workers", "2", "--preload"), ("--reload",)):
        with launched("shop:app", *more, *FREE, cwd=tmp_path) as server:
            server.wait_for(r"^blocked: \[\]$")
            server.url("public")
            assert server.end() == 0
    assert "blocked: []" in run("shop:app", "--check", cwd=tmp_path).stdout
