"""Faults of processes: workers and supervisors that are killed, stopped or replaced, and applications that fail."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress

from support.faults.servers import (
    CLIENTS,
    CLOSING,
    WORKERS,
    Launch,
    Load,
    Make,
    Running,
    Seen,
    ask,
    connect,
    eventually,
    exchange,
    process_of,
    request,
    running,
    seconds_until,
)
from support.measuring import PATIENCE

HUNG_SECONDS = 40
CRASH_SECONDS = 10
RELOADS = 10


def worker_killed(make: Make) -> Seen:
    """One of two is killed under load."""
    with running(make, *WORKERS) as server, Load(server.port) as load:
        time.sleep(0.5)
        os.kill(server.starts()[0], signal.SIGKILL)
        replaced = seconds_until(lambda: len(server.starts()) > 2, within=10)
        time.sleep(0.5)
    again = "not replaced" if replaced is None else f"replaced after {replaced:.1f} s"
    return Seen(f"{load.told}, {again}", load.failures <= CLIENTS and replaced is not None)


def worker_hung(make: Make) -> Seen:
    """One of two is stopped under load; clients give up after 5 s. Until it has been replaced, at most 40 s."""
    with running(make, *WORKERS) as server, Load(server.port) as load:
        time.sleep(0.5)
        os.kill(server.starts()[0], signal.SIGSTOP)
        replaced = seconds_until(lambda: len(server.starts()) > 2, HUNG_SECONDS)
        time.sleep(0.5)
    again = f"not replaced in {HUNG_SECONDS} s" if replaced is None else f"replaced after {replaced:.0f} s"
    return Seen(f"{load.told}, {again}", load.failures <= CLIENTS and replaced is not None)


def supervisor_killed(make: Make) -> Seen:
    """Whether the workers end, and leave the port to the next launch."""
    with running(make, *WORKERS) as server:
        server.signal(signal.SIGKILL)
        server.process.wait()
        free = seconds_until(lambda: _is_free(server.port), within=10)
        if free is not None:
            return Seen(f"the port is free after {free:.1f} s", True)
        answers = "answer" if ask(server.port) else "do not answer"
        return Seen(f"orphans keep the port, and {answers}", False)


def _is_free(port: int) -> bool:
    with suppress(OSError):
        socket.create_server(("127.0.0.1", port)).close()
        return True
    return False


def crash_loop(make: Make) -> Seen:
    """Both workers are killed, and their successors die 50 ms after each start."""
    with running(make, *WORKERS, how=Launch(fault="crash")) as server:
        (server.folder / "crash").touch()
        before = server.starts()
        for worker in before:
            os.kill(worker, signal.SIGKILL)
        begin = time.monotonic()
        server.exit_code(CRASH_SECONDS / 2)
        half = len(server.starts())
        code = server.exit_code(CRASH_SECONDS / 2)
        took, first, second = time.monotonic() - begin, half - len(before), len(server.starts()) - half
        if server.process.poll() is not None:
            return Seen(f"ends after {took:.1f} s, {code}, {first + second} restarts", server.process.returncode > 0)
    return Seen(f"{first} restarts, then {second}", 0 < first >= 2 * second)


def reload_storm(make: Make) -> Seen:
    """SIGHUP ten times under load, each as soon as the last has brought a new worker."""
    with running(make, *WORKERS) as server, Load(server.port) as load:
        for number in range(RELOADS):
            time.sleep(0.2)
            if server.process.poll() is not None:
                break
            server.signal(signal.SIGHUP)
            eventually(lambda number=number: len(server.starts()) >= 2 + 2 * (number + 1), within=5)  # type: ignore[misc]
        time.sleep(0.5)
        lives = server.process.poll() is None
    if not lives:
        return Seen("ends at the first SIGHUP", False)
    return Seen(f"{load.told}, slowest {load.slowest:.1f} s", not load.failures)


# --- Applications ---


def fails_to_start(make: Make, fault: str, *flags: str) -> Seen:
    """The import or the start raises: whether it ends, with what code, and after how many seconds."""
    with running(make, *flags, how=Launch(fault=fault, answers=False)) as server:
        begin = time.monotonic()
        code = server.exit_code(PATIENCE / 2)
        took = time.monotonic() - begin
        if server.process.poll() is None:
            return Seen(f"goes on trying for {PATIENCE / 2:.0f} s, {_lines(server)}", False)
        return Seen(f"{code} after {took:.1f} s, {_lines(server)}", server.process.returncode > 0)


def import_fails(make: Make) -> Seen:
    return fails_to_start(make, "import")


def import_fails_in_workers(make: Make) -> Seen:
    return fails_to_start(make, "import", *WORKERS)


def start_fails(make: Make) -> Seen:
    return fails_to_start(make, "start")


def start_fails_in_workers(make: Make) -> Seen:
    return fails_to_start(make, "start", *WORKERS)


def _lines(server: Running) -> str:
    count = server.output.count("\n")
    return f"{count} line{'s' if count != 1 else ''}"


def end_fails(make: Make) -> Seen:
    """The shutdown raises: it is told, and the process ends."""
    with running(make, how=Launch(fault="end")) as server:
        code, took = server.end()
        told = "the shutdown fails" in server.output
    return Seen(f"{code} after {took:.1f} s, {'logged' if told else 'not a word'}", told and took < PATIENCE)


def handler_fails(make: Make) -> Seen:
    """A handler raises amid its answer: the client sees that, and the process goes on."""
    with running(make) as server:
        before = ask(server.port)
        answer = exchange(server.port, request("/cut"))
        whole = answer.endswith(b"0\r\n\r\n") or b"transfer-encoding: chunked" not in answer.lower()
        after = ask(server.port)
    lives = None not in (before, after) and process_of(before or b"") == process_of(after or b"")
    fact = f"{'taken for whole' if whole else 'seen to be cut'}, {'goes on' if lives else 'does not go on'}"
    return Seen(fact, lives and not whole)


def request_in_hand(make: Make) -> Seen:
    """SIGTERM comes while a request of a second is in hand, beside an idle connection."""
    with running(make) as server, connect(server.port) as busy, connect(server.port) as idle:
        idle.sendall(request())
        idle.recv(1 << 16)
        busy.sendall(request("/slow", CLOSING))
        time.sleep(0.3)
        code, took = server.end()
        answered = busy.recv(1 << 16).startswith(b"HTTP/1.1 200")
    return Seen(f"{'answered' if answered else 'lost'}, {code} after {took:.1f} s", answered and took < PATIENCE)
