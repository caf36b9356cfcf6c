"""What the tests of faults have in common: the application that breaks, asked and looked at."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path

from tests.support.running import FREE, ROOT, Launched, launched

FAULTY = "tests.faults.faulty:app"


def faulty(*arguments: str, cwd: Path, path: Path | None = None, ports: Sequence[str] = FREE) -> Launched:
    """Launch the application that breaks, in the folder of its files.

    path: what Python imports from, before all else
    """
    environ = {"PYTHONPATH": f"{path}:{ROOT}"} if path else None
    return launched(FAULTY, *arguments, *ports, cwd=cwd, environ=environ)


def request(path: str, more: bytes = b"") -> bytes:
    """Give a request over a connection that is kept."""
    return b"GET " + path.encode() + b" HTTP/1.1\r\nHost: x\r\n" + more + b"\r\n"


def ask_over(connection: socket.socket) -> bytes:
    """Ask for `/` over a connection that is kept, and give the answer."""
    connection.sendall(request("/"))
    answer = b""
    while not answer.endswith(b"}\n"):
        data = connection.recv(65536)
        assert data, f"the connection ended after {answer!r}"
        answer += data
    return answer
