"""Draining: the connections of a process end, and no request is lost that was accepted.

The facts it rests on:

- `shutdown()` of a connection closes it at once when no request is in hand, also one that was accepted a moment ago and
  whose request is still in flight; that request would be reset. So a connection without a request in hand is given
  `LINGER` to show one, and is not closed while bytes that nobody has read yet wait in its socket.
- A connection whose end fails is cut, so that nobody waits for it.
- A response that starts during the drain must say `Connection: close` (RFC 9112, 9.6). The engine does so while its
  context `is_ending`. uvicorn's own protocols take a connection's end from that header among their default headers.
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

_KINDS = {"http": "request", "websocket": "WebSocket"}


class Steps:
    """The steps of a shutdown, each on its own: what one raises is logged, and the next ones run.

    Attributes:
        failed: How many have failed.
    """

    def __init__(self) -> None:
        self.failed = 0

    @contextmanager
    def step(self, what: str) -> Iterator[None]:
        """Run one step, the body of a `with` statement; what it was to do is for the log."""
        try:
            yield
        except Exception:
            self.failed += 1
            logger.exception("Shutdown step failed: %s; continuing the shutdown", what)

    def shut_down(self, connection: Any) -> None:
        """End a connection after the request in hand, or cut it where that fails."""
        before = self.failed
        with self.step("end a connection"):
            connection.shutdown()
        if self.failed > before:
            self.cut(connection)

    def cut(self, connection: Any) -> None:
        """Close a connection at once."""
        with self.step("cut a connection"):
            if (transport := getattr(connection, "transport", None)) is not None:
                transport.abort()


def end_requests(states: Iterable[ServerState], steps: Steps) -> None:
    """End every WebSocket, and every connection that has a request in hand after that request."""
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

    began: when the shutdown began, of the event loop's clock
    seconds: how long after that what is left is cut; infinite for never
    forced: whether a second signal has asked to end at once
    handshakes: of TLS connections, which are not among those of `states` yet
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
            await asyncio.wait(tasks, timeout=CLOSE_TIMEOUT)  # what they clean up may need the application
        for connection in _all(states, "connections"):
            steps.cut(connection)
    finally:
        for handshake in tuple(handshakes):
            handshake.cancel()


async def _end_connections(
    states: list[ServerState], handshakes: Collection[asyncio.Task[None]], steps: Steps, forced: Callable[[], bool]
) -> None:
    """End connections with a request in hand after it, and idle ones when `LINGER` is over."""
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
    """End connections with a request in hand after it, those included whose request comes within `LINGER`.

    told: those that were ended; they are added
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
    """Say how many of what have not ended in time, and whose they are."""
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
    """Return the requests of a connection, or its WebSocket; none, where it is of a protocol of the user's."""
    websocket = getattr(connection, "websocket", None)
    return [*exchanges_of(connection)] or ([] if websocket is None else [websocket])


def _who(connections: Collection[Any]) -> str:
    """Name connections by their clients, and what was asked on them; a few of many."""
    named: list[str] = []
    for connection in list(connections)[:NAMED]:
        client = getattr(connection, "client", None)
        exchanges = _exchanges_of(connection)
        asked = "".join(f" ({one.scope.get('method', 'WebSocket')} {one.scope['path']})" for one in exchanges[:NAMED])
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
