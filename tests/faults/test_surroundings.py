"""What a server stands on gives way: its output, the clock."""

from __future__ import annotations

import ast
import fcntl
import os
import re
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import psutil
import pytest

import duallisten
from tests.faults.serving import FAULTY, ask_over, faulty, request
from tests.support.running import DUALLISTEN, FREE, Launched, ask, connect, eventually, launched

WORKERS = pytest.mark.parametrize("more", [(), ("--workers", "2")], ids=["alone", "workers"])


# --- The output ---


@WORKERS
def test_the_output_s_reader_may_go(more: tuple[str, ...], tmp_path: Path) -> None:
    """Standard output and standard error are the same broken pipe."""
    command = [*DUALLISTEN, FAULTY, *more, *FREE]
    reading, writing = os.pipe()
    with Launched(command, cwd=tmp_path, stdout=writing) as server:
        os.close(writing)
        urls: list[str] = []
        with os.fdopen(reading) as output:
            while len(urls) < 2:
                line = output.readline()
                assert line, "it ended"
                urls += re.findall(r"Serving the \w+ side on (http://\S+)", line)
        for url in urls * 50:
            assert ask(url).startswith(b"HTTP/1.1 200 ")
        if more:
            victim = server.workers[0]
            victim.kill()
            assert eventually(lambda: len(server.workers) == 2 and victim not in server.workers)
            assert ask(urls[0]).startswith(b"HTTP/1.1 200 ")
        assert server.end() == 0


CLOSED = ["sh", "-c", 'exec "$@" <&- >&-', "sh"]
"""Runs a command without a standard input and output."""


@WORKERS
def test_a_standard_output_that_is_closed_takes_nothing_from_a_launch(more: tuple[str, ...], tmp_path: Path) -> None:
    """Nor does a socket come into its place, into which the application would print."""
    with launched(FAULTY, *more, *FREE, command=[*CLOSED, *DUALLISTEN], cwd=tmp_path) as server:
        with connect(server.url("public")) as idle, connect(server.url("private")) as other:
            assert ask_over(idle) and ask_over(other)
            serving = server.workers or [psutil.Process(server.process.pid)]
            for process in serving:
                assert [Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in (0, 1)] == [
                    Path("/dev/null")
                ] * 2
            assert server.end() == 0
        assert server.output.count("Application shutdown complete") == len(serving)


SERVERS = {
    "duallisten": [*DUALLISTEN, FAULTY, *FREE],
    "uvicorn": [sys.executable, "-m", "uvicorn", FAULTY, "--port", "0"],
}
REQUESTS = 300


@pytest.mark.parametrize("server", SERVERS)
def test_while_nobody_reads_the_access_log_requests_wait_and_none_is_lost(server: str, tmp_path: Path) -> None:
    """uvicorn is the yardstick: a full pipe holds up both, until it is read."""
    reading, writing = os.pipe()
    size = fcntl.fcntl(reading, fcntl.F_SETPIPE_SZ, 4096)
    options: dict[str, Any] = {"stdout": writing, "stderr": subprocess.PIPE}
    with (
        os.fdopen(reading) as output,
        Launched(SERVERS[server], cwd=tmp_path, **options) as running,
    ):
        os.close(writing)
        url = running.wait_for(r" on (http://\S+:\d+) .*(process|Press)")[1]
        with connect(url) as connection:
            connection.sendall(request("/") * REQUESTS)
            assert eventually(lambda: waiting(reading) > size - 200)
            lines = 0
            while lines < REQUESTS:
                line = output.readline()
                assert line, "the output ended"
                lines += "200 OK" in line
            answers = b""
            while answers.count(b"HTTP/1.1 200 ") < REQUESTS:
                data = connection.recv(1 << 16)
                assert data, "the connection ended"
                answers += data
        assert running.end() == (0 if server == "duallisten" else -15)


def waiting(pipe: int) -> int:
    """Tell how many bytes are in a pipe that nobody reads."""
    return int.from_bytes(fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)), sys.byteorder)


# --- The clock ---

SET_BACK = """
import pathlib, time

real = time.time
time.time = lambda: real() - (86400 if pathlib.Path("set-back").exists() else 0)
"""
"""What every process imports at its start: a clock that can be set back by a day."""


def test_a_clock_that_is_set_back_disturbs_nobody(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SET_BACK)
    with faulty("--workers", "2", cwd=tmp_path, path=tmp_path) as server:
        url = server.url("private")
        with connect(url) as kept:
            today = date_in(ask_over(kept))
            (tmp_path / "set-back").touch()
            assert eventually(lambda: date_in(ask_over(kept)) != today)
        server.workers[0].kill()
        server.wait_for("Application startup complete", count=3)
        assert eventually(lambda: len(server.workers) == 2)
        assert date_in(ask(url)) != today
        assert server.end() == 0


def date_in(answer: bytes) -> bytes:
    """Give the day that an answer is dated to."""
    found = re.search(rb"date: (\w+, \d+ \w+ \d+)", answer)
    assert found is not None
    return found[1]


DATES = frozenset({"formatdate"})
"""What reads the wall clock in order to show it; `logs` does so for the rest."""

WALL_CLOCK = re.compile(r"time|time_ns|ctime|localtime|gmtime|strftime|now|utcnow|today|CLOCK_REALTIME|CLOCK_TAI")


@pytest.mark.parametrize("path", sorted(Path(duallisten.__file__).parent.rglob("*.py")), ids=lambda path: path.stem)
def test_no_decision_is_made_by_the_wall_clock(path: Path) -> None:
    """It can be set back, the monotonic clock and the event loop's cannot."""
    if path.stem == "logs":
        return
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert node.value.id not in ("time", "datetime") or not WALL_CLOCK.fullmatch(node.attr), node.lineno
        elif isinstance(node, ast.ImportFrom):
            assert node.module not in ("time", "datetime"), f"line {node.lineno}: imported whole, it can be seen here"
            assert node.module != "email.utils" or {name.name for name in node.names} <= DATES
