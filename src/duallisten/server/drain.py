"""Draining: closes the connections of a process without losing a request on an accepted connection.

The facts it rests on:

- `shutdown()` of a connection closes it at once when it has no request in hand. That would reset a new connection whose
  request is still on its way. So a connection without a request in hand gets `LINGER` seconds, and is not closed while
  unread bytes are in its socket.
- A connection whose `shutdown()` fails is aborted, so that the drain does not wait for it.
- A response that starts during the drain must say `Connection: close` (RFC 9112, 9.6). The engine adds the header while
  its context `is_ending`. uvicorn's own protocols close a connection where the header is among their default headers.
"""

from __future__ import annotations

import asyncio
import logging
import struct
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from duallisten.http import Connection, exchanges_of

if TYPE_CHECKING:
    from duallisten.config.uvicorn_contract import ServerState

logger = logging.getLogger("uvicorn.error")

LINGER = 0.25
"""Seconds that a connection without a request in hand stays open, for bytes that are on their way."""

POLL_INTERVAL = 0.02
"""Seconds between two checks for open connections and tasks; uvicorn's is 0.1."""

CLOSE_TIMEOUT = 1.0
"""Seconds that the peer of an idle connection has to answer the end of TLS. asyncio would wait 30, and an idle client
of a connection pool never answers. Cancelled tasks have the same time to end."""

UNREAD_PATIENCE = 1.0
"""Seconds after `LINGER` until a connection is closed although the event loop has not read its bytes."""

NAMED = 5
"""How many open connections a log line names."""

_KINDS = {"http": "request", "websocket": "WebSocket"}


class Steps:
    """Runs the steps of a shutdown: an exception in one step is logged, and the next steps still run.

    Attributes:
        failed: How many steps have failed.
    """

    def __init__(self) -> None:
        self.failed = 0

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Run one step, the body of a `with` statement; `what` describes it in the log."""
        try:
            yield
        except Exception:
            self.failed += 1
            logger.exception("Shutdown step failed: %s; continuing the shutdown", what)

    def shut_down(self, connection: Any) -> None:
        """Close a connection after the request in hand; abort it where that fails."""
        before = self.failed
        with self.step("end a connection"):
            connection.shutdown()
        if self.failed > before:
            self.cut(connection)

    def cut(self, connection: Any) -> None:
        """Abort a connection."""
        with self.step("cut a connection"):
            if (transport := getattr(connection, "transport", None)) is not None:
                transport.abort()


def end_requests(states: Iterable[ServerState], steps: Steps) -> None:
    """Close every WebSocket, and every connection with a request in hand after that request."""
    for connection in _all(states, "connections"):
        if not isinstance(connection, Connection) or connection.has_request:
            steps.shut_down(connection)


async def drain(
    states: Iterable[ServerState],
    *,
    began: float,
    seconds: float,
    steps: Steps,
    forced: Callable[[], bool],
    handshakes: Collection[asyncio.Task[None]] = (),
) -> None:
    """Wait until every connection and task of `states` has ended.

    Args:
        states: The connections and tasks of each side.
        began: The begin of the shutdown, on the event loop's clock.
        seconds: The time after `began` when open connections are aborted and tasks cancelled; infinite for never.
        steps: Logs failures.
        forced: Returns whether a second signal asked to end at once.
        handshakes: Tasks of TLS connections in a handshake, which are not in `states` yet.
    """
    states = list(states)
    try:
        async with asyncio.timeout_at(began + seconds if seconds < float("inf") else None):
            await _end_connections(states, handshakes, steps, forced)
            await _wait("connections to close", lambda: _all(states, "connections"), forced)
            await _wait("background tasks to complete", lambda: _all(states, "tasks"), forced)
    except TimeoutError:
        connections, tasks = _all(states, "connections"), _all(states, "tasks")
        what = _describe_cut(connections, tasks, handshakes)
        logger.error("Graceful shutdown timed out after %g s; cutting %s", seconds, what)
        logger.error("Cancel %s running task(s), timeout graceful shutdown exceeded", len(tasks))
        for task in tasks:
            task.cancel(msg="Task cancelled, timeout graceful shutdown exceeded")
        if tasks:
            await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT)  # their clean-up may need the application
        for connection in _all(states, "connections"):
            steps.cut(connection)
    finally:
        for handshake in tuple(handshakes):
            handshake.cancel()


async def _end_connections(
    states: list[ServerState], handshakes: Collection[asyncio.Task[None]], steps: Steps, forced: Callable[[], bool]
) -> None:
    """Close connections with a request in hand after that request, and idle ones after `LINGER`."""
    loop = asyncio.get_running_loop()
    told: set[Any] = set()
    with steps.step("wait for requests in flight"):
        await _end_busy(states, handshakes, told, steps, forced)
    for connection in _all(states, "connections") - told:
        steps.shut_down(connection)
        if (transport := getattr(connection, "transport", None)) is not None:
            loop.call_later(CLOSE_TIMEOUT, transport.abort)
    await asyncio.sleep(0)  # a closed transport reports its end in the next turn


async def _end_busy(
    states: list[ServerState],
    handshakes: Collection[asyncio.Task[None]],
    told: set[Any],
    steps: Steps,
    forced: Callable[[], bool],
) -> None:
    """Close connections with a request in hand after that request, also where the request comes within `LINGER`.

    Args:
        states: The connections and tasks of each side.
        handshakes: Tasks of TLS connections in a handshake.
        told: Receives the connections that were told to close.
        steps: Logs failures.
        forced: Returns whether a second signal asked to end at once.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + LINGER
    while not forced():
        connections = _all(states, "connections")
        for connection in connections:
            if connection not in told and not _is_idle(connection):
                told.add(connection)
                steps.shut_down(connection)
        idle = connections - told
        late = loop.time() - deadline
        if not (idle or handshakes) or late > UNREAD_PATIENCE or (late >= 0 and not any(map(_has_unread, idle))):
            break
        await asyncio.sleep(POLL_INTERVAL if late < 0 else 0)


def _is_idle(connection: Any) -> bool:
    """Whether a connection has no request in hand.

    A WebSocket and a user's own protocol decide that themselves, in their `shutdown()`.
    """
    return isinstance(connection, Connection) and not connection.has_request


def _has_unread(connection: Any) -> bool:
    """Whether a connection's socket has bytes that the event loop has not read."""
    import fcntl
    import termios  # startup needs neither

    transport = getattr(connection, "transport", None)
    sock = transport.get_extra_info("socket") if transport is not None else None
    if transport is None or sock is None or sock.fileno() < 0 or transport.is_closing():
        return False
    count = 0
    with suppress(OSError):
        (count,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4)))
    return count > 0


async def _wait(what: str, left: Callable[[], set[Any]], forced: Callable[[], bool]) -> None:
    if left() and not forced():
        logger.info("Waiting for %s. (CTRL+C to force quit)", what)
        while left() and not forced():
            await asyncio.sleep(POLL_INTERVAL)


def _describe_cut(
    connections: Collection[Any], tasks: Collection[asyncio.Task[None]], handshakes: Collection[asyncio.Task[None]]
) -> str:
    """Return what has not ended in time, for the log: the numbers by kind, and the clients."""
    in_hand: set[Any] = set()
    kinds: Counter[str] = Counter()
    for exchanges in map(_exchanges_of, connections):
        kinds.update([_KINDS.get(one.scope["type"], "request") for one in exchanges] or ["connection"])
        in_hand.update(getattr(one, "task", None) for one in exchanges)
    kinds["background task"] = sum(task not in in_hand for task in tasks)
    kinds["handshake"] = len(handshakes)
    counts = ", ".join(f"{count} {kind}{'s' if count > 1 else ''}" for kind, count in kinds.items() if count)
    return f"{counts}: {_who(connections)}" if connections else counts


def _exchanges_of(connection: Any) -> list[Any]:
    """Return the requests of a connection, or its WebSocket; none for a user's own protocol."""
    websocket = getattr(connection, "websocket", None)
    return [*exchanges_of(connection)] or ([] if websocket is None else [websocket])


def _who(connections: Collection[Any]) -> str:
    """Return the clients and requests of at most `NAMED` connections, for the log."""
    named: list[str] = []
    for connection in list(connections)[:NAMED]:
        client = getattr(connection, "client", None)
        exchanges = _exchanges_of(connection)
        asked = "".join(f" ({one.scope.get('method', 'WebSocket')} {one.scope['path']})" for one in exchanges[:NAMED])
        named.append(f"{f'{client[0]}:{client[1]}' if client else 'a client'}{asked}")
    more = f" and {len(connections) - NAMED} more" if len(connections) > NAMED else ""
    return ", ".join(named) + more


def waited_for(states: Iterable[ServerState]) -> str:
    """Return what a shutdown waits for, in words: connections, else tasks; empty where it waits for neither."""
    states = list(states)
    if connections := _all(states, "connections"):
        return f"{len(connections)} connection{'s' if len(connections) > 1 else ''}: {_who(connections)}"
    tasks = _all(states, "tasks")
    return f"{len(tasks)} background task{'s' if len(tasks) > 1 else ''}" if tasks else ""


def _all(states: Iterable[ServerState], name: str) -> set[Any]:
    return {item for state in states for item in getattr(state, name)}
