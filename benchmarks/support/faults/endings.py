"""Faults at the end of a process: it cannot exit, is not let go, or is told to end by what means something else.

Where a server has an option for what is looked at, it is given. Each calls its own by another name; one that has none
is tried without.
"""

from __future__ import annotations

import signal
import time
from contextlib import ExitStack, suppress
from pathlib import Path

from apps.broken import CHUNK

from support.faults.servers import (
    CLOSING,
    TIMEOUT,
    WORKERS,
    Launch,
    Load,
    Make,
    Running,
    Seen,
    ask,
    connect,
    eventually,
    flags_of,
    request,
    running,
    seconds_until,
)

LIMIT = "60"
LIMITS = {
    "duallisten": ("--limit-max-requests", LIMIT),
    "uvicorn": ("--limit-max-requests", LIMIT),
    "gunicorn, uvicorn worker": ("--max-requests", LIMIT),
    "hypercorn": ("--max-requests", LIMIT),
}
"""How each calls the requests after which a worker is replaced."""

NO_LIMIT = Seen("has no such limit", False)


def recycled(make: Make) -> Seen:
    """Two workers are replaced after each 60 requests, under load, until ten have been."""
    if (flags := flags_of(make, LIMITS)) is None:
        return NO_LIMIT
    with running(make, *WORKERS, *flags) as server, Load(server.port) as load:
        replaced = seconds_until(lambda: len(server.starts()) >= 12, within=60)
    told = f"{load.told}, slowest {load.slowest:.1f} s"
    if replaced is None:
        return Seen(f"{told}; not replaced so often", False)
    return Seen(told, not load.failures)


STUCK_SECONDS = 60.0
"""In which a worker that cannot exit must be gone: a graceful time of 30 s, and as long again."""


def stuck_at_limit(make: Make) -> Seen:
    """Both workers reach their limit, and a thread of the application keeps them from exiting."""
    if (flags := flags_of(make, LIMITS)) is None:
        return NO_LIMIT
    with running(make, *WORKERS, *flags, how=Launch(fault="stuck")) as server:
        first = server.starts()[:2]
        with Load(server.port) as load:
            replaced = seconds_until(lambda: len(server.starts()) >= 4, within=20)
        answers = ask(server.port) is not None
        gone = seconds_until(lambda: not any(map(_lives, first)), within=STUCK_SECONDS)
    again = "not replaced" if replaced is None else f"replaced after {replaced:.0f} s"
    left = "they stay" if gone is None else "they are ended"
    fact = f"{load.told}, {again}, {left}{'' if answers else ', no answer'}"
    return Seen(fact, answers and replaced is not None and gone is not None and not load.failures)


def stuck_at_end(make: Make) -> Seen:
    """SIGTERM comes, and a thread of the application keeps both workers from exiting."""
    with running(make, *WORKERS, how=Launch(fault="stuck")) as server:
        workers = server.starts()
        begin = time.monotonic()
        server.signal(signal.SIGTERM)
        ended = seconds_until(lambda: server.process.poll() is not None, within=STUCK_SECONDS)
        left = sum(map(_lives, workers))
    took = f"ends after {time.monotonic() - begin:.0f} s" if ended is not None else "does not end"
    return Seen(f"{took}, {left} of 2 workers left" if left else took, ended is not None and not left)


def _lives(process: int) -> bool:
    return _state(process) not in ("", "Z")


def _state(process: int) -> str:
    """Return the state of a process (the third field of its stat, proc(5)): `Z` for a zombie, empty for none."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


RELOAD_SECONDS = 20.0


def reload_amid_streams(make: Make) -> Seen:
    """SIGHUP comes while four clients read streams without an end: until both workers are new ones."""
    with running(make, *WORKERS) as server, ExitStack() as stack:
        before = set(server.starts())
        for _ in range(4):
            client = stack.enter_context(connect(server.port))
            client.sendall(request("/stream"))
            client.recv(1 << 16)
        server.signal(signal.SIGHUP)
        new = seconds_until(lambda: len(set(server.starts()) - before) >= 2, within=RELOAD_SECONDS)
        if server.process.poll() is not None:
            return Seen("ends at the SIGHUP", False)
        answers = [ask(server.port) for _ in range(20)]
        fails = answers.count(None)
    when = f"not both new in {RELOAD_SECONDS:.0f} s" if new is None else f"both new after {new:.1f} s"
    return Seen(f"{when}, {fails} of 20 requests fail" if fails else when, new is not None and not fails)


CUT_SECONDS = 60.0


def end_amid_stalled_clients(make: Make) -> Seen:
    """SIGTERM comes while one client sends no body that it has announced, and one reads nothing of a large answer."""
    with running(make) as server, connect(server.port) as sender, connect(server.port) as reader:
        sender.sendall(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nx")
        reader.sendall(request("/big"))
        reader.recv(len(CHUNK))
        code, took = server.end(CUT_SECONDS)
        ended = server.process.poll() is not None
    return Seen(f"{code} after {took:.0f} s" if ended else f"not ended after {took:.0f} s", ended)


STALLS = {
    "duallisten": ("--timeout-worker-stall", "3"),
    "gunicorn, uvicorn worker": ("--timeout", "3"),
    "uvicorn": ("--timeout-worker-healthcheck", "3"),
}
"""How each calls the time after which a worker that does nothing is killed."""

BLOCKED_SECONDS = 20.0


def loop_blocked(make: Make) -> Seen:
    """A handler blocks the event loop of one of two workers for good."""
    with running(make, *WORKERS, *(flags_of(make, STALLS) or ())) as server, connect(server.port) as client:
        client.sendall(request("/block"))
        replaced = seconds_until(lambda: len(server.starts()) > 2, within=BLOCKED_SECONDS)
        stacks = "broken.py" in server.output
        answered = sum(ask(server.port, timeout=1) is not None for _ in range(10))
    when = f"not replaced in {BLOCKED_SECONDS:.0f} s" if replaced is None else f"replaced after {replaced:.0f} s"
    fact = f"{when}{', stacks in the log' if stacks else ''}, then {answered} of 10 answered"
    return Seen(fact, replaced is not None and answered == 10)


IN_A_CONTAINER = 'exec unshare --pid --fork --kill-child --mount-proc "$@"'


def process_1(make: Make) -> Seen:
    """It is process 1 of a container, and the application starts processes that lose their parent: zombies left."""
    how = Launch(shell=IN_A_CONTAINER)
    with running(make, how=how) as server:
        asked = ask(server.port, "/orphans") is not None
        time.sleep(0.5)  # until they have ended
        reaped = eventually(lambda: _zombies(server) == 0, within=5)
        left = _zombies(server)
    return Seen(f"{left} zombies" if left else "no zombie", asked and reaped)


def _zombies(server: Running) -> int:
    return sum(_state(process) == "Z" for process in server.family())


OTHER_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGQUIT)


def other_signals(make: Make) -> Seen:
    """SIGUSR1, SIGUSR2 and SIGQUIT come, each amid a request of a second: whether it is answered."""
    lost = []
    for number in OTHER_SIGNALS:
        with running(make) as server, connect(server.port) as client:
            client.sendall(request("/slow", CLOSING))
            time.sleep(0.3)
            server.signal(number)
            client.settimeout(TIMEOUT)
            with suppress(OSError):
                if client.recv(1 << 16).startswith(b"HTTP/1.1 200"):
                    continue
            lost.append(number.name)
    return Seen(f"lost at {', '.join(lost)}" if lost else "answered", not lost)


def end_fails_in_workers(make: Make) -> Seen:
    """The shutdown raises in both workers: it is told, and the exit code says so."""
    with running(make, *WORKERS, how=Launch(fault="end")) as server:
        code, took = server.end()
        told = "the shutdown fails" in server.output
        good = told and (server.process.poll() or 0) > 0
    return Seen(f"{code} after {took:.1f} s, {'logged' if told else 'not a word'}", good)


LINGERS = {"duallisten": ("--public-linger", "3")}
LATE_SECONDS = 2.0


def late_balancer(make: Make) -> Seen:
    """SIGTERM comes, and a balancer goes on sending new connections for 2 s, until it has heard of it."""
    with running(make, *(flags_of(make, LINGERS) or ())) as server:
        with Load(server.port) as load:
            time.sleep(0.3)
            server.signal(signal.SIGTERM)
            time.sleep(LATE_SECONDS)
        server.exit_code(TIMEOUT)
    return Seen(load.told, not load.failures)
