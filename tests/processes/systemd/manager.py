"""What systemd is to a service, as far as tests need it: who passes sockets, and who is told."""

from __future__ import annotations

import socket
import struct
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from tests.support.running import DEADLINE, DUALLISTEN, PYTHON, Launched

PASS = """
import os, sys
names, *descriptors = sys.argv[1].split(",")
moved = [os.dup2(int(one), 200 + number) for number, one in enumerate(descriptors)]
for number, one in enumerate(moved):
    os.dup2(one, 3 + number)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(moved)), LISTEN_FDNAMES=names)
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""A program that becomes another one, with descriptors passed to it as sd_listen_fds(3) has it."""


def listening(host: str = "127.0.0.1") -> socket.socket:
    """A socket as a `.socket` unit makes it."""
    return socket.create_server((host, 0))


def url(sock: socket.socket) -> str:
    host, port = sock.getsockname()
    return f"http://{host}:{port}"


def activated(
    sockets: Sequence[socket.socket],
    names: str,
    *arguments: str,
    cwd: Path | None = None,
    environ: Mapping[str, str] | None = None,
) -> Launched:
    """Start duallisten with sockets passed to it."""
    descriptors = [sock.fileno() for sock in sockets]
    passing = ",".join([names, *map(str, descriptors)])
    command = [*PYTHON, "-c", PASS, passing, *DUALLISTEN, *arguments]
    return Launched(command, cwd=cwd, environ=environ, pass_fds=descriptors)


class Told(NamedTuple):
    """A message, and who sent it."""

    text: str
    process: int


class Manager:
    """The socket that services tell how they stand."""

    def __init__(self, path: Path | None = None) -> None:
        self.name = str(path) if path is not None else f"@duallisten-{uuid.uuid4().hex}"
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        self.socket.bind("\0" + self.name[1:] if path is None else self.name)

    def hear(self, within: float = DEADLINE) -> Told:
        """Wait `within` seconds for the next message; raises TimeoutError."""
        self.socket.settimeout(within)
        data, ancillary, _, _ = self.socket.recvmsg(4096, 1024)
        process, _, _ = struct.unpack("3i", ancillary[0][2][:12])
        return Told(data.decode(), process)

    def wait_for(self, start: str) -> Told:
        """Wait for a message that begins so, and give it; those before it are forgotten."""
        deadline = time.monotonic() + DEADLINE
        while not (told := self.hear(max(0.001, deadline - time.monotonic()))).text.startswith(start):
            pass
        return told

    def wait_for_silence(self, seconds: float) -> None:
        """Wait until nothing has come for so long."""
        deadline = time.monotonic() + DEADLINE
        while time.monotonic() < deadline:
            try:
                self.hear(seconds)
            except TimeoutError:
                return
        raise AssertionError("it never falls silent")


@contextmanager
def manager(path: Path | None = None) -> Iterator[Manager]:
    """Listen as a service manager does, in the abstract namespace or at a path."""
    made = Manager(path)
    try:
        yield made
    finally:
        made.socket.close()
