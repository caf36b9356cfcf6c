"""Request heads that do not come to an end: their connections are closed.

uvicorn limits how long a connection may be idle after a response (keep-alive), not how long a peer may take to send a
head: one that says nothing, or a byte at a time, is kept for ever. Here all connections of a side are looked at once in
a while, in uvicorn's own tick; a request costs nothing, and there is no timer for each connection.

A peer is expected to send a head when no request of it is in hand and uvicorn's keep-alive timer does not run: that is
so from the beginning, and after a response from the next byte on. The same holds for what is left of a body that the
application did not wait for. A head that has come whole makes a new `cycle`; so a peer that is found waited for twice
with the same `cycle` has not completed one in between. It must never close a connection with a request in hand, an
idle one, or a WebSocket; nor any before its time: the clock starts when a look first finds it, which is late by up to a
look's interval.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from uvicorn.server import ServerState

from duallisten.throttle import Throttle

logger = logging.getLogger("uvicorn.error")

GOODBYE = 1.0
"""Seconds until a closed connection is aborted, whose peer does not take what is still to be sent."""


class HeadWatch:
    """Closes the connections of one side whose peers take too long.

    seconds: how long a head may take
    """

    def __init__(self, state: ServerState, seconds: float) -> None:
        self._state = state
        self._seconds = seconds
        self._interval = min(1.0, seconds / 10)
        self._next_look = float("-inf")
        self._throttle = Throttle()  # its lines tell of all that were closed meanwhile
        self._waited_for: dict[Any, tuple[Any, float]] = {}  # since when, by connection, with its `cycle` then
        self._closed = 0

    def look(self, loop: asyncio.AbstractEventLoop) -> None:
        """Look at all connections, if it is time to."""
        now = loop.time()
        if now < self._next_look:
            return
        self._next_look = now + self._interval
        before, self._waited_for = self._waited_for, {}
        late: list[asyncio.Transport] = []
        connections: set[Any] = self._state.connections
        for connection in connections:
            if not _is_waited_for(connection):
                continue
            cycle, since = before.get(connection, (None, now))
            if cycle is not connection.cycle:
                since = now
            if now - since < self._seconds:
                self._waited_for[connection] = connection.cycle, since
            elif not connection.transport.is_closing():
                late.append(connection.transport)
        self._close(late, loop)

    def _close(self, late: list[asyncio.Transport], loop: asyncio.AbstractEventLoop) -> None:
        for transport in late:
            transport.close()
        if late:
            loop.call_later(GOODBYE, _abort, late)
        self._closed += len(late)
        if self._closed and self._throttle.lets_through(loop.time()):
            logger.warning("Closed %d connection(s) without a whole request in %g s", self._closed, self._seconds)
            self._closed = 0


def _is_waited_for(connection: Any) -> bool:
    """Tell whether a peer is expected to send a head; never so for a protocol that is not uvicorn's HTTP/1.1."""
    try:
        cycle = connection.cycle
        return connection.timeout_keep_alive_task is None and (cycle is None or cycle.response_complete)
    except AttributeError:
        return False


def _abort(transports: list[asyncio.Transport]) -> None:
    for transport in transports:
        transport.abort()
