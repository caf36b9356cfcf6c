"""What a server stands on gives way: its private address, its output, the clock."""

from __future__ import annotations

import ast
import fcntl
import re
import subprocess
import sys
import termios
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

import duallisten
from tests.faults.serving import FAULTY, FOUND, ask_over, faulty, request, workers
from tests.netns.conftest import network
from tests.netns.topology import PRIVATE, PUBLIC, Topology
from tests.netns.visits import visit, visits
from tests.support.running import DEADLINE, DUALLISTEN, FREE, ask, connect, eventually, free_environment, launched

__all__ = ["network"]

WORKERS = pytest.mark.parametrize("more", [(), ("--workers", "2")], ids=["alone", "workers"])


# --- The private address ---


@WORKERS
def test_a_private_address_that_goes_and_comes_back_is_served_again(more: tuple[str, ...], network: Topology) -> None:
    server = network.serve(*more)
    assert visit(network.neighbour, PRIVATE, 9240).side == "private"
    network.container.ip(f"addr del {PRIVATE}/22 dev eth1")
    assert visit(network.router, PUBLIC, 5000).side == "public"
    if more:  # a worker that is replaced meanwhile serves both sides, too
        max(workers(server.process), key=lambda worker: worker.pid).kill()
        server.wait_for("Application startup complete", count=3)
    network.container.ip(f"addr add {PRIVATE}/22 dev eth1")
    seen = visits(network.neighbour, PRIVATE, 9240, 20)
    assert {one.side for one in seen} == {"private"}
    assert visit(network.router, PUBLIC, 5000).side == "public"


# --- The output ---


@WORKERS
def test_the_output_s_reader_may_go(more: tuple[str, ...], tmp_path: Path) -> None:
    """Standard output and standard error are the same broken pipe."""
    process, urls = start([*DUALLISTEN, FAULTY, *more, *FREE], tmp_path)
    try:
        assert process.stdout is not None
        process.stdout.close()
        for url in urls * 50:
            assert ask(url).startswith(b"HTTP/1.1 200 ")
        if more:
            victim = workers(process)[0]
            victim.kill()
            assert eventually(lambda: len(workers(process)) == 2 and victim not in workers(process))
            assert ask(urls[0]).startswith(b"HTTP/1.1 200 ")
        process.terminate()
        assert process.wait(DEADLINE) == (0 if more else -15)
    finally:
        process.kill()
        process.wait()


CLOSED = ["sh", "-c", 'exec "$@" <&- >&-', "sh"]
"""Runs a command without a standard input and output."""


@WORKERS
def test_a_standard_output_that_is_closed_takes_nothing_from_a_launch(more: tuple[str, ...], tmp_path: Path) -> None:
    """Nor does a socket come into its place, into which the application would print."""
    with launched(FAULTY, *more, *FREE, command=[*CLOSED, *DUALLISTEN], cwd=tmp_path, environ=FOUND) as server:
        with connect(server.url("public")) as idle, connect(server.url("private")) as other:
            assert ask_over(idle) and ask_over(other)
            serving = workers(server.process) or [psutil.Process(server.process.pid)]
            for process in serving:
                assert [Path(f"/proc/{process.pid}/fd/{number}").readlink() for number in (0, 1)] == [
                    Path("/dev/null")
                ] * 2
            assert server.end() == (0 if more else -15)
        assert server.output.count("Application shutdown complete") == len(serving)


SERVERS = {
    "duallisten": [*DUALLISTEN, FAULTY, *FREE],
    "uvicorn": [sys.executable, "-m", "uvicorn", FAULTY, "--port", "0"],
}
REQUESTS = 300


@pytest.mark.parametrize("server", SERVERS)
def test_while_nobody_reads_the_access_log_requests_wait_and_none_is_lost(server: str, tmp_path: Path) -> None:
    """uvicorn is the yardstick: a full pipe holds up both, until it is read."""
    log = tmp_path / "log"
    with log.open("w") as errors:
        process, _ = start(SERVERS[server], tmp_path, errors=errors.fileno(), sides=0)
    try:
        assert process.stdout is not None
        size = fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        assert eventually(lambda: re.search(r" on (http://\S+:\d+) .*(process|Press)", log.read_text()) is not None)
        urls = re.findall(r" on (http://\S+:\d+) ", log.read_text())
        with connect(urls[-1]) as connection:
            connection.sendall(request("/") * REQUESTS)
            assert eventually(lambda: waiting(process) > size - 200)
            lines = 0
            while lines < REQUESTS:
                line = process.stdout.readline()
                assert line, "the output ended"
                lines += "200 OK" in line
            answers = b""
            while answers.count(b"HTTP/1.1 200 ") < REQUESTS:
                data = connection.recv(1 << 16)
                assert data, "the connection ended"
                answers += data
        process.terminate()
        assert process.wait(DEADLINE) == -15
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def start(
    command: Sequence[str], cwd: Path, *, errors: int = subprocess.STDOUT, sides: int = 2
) -> tuple[subprocess.Popen[str], list[str]]:
    """Start a server whose output is a pipe that nobody reads; gives what it said about `sides` of its listeners."""
    environ = free_environment(FOUND)
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, cwd=cwd, env=environ)
    assert process.stdout is not None
    urls: list[str] = []
    while len(urls) < sides:
        line = process.stdout.readline()
        assert line, "it ended"
        urls += re.findall(r"Serving the \w+ side on (http://\S+)", line)
    return process, urls


def waiting(process: subprocess.Popen[str]) -> int:
    """Tell how many bytes are in a pipe that nobody reads."""
    assert process.stdout is not None
    return int.from_bytes(fcntl.ioctl(process.stdout, termios.FIONREAD, bytes(4)), sys.byteorder)


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
        workers(server.process)[0].kill()
        server.wait_for("Application startup complete", count=3)
        assert eventually(lambda: len(workers(server.process)) == 2)
        assert date_in(ask(url)) != today
        assert server.end() == 0


def date_in(answer: bytes) -> bytes:
    """Give the day that an answer is dated to."""
    found = re.search(rb"date: (\w+, \d+ \w+ \d+)", answer)
    assert found is not None
    return found[1]


DATES = frozenset({"formatdate"})
"""What reads the wall clock in order to show it; `logs` does so for the rest."""

WALL_CLOCK = re.compile(r"time|time_ns|ctime|localtime|gmtime|strftime|now|utcnow|today|clock_gettime")


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
