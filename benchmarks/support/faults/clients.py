"""Faults of clients: they read slowly, send nothing, do not come to an end, contradict themselves, or are many."""

from __future__ import annotations

import resource
import select
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from apps.broken import CHUNK, CHUNKS

from support.faults.servers import Make, Running, Seen, ask, connect, eventually, request, running

MIB = 1 << 20


def resident(server: Running) -> float:
    """Memory of all its processes, in MiB: the sum of what each has resident (VmRSS, proc(5))."""
    pages = (int(Path(f"/proc/{pid}/statm").read_text().split()[1]) for pid in server.family())
    return sum(pages) * resource.getpagesize() / MIB


def descriptors(server: Running) -> int:
    """How many descriptors all its processes have open."""
    return sum(len(list(Path(f"/proc/{pid}/fd").iterdir())) for pid in server.family())


def slowest(port: int, times: int = 50) -> float | None:
    """Milliseconds of the slowest of some answers; None where one fails."""
    took = 0.0
    for _ in range(times):
        begin = time.monotonic()
        if ask(port) is None:
            return None
        took = max(took, time.monotonic() - begin)
    return took * 1e3


def told_slowest(milliseconds: float | None) -> str:
    return "others fail" if milliseconds is None else f"others wait {milliseconds:.0f} ms at most"


READERS = 20


def slow_readers(make: Make) -> Seen:
    """Twenty clients ask for 50 MiB each and read nothing."""
    with running(make) as server, ExitStack() as stack:
        ask(server.port)
        before = resident(server)
        for _ in range(READERS):
            reader = stack.enter_context(socket.socket())
            reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            reader.connect(("127.0.0.1", server.port))
            reader.sendall(request("/big"))
        time.sleep(1)
        others = slowest(server.port)
        growth = resident(server) - before
    good = others is not None and growth < READERS * CHUNKS * len(CHUNK) / MIB / 10
    return Seen(f"{growth:.1f} MiB, {told_slowest(others)}", good)


IDLE = 10_000


def idle_connections(make: Make, count: int = IDLE) -> Seen:
    """Ten thousand connections send nothing: memory of each, and whether others are answered."""
    with running(make) as server, ExitStack() as stack:
        ask(server.port)
        before = resident(server)
        opened = 0
        with suppress(OSError):
            for _ in range(count):
                stack.enter_context(connect(server.port))
                opened += 1
        others = [slowest(port, 20) for port in server.ports]
        growth = resident(server) - before
    worst = None if None in others else max(value for value in others if value is not None)
    fact = f"{opened:,} open, {growth * 1024 / max(1, opened):.1f} KiB each, {told_slowest(worst)}"
    return Seen(fact, opened == count and worst is not None)


PATIENT_SECONDS = 35.0


def silent_connection(make: Make) -> Seen:
    """One sends nothing, one a byte of a head each second: when they are closed, within 35 s."""
    with running(make) as server, connect(server.port) as silent, connect(server.port) as slow:
        begin = time.monotonic()
        closed: dict[str, float] = {}
        slow.sendall(b"GET / HTTP/1.1\r\nX: ")
        while len(closed) < 2 and (now := time.monotonic() - begin) < PATIENT_SECONDS:
            for name, client in (("silent", silent), ("slow", slow)):
                if name not in closed and _is_closed(client):
                    closed[name] = now
            with suppress(OSError):
                slow.sendall(b"x")
            time.sleep(1)
    when = {name: f"after {seconds:.0f} s" for name, seconds in closed.items()}
    fact = ", ".join(f"{name} {when.get(name, 'never')}" for name in ("silent", "slow"))
    return Seen(fact, len(closed) == 2)


def _is_closed(client: socket.socket) -> bool:
    if not select.select([client], [], [], 0)[0]:
        return False
    with suppress(ConnectionError):
        return client.recv(1 << 16) == b""
    return True


ENDLESS = 64 * MIB


def endless_head(make: Make) -> Seen:
    """A head of 64 MiB: after how many bytes it is refused, and what memory it takes."""
    with running(make) as server, connect(server.port) as client:
        ask(server.port)
        before, sent, most = resident(server), 0, 0.0
        client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nX: ")
        with suppress(OSError):
            while sent < ENDLESS and not _is_closed(client):
                sent += client.send(b"x" * (1 << 16))
                if sent % MIB == 0:
                    most = max(most, resident(server) - before)
        lives = ask(server.port) is not None
    told = f"not refused, {most:.0f} MiB" if sent >= ENDLESS else f"refused after {max(1, sent >> 10):,} KiB or less"
    return Seen(told if lives else f"{told}, no answer to others", lives and sent < MIB * 8)


# --- Requests with two readings ---

HIDDEN = request("/cut")
"""A request that hides in the body of another; what it answers tells whether it was taken for one."""


def length_and_chunks(make: Make) -> Seen:
    """A length that covers another request, together with chunks that do not."""
    fields = b"Transfer-Encoding: chunked\r\nContent-Length: %d\r\n" % (len(HIDDEN) + 5)
    return _two_readings(make, b"POST / HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n0\r\n\r\n" + HIDDEN)


def two_lengths(make: Make) -> Seen:
    """Two lengths, of which one covers another request and one does not."""
    fields = b"Content-Length: 0\r\nContent-Length: %d\r\n" % len(HIDDEN)
    return _two_readings(make, b"POST / HTTP/1.1\r\nHost: localhost\r\n" + fields + b"\r\n" + HIDDEN)


def _two_readings(make: Make, data: bytes) -> Seen:
    with running(make) as server:
        answer = b""
        with connect(server.port, timeout=2) as client, suppress(OSError):
            client.sendall(data)
            while more := client.recv(1 << 16):
                answer += more
    found = [line.split()[1].decode() for line in answer.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
    if b"a part" in answer:
        return Seen("the hidden request is answered", False)
    return Seen(found[0] if found else "closed", found in ([], ["400"]))


# --- Many requests ---

SOAK, WARM_UP, CONNECTIONS = 200_000, 20_000, 16
CLOSE_SECONDS = 6.0
"""In which a server should have noticed that a client is gone; the longest keep-alive here is 5 s."""
MOST_GROWTH = 2.0
"""MiB that may be left of so many requests, after as many to warm up as a tenth of them."""


def soak(make: Make, requests: int = SOAK) -> Seen:
    """Two hundred thousand requests, over all listeners, each connection used for a hundred: what is left of them."""
    with running(make) as server:
        _send(server.ports, WARM_UP)
        time.sleep(CLOSE_SECONDS)
        idle, before = descriptors(server), resident(server)
        failed = _send(server.ports, requests)
        growth = resident(server) - before
        eventually(lambda: descriptors(server) <= idle, CLOSE_SECONDS)
        left = descriptors(server) - idle
    fact = f"{growth:+.1f} MiB, {left:+d} descriptors, {failed} failed"
    return Seen(fact, growth < MOST_GROWTH and left <= 0 and not failed)


def _send(ports: Sequence[int], requests: int) -> int:
    """Send so many requests; tell how many were not answered."""
    failed = 0
    for _ in range(-(-requests // (CONNECTIONS * 100))):
        with ExitStack() as stack:
            clients = [stack.enter_context(connect(ports[number % len(ports)])) for number in range(CONNECTIONS)]
            for _ in range(100):
                for client in clients:
                    client.sendall(request())
                failed += sum(not _is_answered(client) for client in clients)
    return failed


def _is_answered(client: socket.socket) -> bool:
    """Read one answer, which comes in one piece or in several."""
    answer = b""
    while not answer.partition(b"\r\n\r\n")[2].endswith(b"\n"):
        data = client.recv(4096)
        if not data:
            return False
        answer += data
    return answer.startswith(b"HTTP/1.1 200")
