"""The protocol of a control socket: one request and one answer per connection, each a line of JSON.

A request is `{"command": NAME, ...}`, with the command's arguments as further keys. The answer is `{"answer": ...}`, or
`{"error": TEXT}` with a text of one line.

Invariants:
    - Requests and answers are checked here before they are used.
"""

from __future__ import annotations

import json
from typing import Any, Literal, NamedTuple, cast

from duallisten.errors import LaunchError
from duallisten.logs import LEVELS

COMMANDS = ("status", "workers", "reload", "drain", "log-level", "tasks", "stacks", "connections")
"""The commands."""

Action = Literal["list", "add", "remove", "replace"]

ACTIONS: tuple[Action, ...] = ("list", "add", "remove", "replace")
"""The actions of the command `workers`."""

LONGEST_REQUEST = 4096
"""Bytes of the longest request."""


class Refused(LaunchError):  # noqa: N818
    """A request is refused; the message is the answer."""


class Request(NamedTuple):
    """A request.

    Attributes:
        command: One of `COMMANDS`.
        action: For `workers`: the action.
        pid: For `workers`: the worker; None to let the launch choose.
        off: For `drain`: whether to become ready again.
        level: For `log-level`: the level.
    """

    command: str
    action: Action = "list"
    pid: int | None = None
    off: bool = False
    level: str = ""


def encode(request: Request) -> bytes:
    """Return the line of a request."""
    return json.dumps(request._asdict()).encode() + b"\n"


def decode(line: bytes) -> Request:
    """Read the line of a request; raises Refused."""
    try:
        said = json.loads(line)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        raise Refused('a request must be one line of JSON, such as {"command": "status"}')
    said = {name: value for name, value in said.items() if value is not None}
    command = said.get("command")
    if command not in COMMANDS:
        raise Refused(f"unknown command {command!r}: commands are {', '.join(COMMANDS)}")
    if unknown := sorted(said.keys() - set(Request._fields)):
        raise Refused(f"{command} has no argument {unknown[0]!r}")
    request = Request(**said)
    if request.action not in ACTIONS:
        raise Refused(f"unknown action {request.action!r} of workers: actions are {', '.join(ACTIONS)}")
    if command == "log-level" and request.level not in LEVELS:
        raise Refused(f"unknown log level {request.level!r}: levels are {', '.join(LEVELS)}")
    if request.pid is not None and (isinstance(request.pid, bool) or not isinstance(request.pid, int)):
        raise Refused("pid must be a process id")
    if not isinstance(request.off, bool):
        raise Refused("off must be true or false")
    if request.action == "replace" and request.pid is None:
        raise Refused("workers replace needs the process id of the worker")
    return request


def answered(answer: Any) -> bytes:
    """Return the line of an answer."""
    return json.dumps({"answer": answer}).encode() + b"\n"


def failed(message: str) -> bytes:
    """Return the line of an error."""
    return json.dumps({"error": " ".join(message.split())}).encode() + b"\n"


def read_answer(line: bytes) -> Any:
    """Return the answer in a line; raises Refused for an error, and ValueError for an invalid line."""
    said = json.loads(line)
    if not isinstance(said, dict) or not said.keys() & {"answer", "error"}:
        raise ValueError("not an answer")
    if "error" in said:
        raise Refused(cast("str", said["error"]))
    return said["answer"]
