"""Draining: letting the connections of a process end without losing what was accepted.

The facts it rests on:

- uvicorn's `shutdown()` of a connection closes it at once when no request is in hand, also one that was accepted a
  moment ago and whose request is still in flight; that request would be reset. So a connection without a request in
  hand is given `LINGER` to show one, and only then closed.
- A response that starts during the drain must say `Connection: close` (RFC 9112, 9.6). uvicorn takes a connection's
  end from that header, also when it stands among its default headers.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable
from typing import Any

from uvicorn.server import ServerState

logger = logging.getLogger("uvicorn.error")

LINGER = 0.25
"""Seconds that a connection without a request in hand has, for bytes that are in flight."""

POLL_INTERVAL = 0.02
"""Seconds between two looks at what is still open; uvicorn's own is 0.1."""

GOODBYE = 1.0
"""Seconds that a peer without a request in hand has to answer the end of its TLS connection, for which asyncio would
wait 30; an idle client of a connection pool never answers."""

CLOSE_HEADER = (b"connection", b"close")


async def drain(states: Iterable[ServerState], *, timeout: float | None, forced: Callable[[], bool]) -> None:
    """Let every connection and task of `states` end.

    timeout: seconds until the tasks that are left are cancelled; None waits for ever
    forced: tells whether a second signal has asked to end at once
    """
    states = list(states)
    try:
        async with asyncio.timeout(timeout):
            await _end_connections(states, forced)
            await _wait("connections to close", lambda: _all(states, "connections"), forced)
            await _wait("background tasks to complete", lambda: _all(states, "tasks"), forced)
    except TimeoutError:
        tasks = _all(states, "tasks")
        logger.error("Cancel %s running task(s), timeout graceful shutdown exceeded", len(tasks))
        for task in tasks:
            task.cancel(msg="Task cancelled, timeout graceful shutdown exceeded")


async def _end_connections(states: list[ServerState], forced: Callable[[], bool]) -> None:
    """End those that have a request in hand after it; those that have none when they have had their chance."""
    for state in states:
        state.default_headers = [*state.default_headers, CLOSE_HEADER]
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LINGER
    told: set[Any] = set()
    while not forced():
        connections = _all(states, "connections")
        for connection in connections:
            if connection not in told and not _is_idle(connection):
                told.add(connection)
                connection.shutdown()
        if loop.time() >= deadline or all(connection in told for connection in connections):
            break
        await asyncio.sleep(POLL_INTERVAL)
    for connection in _all(states, "connections") - told:
        connection.shutdown()
        if (transport := getattr(connection, "transport", None)) is not None:
            loop.call_later(GOODBYE, transport.abort)
    await asyncio.sleep(0)  # a closed transport reports its end in the next turn


def _is_idle(connection: Any) -> bool:
    """Tell whether a connection of uvicorn's HTTP protocols has no request in hand.

    A protocol without a `cycle` (a WebSocket, another implementation) decides for itself in its `shutdown()`.
    """
    if not hasattr(connection, "cycle"):
        return False
    return connection.cycle is None or bool(connection.cycle.response_complete)


async def _wait(what: str, left: Callable[[], set[Any]], forced: Callable[[], bool]) -> None:
    if left() and not forced():
        logger.info("Waiting for %s. (CTRL+C to force quit)", what)
        while left() and not forced():
            await asyncio.sleep(POLL_INTERVAL)


def _all(states: Iterable[ServerState], name: str) -> set[Any]:
    return {item for state in states for item in getattr(state, name)}
