"""The launch's end of a control socket: who may open it, what is left behind, and clients that are no good."""

from __future__ import annotations

import json
import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from duallisten.control import listening
from duallisten.control.client import ask
from duallisten.control.listening import ControlThread, control_socket, open_socket
from duallisten.control.protocol import LONGEST_REQUEST, Refused, Request, decode, encode
from duallisten.errors import LaunchError
from tests.support.running import DEADLINE, eventually


async def answer(request: Request) -> Any:
    if request.command == "reload":
        raise Refused("not\nnow")
    if request.command == "stacks":
        raise RuntimeError("broken")
    return request.command


@contextmanager
def listening_at(path: Path) -> Iterator[None]:
    with control_socket(str(path)) as sock:
        thread = ControlThread(sock, answer)
        thread.start()
        try:
            yield
        finally:
            thread.stop()


def connect(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(DEADLINE)
    sock.connect(str(path))
    return sock


def read(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(4096), b""))


def test_it_is_for_its_owner_alone_before_anybody_can_connect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "socket"
    modes: list[int] = []

    class Watched(socket.socket):
        def listen(self, backlog: int = 0) -> None:
            modes.append(stat.S_IMODE(path.stat().st_mode))
            super().listen(backlog)

    monkeypatch.setattr("duallisten.control.listening.socket.socket", Watched)
    before = os.umask(0)
    try:
        with control_socket(str(path)):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
    finally:
        os.umask(before)
    assert modes == [0o600]
    assert not path.exists()


def test_what_a_dead_launch_has_left_is_replaced_and_what_another_one_has_is_not(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    open_socket(path).close()
    with listening_at(path):
        assert ask(str(path), Request("status")) == "status"
        with pytest.raises(LaunchError, match="another launch uses this socket"), control_socket(str(path)):
            pass
        assert ask(str(path), Request("status")) == "status"
        path.unlink()
        other = open_socket(path)
    assert path.exists()  # it is another's by now
    other.close()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("file", "a file that is not a socket"),
        ("none/socket", "No such file or directory; its directory must exist"),
        ("x" * 200, r"more than the .* of a UNIX socket"),
    ],
)
def test_where_there_can_be_no_socket_one_line_says_so(name: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LaunchError, match=message) as raised, control_socket(str(tmp_path / name)):
        pass
    assert "\n" not in str(raised.value)
    assert (tmp_path / "file").exists()


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (b"\x00\xff\n", "one line of JSON"),
        (b"[]\n", "one line of JSON"),
        (b"x" * (LONGEST_REQUEST * 4), "one line of JSON"),
        (b'{"command": "sttus"}\n', "unknown command 'sttus': commands are status, workers"),
        (b'{"command": ["status"]}\n', "unknown command"),
        (b'{"command": "status", "more": 1}\n', "status has no argument 'more'"),
        (b'{"command": "log-level", "level": "loud"}\n', "unknown log level 'loud'"),
        (b'{"command": "workers", "action": "kill"}\n', "unknown action 'kill' of workers"),
        (b'{"command": "workers", "action": "replace", "pid": "1"}\n', "pid must be a process id"),
        (b'{"command": "workers", "action": "replace"}\n', "needs the process id"),
        (b'{"command": "drain", "off": "no"}\n', "off must be true or false"),
        (b'{"command": "reload"}\n', "not now"),
        (b'{"command": "stacks"}\n', "internal error: RuntimeError: broken"),
    ],
)
def test_whatever_comes_gets_an_answer(line: bytes, error: str, tmp_path: Path) -> None:
    with listening_at(tmp_path / "socket"), connect(tmp_path / "socket") as sock:
        sock.sendall(line)
        told = json.loads(read(sock))
        assert error in told["error"]
        assert "\n" not in told["error"]


def test_a_client_that_says_nothing_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listening, "READ_SECONDS", 0.05)
    with listening_at(tmp_path / "socket"), connect(tmp_path / "socket") as silent:
        assert read(silent) == b""


def test_clients_that_say_nothing_hold_up_nobody(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "socket"
    monkeypatch.setattr(listening, "READ_SECONDS", DEADLINE)
    monkeypatch.setattr(listening, "MOST", 4)
    with listening_at(path):
        silent = [connect(path) for _ in range(3)]
        assert ask(str(path), Request("status")) == "status"
        silent.append(connect(path))
        with pytest.raises(LaunchError, match="too many clients at once"):
            ask(str(path), Request("status"))
        silent.pop().close()
        assert eventually(lambda: is_answered(path))
    assert [read(sock) for sock in silent] == [b""] * 3  # the end cuts them off
    for sock in silent:
        sock.close()


def is_answered(path: Path) -> bool:
    try:
        return bool(ask(str(path), Request("status")) == "status")
    except LaunchError:
        return False


def test_a_request_that_is_sent_is_read_as_it_was_meant() -> None:
    request = Request("workers", action="replace", pid=7)
    assert decode(encode(request)) == request
