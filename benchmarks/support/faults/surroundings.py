"""Faults of what a server stands on: its standard output, the clock, its file descriptors."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

from support.faults.servers import (
    INTERVAL,
    TIMEOUT,
    WORKERS,
    Launch,
    Load,
    Make,
    Running,
    Seen,
    ask,
    connect,
    request,
    running,
    seconds_until,
)
from support.measuring import cpu_seconds

# --- The output ---

LOGGED = 300
"""Requests that are more lines than a pipe of 4 KiB holds."""


def output_closed(make: Make) -> Seen:
    """Standard output is closed from the beginning, as by `>&-`."""
    with running(make, how=Launch(log=True, shell='exec "$@" >&-', answers=False)) as server:
        if seconds_until(lambda: server.process.poll() is not None or ask(server.port) is not None) is None:
            return Seen("does not answer", False)
        return _serves(server, f"does not start, exit {server.process.returncode}")


def reader_gone(make: Make) -> Seen:
    """Standard output and standard error are a pipe whose reader ends."""
    with _pipe() as (reader, writer), running(make, how=Launch(log=True, output=writer)) as server:
        os.close(reader)
        os.close(writer)
        return _serves(server, "ends")


def _serves(server: Running, otherwise: str) -> Seen:
    answers = sum(ask(server.port) is not None for _ in range(50)) if server.process.poll() is None else 0
    if server.process.poll() is not None:
        return Seen(otherwise, False)
    code, took = server.end(TIMEOUT)
    return Seen(f"{answers} of 50 answered, then {code}", answers == 50 and took < TIMEOUT)


def pipe_full(make: Make) -> Seen:
    """Standard output is a pipe that nobody reads for 3 s; then it is read."""
    with _pipe() as (reader, writer), running(make, how=Launch(log=True, output=writer)) as server:
        os.close(writer)
        fcntl.fcntl(reader, fcntl.F_SETPIPE_SZ, 4096)
        with connect(server.port) as client:
            client.sendall(request() * LOGGED)
            meanwhile = _answers(client.fileno(), 3, reader=None)
            after = _answers(client.fileno(), 3, reader=reader, enough=LOGGED - meanwhile)
        os.close(reader)
    fact = f"{meanwhile} of {LOGGED} answered meanwhile, {meanwhile + after} when it was read"
    return Seen(fact, meanwhile + after == LOGGED)


def _answers(client: int, seconds: float, *, reader: int | None, enough: int = LOGGED) -> int:
    """Count the answers of so many seconds, while the pipe is read or is not."""
    count, deadline = 0, time.monotonic() + seconds
    watched = [client] if reader is None else [client, reader]
    while count < enough and (left := deadline - time.monotonic()) > 0:
        for ready in select.select(watched, [], [], left)[0]:
            data = os.read(ready, 1 << 16)
            count += data.count(b"HTTP/1.1 200") if ready == client else 0
            if not data:
                watched.remove(ready)
    return count


@contextmanager
def _pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    try:
        yield reader, writer
    finally:
        for end in (reader, writer):
            try:
                os.close(end)
            except OSError:  # it is closed already, by the fault itself
                continue


# --- The clock ---

SET_BACK = """
import os, time

real, mark = time.time, os.path.join(os.environ["FOLDER"], "set-back")
time.time = lambda: real() - (86400 if os.path.exists(mark) else 0)
"""
"""What every process imports at its start. The clock is Python's: the machine's own is not touched."""


def clock_set_back(make: Make) -> Seen:
    """`time.time()` goes back by a day under load, and a worker is killed then."""
    with TemporaryDirectory() as name:
        (Path(name) / "sitecustomize.py").write_text(SET_BACK)
        how = Launch(variables=(("PYTHONPATH", name),))
        with running(make, *WORKERS, how=how) as server, Load(server.port) as load:
            time.sleep(0.5)
            (server.folder / "set-back").touch()
            time.sleep(1)
            before = load.failures
            if server.process.poll() is None:
                os.kill(server.starts()[0], signal.SIGKILL)
            replaced = seconds_until(lambda: len(server.starts()) > 2)
    again = "is not replaced" if replaced is None else "is replaced"
    return Seen(f"{before} failed, a killed worker {again}", not before and replaced is not None)


# --- Descriptors ---

DESCRIPTORS, HELD = 256, 400
HELD_SECONDS = 3.0


def no_descriptors(make: Make) -> Seen:
    """With 256 descriptors 400 connections are held for 3 s: log, CPU, and when it answers after they are gone."""
    with running(make, how=Launch(shell=f'ulimit -n {DESCRIPTORS}; exec "$@"')) as server:
        lines, cpu = server.output.count("\n"), cpu_seconds(server.process.pid)
        with ExitStack() as stack:
            with suppress(TimeoutError):  # where the kernel's queue is short, fewer are held
                for _ in range(HELD):
                    stack.enter_context(connect(server.port, timeout=1))
            private = len(server.ports) > 1 and ask(server.ports[1]) is not None
            time.sleep(HELD_SECONDS)
            lines = server.output.count("\n") - lines
            share = (cpu_seconds(server.process.pid) - cpu) / HELD_SECONDS
        took = seconds_until(lambda: ask(server.port, timeout=1) is not None, within=10)
    again = "not again in 10 s" if took is None else f"again {_short(took)}"
    aside = ", private side answers meanwhile" if private else ""
    return Seen(
        f"{again}; {lines} lines logged, {share:.0%} CPU{aside}", took is not None and lines < 20 and share < 0.5
    )


def _short(seconds: float) -> str:
    return "at once" if seconds < 5 * INTERVAL else f"after {seconds:.1f} s"
