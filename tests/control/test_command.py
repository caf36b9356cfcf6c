"""`python -m duallisten.control`: what is no use is one line and an exit code."""

from __future__ import annotations

import os
import socket
import sys
from pathlib import Path

import pytest

from tests.support.running import run

COMMAND = (sys.executable, "-m", "duallisten.control")


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("gone", "status"), 3, "gone: connection refused; the launch that had this socket has ended"),
        (("none", "status"), 3, "none: no such socket; is a launch running with --control none?"),
        (("file", "status"), 3, "file: connection refused"),
        (("x" * 200, "status"), 3, "cannot connect: AF_UNIX path too long"),
        (("none", "statu"), 3, "unknown command 'statu': did you mean 'status'?"),
        (("none", "shutdown"), 3, "unknown command 'shutdown': commands are status, workers, reload"),
        (("none", "workers", "replace"), 2, "workers replace needs the process id of the worker"),
        (("none", "workers", "add", "7"), 2, "workers add takes no process id"),
        (("none", "log-level", "loud"), 2, "'loud' is not one of 'critical'"),
        (("none",), 2, "Missing command"),
    ],
)
def test_what_is_wrong_is_one_line(arguments: tuple[str, ...], code: int, message: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(os.fspath(tmp_path / "gone"))
    ended = run(*arguments, command=COMMAND, cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert ended.stderr.startswith("Error: ")
    assert ended.stderr.count("\n") == 1
    assert message in ended.stderr


def test_its_help_has_every_command() -> None:
    from duallisten.control.protocol import COMMANDS

    printed = run("--help", command=COMMAND).stdout
    assert all(f" {command} " in printed for command in COMMANDS)
