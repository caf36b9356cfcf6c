"""Draining: the connections of a process end, and no request is lost that was accepted.

The facts it rests on:

- `shutdown()` of a connection closes it at once when no request is in hand, also one that was accepted a moment ago and
  whose request is still in flight; that request would be reset. So a connection without a request in hand is given
  `LINGER` to show one, and is not closed while bytes that nobody has read yet wait in its socket.
- A response that starts during the drain must say `Connection: close` (RFC 9112, 9.6). The engine does so while its
  context `is_ending`. uvicorn's own protocols take a connection's end from that header among their default headers.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, Any

from duallisten.http import Connection

if TYPE_CHECKING:
    from duallisten.config.uvicorn_contract import ServerState

logger = logging.getLogger("uvicorn.error")

LINGER = 0.25
"""Seconds that a connection without a request in hand has, for bytes that are in flight."""

POLL_INTERVAL = 0.02
"""Seconds between two looks at what is still open; uvicorn's own is 0.1."""

CLOSE_TIMEOUT = 1.0
"""Seconds that a peer without a request in hand has to answer the end of its TLS connection, for which asyncio would
wait 30; an idle client of a connection pool never answers. Also what cancelled tasks have to end."""

UNREAD_PATIENCE = 1.0
"""Seconds after which a connection is given up whose bytes the event loop does not read."""

NAMED = 5
"""How many connections are named that an end has waited for."""


def end_requests(states: Iterable[ServerState], *, websockets: bool) -> None:
    """End every connection that has a request in hand, after that request.

    websockets: whether to close WebSockets, too
    """
    for connection in _all(states, "connections"):
        exchange = connection.exchange if isinstance(connection, Connection) else None
        if exchange is not None and exchange.scope["type"] == "http":
            if not exchange.complete:
                connection.shutdown()
        elif websockets and (exchange is not None or not isinstance(connection, Connection)):
            connection.shutdown()


async def drain(
    states: Iterable[ServerState],
    *,
    timeout: float,
    forced: Callable[[], bool],
    handshakes: Collection[asyncio.Task[None]] = (),
) -> None:
    """Wait until every connection and task of `states` has ended.

    timeout: seconds until the tasks that are left are cancelled
    forced: whether a second signal has asked to end at once
    handshakes: of TLS connections, which are not among those of `states` yet
    """
    states = list(states)
    try:
        async with asyncio.timeout(timeout):
            await _end_connections(states, handshakes, forced)
            await _wait("connections to close", lambda: _all(states, "connections"), forced)
            await _wait("background tasks to complete", lambda: _all(states, "tasks"), forced)
    except TimeoutError:
        connections, tasks = _all(states, "connections"), _all(states, "tasks")
        if connections:
            logger.error("Graceful shutdown timed out; connections still open: %s", _who(connections))
        logger.error("Cancel %s running task(s), timeout graceful shutdown exceeded", len(tasks))
        for task in tasks:
            task.cancel(msg="Task cancelled, timeout graceful shutdown exceeded")
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT)  # what they clean up may need the application
        for connection in _all(states, "connections"):
            if (transport := getattr(connection, "transport", None)) is not None:
                transport.abort()
    finally:
        for handshake in tuple(handshakes):
            handshake.cancel()


async def _end_connections(
    states: list[ServerState], handshakes: Collection[asyncio.Task[None]], forced: Callable[[], bool]
) -> None:
    """End connections with a request in hand after it, and idle ones when `LINGER` is over."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LINGER
    told: set[Any] = set()
    while not forced():
        connections = _all(states, "connections")
        for connection in connections:
            if connection not in told and not _is_idle(connection):
                told.add(connection)
                connection.shutdown()
        idle = connections - told
        late = loop.time() - deadline
        if not (idle or handshakes) or late > UNREAD_PATIENCE or (late >= 0 and not any(map(_has_unread, idle))):
            break
        await asyncio.sleep(POLL_INTERVAL if late < 0 else 0)
    for connection in _all(states, "connections") - told:
        connection.shutdown()
        if (transport := getattr(connection, "transport", None)) is not None:
            loop.call_later(CLOSE_TIMEOUT, transport.abort)
    await asyncio.sleep(0)  # a closed transport reports its end in the next turn


def _is_idle(connection: Any) -> bool:
    """Whether a connection has no request in hand.

    A WebSocket, or a protocol that the user brings, decides for itself in its `shutdown()`.
    """
    return isinstance(connection, Connection) and not connection.has_request


def _has_unread(connection: Any) -> bool:
    """Whether bytes have come in on a connection that the event loop has yet to read."""
    import fcntl
    import termios  # neither is needed for a start

    transport = getattr(connection, "transport", None)
    sock = transport.get_extra_info("socket") if transport is not None else None
    if transport is None or sock is None or sock.fileno() < 0 or transport.is_closing():
        return False
    count: int
    (count,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))
    return count > 0


async def _wait(what: str, left: Callable[[], set[Any]], forced: Callable[[], bool]) -> None:
    if left() and not forced():
        logger.info("Waiting for %s. (CTRL+C to force quit)", what)
        while left() and not forced():
            await asyncio.sleep(POLL_INTERVAL)


def _who(connections: Collection[Any]) -> str:
    """Name connections by their clients, and what was asked on them; a few of many."""
    named: list[str] = []
    for connection in list(connections)[:NAMED]:
        client = getattr(connection, "client", None)
        exchange = getattr(connection, "exchange", None) or getattr(connection, "websocket", None)
        asked = (
            f" ({exchange.scope.get('method', 'WebSocket')} {exchange.scope['path']})" if exchange is not None else ""
        )
        named.append(f"{f'{client[0]}:{client[1]}' if client else 'a client'}{asked}")
    more = f" and {len(connections) - NAMED} more" if len(connections) > NAMED else ""
    return ", ".join(named) + more


def waited_for(states: Iterable[ServerState]) -> str:
    """Say what the end of a process waits for: connections, else tasks; empty where it waits for neither."""
    states = list(states)
    if connections := _all(states, "connections"):
        return f"{len(connections)} connection{'s' if len(connections) > 1 else ''}: {_who(connections)}"
    tasks = _all(states, "tasks")
    return f"{len(tasks)} background task{'s' if len(tasks) > 1 else ''}" if tasks else ""


def _all(states: Iterable[ServerState], name: str) -> set[Any]:
    return {item for state in states for item in getattr(state, name)}
