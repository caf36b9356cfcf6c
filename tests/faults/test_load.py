"""What many requests and slow readers leave behind, and what others notice of them."""

from __future__ import annotations

import socket
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil
import pytest

from tests.faults.faulty import CHUNK, CHUNKS
from tests.faults.serving import ask_over, faulty, request
from tests.support.running import DEADLINE, address, connect, eventually

WARM_UP, REQUESTS, CONNECTIONS = 4_000, 20_000, 16

MOST_GROWTH = 2 << 20
"""Bytes of resident memory that so many requests may leave behind."""


def test_many_requests_over_both_sides_leave_no_memory_and_no_descriptor_behind(tmp_path: Path) -> None:
    with faulty("--no-access-log", cwd=tmp_path) as server:
        urls = [server.url("public"), server.url("private")]
        process = psutil.Process(server.process.pid)
        idle = sockets(process)
        soak(urls, WARM_UP)
        assert eventually(lambda: sockets(process) <= idle)
        descriptors, memory = process.num_fds(), process.memory_info().rss
        soak(urls, REQUESTS)
        assert process.memory_info().rss - memory < MOST_GROWTH
        assert eventually(lambda: process.num_fds() <= descriptors)


def sockets(process: psutil.Process) -> int:
    """Tell how many sockets a process has open."""
    links = []
    for entry in Path(f"/proc/{process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):  # it was closed in between
            links.append(str(entry.readlink()))
    return sum(link.startswith("socket:") for link in links)


def soak(urls: list[str], requests: int) -> None:
    """Send at least so many requests, over connections of which each is used for a hundred."""
    for _ in range(-(-requests // (CONNECTIONS * 100))):
        with ExitStack() as stack:
            connections = [stack.enter_context(connect(url)) for url in urls * (CONNECTIONS // 2)]
            for _ in range(100):
                for connection in connections:
                    connection.sendall(request("/"))
                for connection in connections:
                    assert connection.recv(4096).endswith(b"}\n")


READERS = 8
A_FEW_CHUNKS_EACH = READERS * 10 * len(CHUNK)
"""Bytes; all of the answers would be eighty times as much."""


@pytest.mark.parametrize("slow", ["public", "private"])
def test_slow_readers_cost_a_few_chunks_each_and_hold_up_nobody(slow: str, tmp_path: Path) -> None:
    with faulty("--no-access-log", cwd=tmp_path) as server, ExitStack() as stack:
        url, other = server.url(slow), server.url("private" if slow == "public" else "public")
        process = psutil.Process(server.process.pid)
        client = stack.enter_context(connect(other))
        assert ask_over(client)
        memory = process.memory_info().rss
        readers = [stack.enter_context(slow_reader(url)) for _ in range(READERS)]
        for reader in readers:
            assert reader.recv(12) == b"HTTP/1.1 200"
        for _ in range(100):
            assert b"200 OK" in ask_over(client)
        assert process.memory_info().rss - memory < A_FEW_CHUNKS_EACH
        readers[0].setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        received = 0
        while received < len(CHUNK) * CHUNKS:
            data = readers[0].recv(1 << 20)
            assert data, f"it ended after {received} bytes"
            received += len(data)


def slow_reader(url: str) -> socket.socket:
    """Ask for the big answer, with little room for it."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    connection.settimeout(DEADLINE)
    connection.connect(address(url))
    connection.sendall(request("/big"))
    return connection
