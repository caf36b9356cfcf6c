"""What the private side suffers when the public one is busy or blocked, and how connections spread over workers.

The probe is one client on the client's core, which sends a request over its keep-alive connection, waits for the
answer, pauses, and sends the next. Its times hold all that delays a neighbour: the server's event loop and the
scheduler, which gives the one core of all the server's processes to one and the other in turns.
"""

from __future__ import annotations

import socket
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from statistics import quantiles

from apps.busy import BLOCK_SECONDS

from support.contenders import Contender, serving
from support.measuring import Cores, pinned

BUSY_CLIENTS = 64
PROBE_SECONDS = 10.0
PROBE_PAUSE = 0.01
"""Seconds between an answer and the next request of the probe."""

WORKERS, BALANCED_CONNECTIONS = 4, 200
TIMEOUT = 60.0


class Probe:
    """A keep-alive connection that measures how long an answer takes."""

    def __init__(self, port: int, path: str = "/") -> None:
        self.connection = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT)
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()

    def ask(self) -> bytes:
        """Send a request, and give the body of the answer."""
        self.connection.sendall(self.request)
        return self.read()

    def read(self) -> bytes:
        """Read one answer; gives its body."""
        received = b""
        while b"\r\n\r\n" not in received:
            received += self._more()
        head, _, body = received.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
        while len(body) < int(fields[b"content-length"]):
            body += self._more()
        return body

    def _more(self) -> bytes:
        data = self.connection.recv(65536)
        if not data:
            raise ConnectionError("the server has closed the probe's connection")
        return data

    def time(self) -> float:
        """Give the milliseconds that one answer takes."""
        begin = time.perf_counter()
        self.ask()
        return (time.perf_counter() - begin) * 1e3

    def times(self, seconds: float) -> list[float]:
        """Ask for so long, with pauses; gives the milliseconds of each answer."""
        times = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            times.append(self.time())
            time.sleep(PROBE_PAUSE)
        return times


@contextmanager
def busy(port: int, cores: Cores, seconds: int) -> Iterator[subprocess.Popen[bytes]]:
    """Load `/busy` of a listener meanwhile."""
    arguments = ("wrk", "-t1", f"-c{BUSY_CLIENTS}", f"-d{seconds}s", "--timeout", "30s")
    with pinned(cores.clients):
        clients = subprocess.Popen((*arguments, f"http://127.0.0.1:{port}/busy"), stdout=subprocess.DEVNULL)
    try:
        yield clients
    finally:
        clients.terminate()
        clients.wait()


def probe_while_busy(contender: Contender, public: int, cores: Cores) -> list[float]:
    """Give the milliseconds that each answer to the probe takes while the public side is busy.

    public: the port that is kept busy; the probe asks the contender's own
    """
    with serving(contender, cores), pinned(cores.clients):
        probe = Probe(contender.loaded)
        probe.ask()
        with busy(public, cores, 60):
            time.sleep(1)
            return probe.times(PROBE_SECONDS)


def p99(times: list[float]) -> float:
    """Give the 99th percentile."""
    return quantiles(times, n=100, method="inclusive")[98]


def probe_while_blocked(contender: Contender, public: int, cores: Cores) -> float:
    """Give the milliseconds of the slowest answer to the probe while a public handler blocks its loop."""
    with serving(contender, cores), pinned(cores.clients):
        probe = Probe(contender.loaded)
        probe.ask()
        blocking = threading.Thread(target=Probe(public, "/block").ask)
        blocking.start()
        slowest = max(probe.times(BLOCK_SECONDS / 2))
        blocking.join()
        return slowest


def shares(contender: Contender, cores: Cores, rounds: int) -> list[list[int]]:
    """Open connections, ask over each; give how many each process has, the most first, in each round."""
    found = []
    with serving(contender, cores), pinned(cores.clients):
        time.sleep(1)  # until every worker accepts
        for _ in range(rounds):
            with ExitStack() as stack:
                probes = [Probe(contender.loaded) for _ in range(BALANCED_CONNECTIONS)]
                for probe in probes:
                    stack.enter_context(probe.connection)
                for probe in probes:
                    probe.connection.sendall(probe.request)
                counts = Counter(probe.read() for probe in probes)
            found.append(sorted(counts.values(), reverse=True))
    return found


def largest_share(counts: list[int]) -> float:
    """Give the largest of the workers' shares, divided by the mean."""
    return counts[0] / (sum(counts) / WORKERS)
