"""Under gunicorn: its processes and public sockets, both sides, one private port."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.running import Launched, eventually, launched

pytest.importorskip("gunicorn")


@contextmanager
def gunicorn(tmp_path: Path, *arguments: str, **environ: str) -> Iterator[Launched]:
    command: Sequence[str] = (sys.executable, "-m", "gunicorn", "-k", "duallisten.gunicorn.Worker", "-b", "127.0.0.1:0")
    environ |= {"HOME": str(tmp_path)}
    with launched(*arguments, command=command, cwd=tmp_path, environ=environ) as program:
        yield program


def test_gunicorn_s_workers_serve_both_sides_on_one_private_port(tmp_path: Path, free_port: int) -> None:
    options = {"DUALLISTEN_PRIVATE_PATHS": "/hidden", "DUALLISTEN_PRIVATE_PORT": str(free_port)}
    with gunicorn(tmp_path, "-w", "2", "--access-logfile", "-", "duallisten.demo:app", **options) as program:
        public = program.wait_for(r"Listening at: (http://\S+)")[1]
        program.wait_for("Serving the private side on", count=2)
        for url, side in ((public, "public"), (f"http://127.0.0.1:{free_port}", "private")):
            answers = [httpx.get(url).json() for _ in range(40)]
            assert {answer["side"] for answer in answers} == {side}
        assert eventually(lambda: len({httpx.get(url).json()["process"] for _ in range(40)}) == 2)
        assert httpx.get(f"{public}/hidden").text == "Not Found"
        program.wait_for(r'"GET / HTTP/1\.1" 200 \(private\)$')
        first = httpx.get(url).json()["process"]
        os.kill(first, signal.SIGKILL)
        program.wait_for("Serving the private side on", count=3)
        assert eventually(lambda: len({httpx.get(url).json()["process"] for _ in range(40)} - {first}) == 2)
        assert program.end() == 0
        assert "Traceback" not in program.output


@pytest.mark.parametrize(
    ("environ", "reason"),
    [
        ({"DUALLISTEN_PRIVATE_PORT": "http"}, "DUALLISTEN_PRIVATE_PORT http: must be a port"),
        ({"DUALLISTEN_PRIVATE_WORKERS": "1"}, "private-workers is for duallisten's own workers"),
        ({"DUALLISTEN_PRIVATE_HOST": "192.0.2.1"}, "192.0.2.1 is not an address of this host"),
    ],
)
def test_gunicorn_ends_where_a_worker_cannot_serve(environ: dict[str, str], reason: str, tmp_path: Path) -> None:
    with gunicorn(tmp_path, "duallisten.demo:app", **environ) as program:
        assert program.process.wait(30) == 3
        program.wait_for(reason)
        assert "Traceback" not in program.output
