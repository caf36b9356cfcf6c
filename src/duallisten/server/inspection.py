"""The answers of a process to an operator's questions (`duallisten.control`): stacks, tasks, connections.

An answer is computed on request, in a thread other than the event loop's. So it also works while the loop is blocked.
Facts it rests on:

- `sys._current_frames()` returns the frame of every thread (documented in `sys`; the underscore marks it as CPython's).
- `asyncio.all_tasks(loop)` and `current_task(loop)` may be called in any thread: the former copies a WeakSet that other
  threads change, and tries again where that fails.
- The interpreter copies a set in one step, so the loop cannot change the set meanwhile.

The connections are those that speak HTTP or WebSocket. Of connections of a user's own protocol class
(`--http MODULE:CLASS`) only the peer is known.

Invariants:
    - Nothing here waits for the event loop, or changes anything.
    - An answer contains only the method, path, age and status of a request.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

from duallisten.http import Connection
from duallisten.http.connection import EXCHANGE
from duallisten.observability import full_path
from duallisten.observability.task_frames import waiting_frames

if TYPE_CHECKING:
    from types import FrameType

    from duallisten.http import Exchange
    from duallisten.listeners import ListenerSet
    from duallisten.sides import Side

Question = Literal["stacks", "tasks", "connections"]

MOST = 1000
"""Connections of a process that are listed at most, those with the longest requests first."""

PATIENCE = 5.0
"""Seconds that the receiver has to read an answer."""


class Inspection:
    """Answers questions about a server process.

    Args:
        listeners: The listeners of the process.
        loop: The event loop of the process; None before it runs.
    """

    def __init__(self, listeners: ListenerSet, loop: asyncio.AbstractEventLoop | None) -> None:
        self._listeners = listeners
        self._loop = loop

    def answer(self, question: Question) -> dict[str, Any]:
        """Return the answer to a question, as a JSON value."""
        if question == "stacks":
            return stacks()
        if question == "tasks":
            return tasks(self._loop)
        return connections(self._listeners)

    def send(self, question: Question, sock: socket.socket) -> None:
        """Write the answer to a socket; this blocks until the receiver reads, so call it in its own thread."""
        with suppress(OSError):
            sock.settimeout(PATIENCE)
            sock.sendall(json.dumps(self.answer(question)).encode())


def stacks() -> dict[str, Any]:
    """Return the stacks of this process's threads, the main thread first, each with its innermost frame last."""
    frames = sys._current_frames()
    main = threading.main_thread()
    threads = sorted(threading.enumerate(), key=lambda thread: (thread is not main, thread.name))
    return {
        "pid": os.getpid(),
        "threads": [
            {"name": thread.name, "daemon": thread.daemon, "frames": _stack(frames[thread.ident])}
            for thread in threads
            if thread.ident in frames and thread is not threading.current_thread()
        ],
    }


def _stack(frame: FrameType) -> list[dict[str, Any]]:
    """Return the frames of a stack, without the source lines, which the client can read itself."""
    summary = traceback.StackSummary.extract(traceback.walk_stack(frame), lookup_lines=False)
    return [_place(one.filename, one.lineno, one.name) for one in reversed(summary)]


def _place(file: str, line: int | None, function: str) -> dict[str, Any]:
    return {"file": file, "line": line, "function": function}


def tasks(loop: asyncio.AbstractEventLoop | None) -> dict[str, Any]:
    """Return the tasks of an event loop, and where each of them waits; the running task comes first.

    The frames of the running task are those on the stack of the loop's thread, from its coroutine on.
    """
    if loop is None:
        return {"pid": os.getpid(), "reason": "its event loop is not running yet"}
    found: list[dict[str, Any]] = []
    running = asyncio.current_task(loop)
    names = {task: task.get_name() for task in asyncio.all_tasks(loop)}
    for task in sorted(names, key=lambda task: (task is not running, len(names[task]), names[task])):
        frames = waiting_frames(task)
        if task is running and frames:
            frames = _running_frames(frames[0])
        found.append(
            {
                "name": names[task],
                "coroutine": getattr(task.get_coro(), "__qualname__", ""),
                "running": task is running,
                "frames": [_place(one.f_code.co_filename, one.f_lineno, one.f_code.co_name) for one in frames],
            }
        )
    return {"pid": os.getpid(), "tasks": found}


def _running_frames(outermost: FrameType) -> list[FrameType]:
    """Return the frames of the running code from `outermost` on, the innermost last."""
    for innermost in sys._current_frames().values():
        frames: list[FrameType] = []
        frame: FrameType | None = innermost
        while frame is not None:
            frames.append(frame)
            if frame is outermost:
                return frames[::-1]
            frame = frame.f_back
    return [outermost]  # the task waits again meanwhile


def connections(listeners: ListenerSet) -> dict[str, Any]:
    """Return the connections of a process, counted by peer and listed with their requests.

    - `peers`: for each side and host the number of connections, and of those with a request in hand
    - `connections`: at most `MOST` connections, those with the longest requests first; `seconds` is the age of the
      request or of the WebSocket, None where it is unknown
    """
    now = time.perf_counter()
    listed = [_describe(side, one, now) for side, one in _connections(listeners)]
    sort_connections(listed)
    total, busy = (
        Counter((one["side"], one["peer"].rpartition(":")[0]) for one in listed if is_counted(one))
        for is_counted in (lambda one: True, lambda one: one["state"] == "request")
    )
    peers = list_peers(total, busy)[:MOST]
    return {"pid": os.getpid(), "total": len(listed), "peers": peers, "connections": listed[:MOST]}


def sort_connections(listed: list[dict[str, Any]]) -> None:
    """Sort connections by their state in `ORDER`, then by the age of the request, the oldest first."""
    listed.sort(key=lambda one: (ORDER.index(one["state"]), -(one["seconds"] or 0.0)))


def list_peers(total: Counter[tuple[str, str]], busy: Counter[tuple[str, str]]) -> list[dict[str, Any]]:
    """Return the peers by side and host, with their numbers of connections and of requests in hand."""
    return [
        {"side": side, "host": host, "connections": count, "requests": busy[side, host]}
        for (side, host), count in total.most_common()
    ]


ORDER = ("request", "websocket", "own page", "idle", "closing", "unknown")
"""The states of a connection, in the order of the list.

`own page` is a request for one of duallisten's own pages; the status page is one long response.
"""


def _connections(listeners: ListenerSet) -> Iterator[tuple[Side, Any]]:
    sides = {id(service.state): service for service in list(listeners.services.values())}
    for service in sides.values():
        for connection in list(service.state.connections):
            yield service.side, connection


def _describe(side: Side, connection: Any, now: float) -> dict[str, Any]:
    client = getattr(connection, "client", None)
    exchange = getattr(connection, "websocket", None) or getattr(connection, "exchange", None)
    told: dict[str, Any] = {
        "side": side,
        "peer": f"{client[0]}:{client[1]}" if client else "",
        "state": _state(connection, exchange),
        **dict.fromkeys(("method", "path", "seconds", "status")),
    }
    if exchange is not None and told["state"] in ("request", "websocket", "own page"):
        told["method"], told["path"] = exchange.method, _path(exchange.scope)
        told["seconds"] = round(now - exchange.began, 3) if exchange.began else None
        told["status"] = exchange.status or None
    return told


def _state(connection: Any, exchange: Exchange | None) -> str:
    """Return the state of a connection, one of `ORDER`."""
    if exchange is not None and exchange.scope["type"] == "websocket":
        return "websocket"
    if not isinstance(connection, Connection):
        return "unknown"
    if exchange is not None and not exchange.complete:
        return "own page" if exchange.is_own else "request"
    return "idle" if connection.stage <= EXCHANGE else "closing"


def _path(scope: Any) -> str | None:
    try:
        return full_path(scope)
    except Exception:  # the application may have changed the scope
        return None
