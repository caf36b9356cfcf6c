"""Connections in numbers that send nothing, or whose TLS handshake does not come to an end."""

from __future__ import annotations

import resource
import socket
import ssl
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest
import trustme

from duallisten.sides import Side
from tests.faults.serving import FAULTY, ask_over, request
from tests.faults.test_load import MOST_GROWTH, sockets
from tests.support.applications import Observed
from tests.support.running import (
    DEADLINE,
    DUALLISTEN,
    FREE,
    PYTHON,
    Launched,
    address,
    ask,
    connect,
    eventually,
    launched,
    serving,
)

SPARE = 300
"""Descriptors that are left to a process beside the connections."""

CROWD = min(10_000, resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE)
"""Connections, unless the machine allows fewer."""

ROOMY = ["sh", "-c", f'ulimit -n {CROWD + SPARE}; exec "$@"', "sh"]
"""Runs a command with as many descriptors as that takes."""


def crowd(ports: list[int]) -> Launched:
    return launched("-m", "tests.faults.crowd", str(CROWD), *map(str, ports), command=PYTHON)


def turn(clients: Launched) -> str:
    """Let them all come, or go."""
    told = len(clients.lines)
    clients.say()
    return clients.wait_for("", start=told).string


def test_ten_thousand_connections_that_send_nothing_hinder_nobody_and_leave_nothing_behind(tmp_path: Path) -> None:
    flags = ("--no-access-log", "--timeout-request-header", "0", "--timeout-keep-alive", "600")
    with launched(FAULTY, *flags, *FREE, command=[*ROOMY, *DUALLISTEN], cwd=tmp_path) as server:
        urls = [server.url("public"), server.url("private")]
        process = psutil.Process(server.process.pid)
        idle, memory = sockets(process), []
        with ExitStack() as stack:
            kept = [stack.enter_context(connect(url)) for url in urls]
            clients = stack.enter_context(crowd([address(url)[1] for url in urls]))
            for _ in range(2):
                assert turn(clients) == "open"
                assert eventually(lambda: process.num_fds() > CROWD)
                for url, connection in zip(urls, kept, strict=True):
                    assert ask(url).startswith(b"HTTP/1.1 200 ")
                    assert b"200 OK" in ask_over(connection)
                memory.append(process.memory_info().rss)
                assert turn(clients) == "closed"
                assert eventually(lambda: sockets(process) <= idle + len(kept))
        assert memory[1] - memory[0] < MOST_GROWTH


HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
"""How a TLS handshake begins (RFC 8446, 4.1.2 and 5.1), of which the rest does not come."""


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("side", ["public", "private"])
def test_tls_handshakes_that_do_not_end_are_closed_and_hinder_nobody(side: Side, loop: str, tmp_path: Path) -> None:
    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    issued.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "cert.pem"))
    context = ssl.create_default_context()
    authority.configure_trust(context)
    prefix = "private_" if side == "private" else ""
    options = {f"{prefix}ssl_certfile": str(tmp_path / "cert.pem"), f"{prefix}timeout_request_header": 1}
    with serving(Observed(), loop=loop, **options) as server, ExitStack() as stack:
        where = server.addresses[side]
        hung = [stack.enter_context(socket.create_connection(where, timeout=DEADLINE)) for _ in range(50)]
        for number, connection in enumerate(hung):
            connection.sendall(HELLO if number % 2 else b"")
        plain = stack.enter_context(socket.create_connection(where, timeout=DEADLINE))
        client = stack.enter_context(context.wrap_socket(plain, server_hostname="127.0.0.1"))
        client.sendall(request("/"))
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 200 ")
        assert ask(server.url("private" if side == "public" else "public")).startswith(b"HTTP/1.1 200 ")
        assert [connection.recv(1) for connection in hung] == [b""] * len(hung)
