"""What HTTP and WebSocket have in common: the flow of bytes on a connection, both ways, and time-outs.

Receiving. Reading pauses while the application has enough, or while others have their turn of the event loop. What has
been received already is used first when it goes on.

Sending. A transport says when more waits to be sent than its high-water mark (`pause_writing`). Whoever sends waits
then. A peer that takes nothing for `send_seconds` is given up; one that takes a little at a time is not.

The end. A transport that is closed goes on sending what was written, for as long as the peer likes; so a closed
connection has a deadline, too. Closed with bytes of the peer unread, a socket sends a reset, which overtakes the last
answer (RFC 9112, 9.6). So our half is closed alone, and the rest a moment later. TLS has no halves in asyncio.

Time. A timer for each request costs a heap operation when it is set and another when it is cancelled, for something
that nearly never happens. Here a connection has a `deadline`, a plain number that it sets for the price of an
attribute, and `Clock` looks at all of them a few times a second. A deadline is met late by up to one look, and never
early. Setting one needs the time, and asking the event loop for it is a call. So `Clock.now` is the time of the last
look, and `Clock.after` makes up for its age.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duallisten.http.context import Context

logger = logging.getLogger("uvicorn.error")

TRACE = 5
"""uvicorn's level below DEBUG."""

LINGER_SECONDS = 1.0
"""The time for a peer to read our last words, and to stop sending."""

NEVER = float("inf")

SHORTEST_LOOK = 0.02
LONGEST_LOOK = 0.5
"""Seconds between two looks at the deadlines."""


class Clock:
    """Looks at the deadlines of connections.

    Args:
        loop: The event loop of the process.

    Attributes:
        now: The time of the last look, on the event loop's clock.
        interval: Seconds between two looks: a tenth of the shortest time-out, within bounds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._sets: list[Iterable[Any]] = []
        self._timer: asyncio.TimerHandle | None = None
        self.now = loop.time()
        self.interval = LONGEST_LOOK

    def watch(self, connections: Iterable[Any], time_outs: Iterable[float | None]) -> None:
        """Look at `connections` from now on, as often as their time-outs (seconds) need it.

        Those that have no `deadline` are left alone: a protocol class that the user brings has connections there, too.
        """
        shortest = min((seconds for seconds in time_outs if seconds), default=LONGEST_LOOK * 10)
        self.interval = min(self.interval, max(SHORTEST_LOOK, shortest / 10))
        if not any(connections is known for known in self._sets):
            self._sets.append(connections)
        if self._timer is None:
            self._look()

    def after(self, seconds: float | None) -> float:
        """Return the deadline for what may take `seconds` from now on; None is `NEVER`."""
        return NEVER if seconds is None else self.now + self.interval + seconds

    def stop(self) -> None:
        """Look no more."""
        self._sets.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = self._loop.call_later(self.interval, self._look)
        self.now = now = self._loop.time()
        for connections in self._sets:
            for late in [one for one in connections if getattr(one, "deadline", NEVER) <= now]:
                late.expire()


class Flow(asyncio.Protocol):
    """A protocol that need not take all that comes, and whose peer may be slow to read.

    Attributes:
        context: What the listener's connections share.
        transport: The transport.
        tls: What ASGI tells of TLS; None without it.
        client: The other end's address, as in a scope; None for a UNIX domain socket.
        deadline: When `expire` is called, on the event loop's clock; `NEVER` for not at all.
        is_read_paused: Whether nothing more is read for now.
        is_write_paused: Whether the peer does not take what we write fast enough.
    """

    __slots__ = (
        "_is_scheduled",
        "_room",
        "_unsent",
        "client",
        "context",
        "deadline",
        "is_read_paused",
        "is_write_paused",
        "tls",
        "transport",
    )

    transport: asyncio.Transport

    def __init__(self, context: Context) -> None:
        self.context = context
        self.client: tuple[str, int] | None = None
        self.tls: dict[str, Any] | None = None
        self.deadline = NEVER
        self.is_read_paused = self.is_write_paused = False
        self._is_scheduled = False  # `_go_on` will be called
        self._unsent = 0  # bytes that waited to be sent when that was last looked at
        self._room: deque[asyncio.Future[None]] = deque()  # who waits for room

    # What HTTP and WebSocket do in their own way.

    def has_received(self) -> bool:
        """Whether there is something that was received, and can be used when reading goes on."""
        raise NotImplementedError

    def _go_on(self) -> None:
        """Use what was received, and read again if that is used up."""
        raise NotImplementedError

    def _reading_has_changed(self) -> None:
        """Do what is due when reading was paused, or goes on."""

    def _set_deadline(self) -> None:
        """Set the deadline anew: for what the peer is to do, now that it reads again."""
        raise NotImplementedError

    # Receiving.

    def pause_reading(self) -> None:
        """Read nothing more for now."""
        if not self.is_read_paused and not self.transport.is_closing():
            self.is_read_paused = True
            self.transport.pause_reading()
            self._reading_has_changed()

    def resume_reading(self) -> None:
        """Read again, if reading was paused: first what has come already, then what the peer sends."""
        if self.is_read_paused and self.has_received():
            self._schedule()
        else:
            self._resume()

    def _schedule(self) -> None:
        """Call `_go_on` in another turn of the event loop."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self.context.loop.call_soon(self._go_on)

    def _resume(self) -> None:
        if self.is_read_paused and not self._is_scheduled:
            self.is_read_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()
            self._reading_has_changed()

    # Sending.

    def pause_writing(self) -> None:
        """Let whoever sends wait: the peer does not take what we write fast enough."""
        self.is_write_paused = True
        self._give_time_to_send()

    def resume_writing(self) -> None:
        """Let whoever sends go on."""
        if self.is_write_paused:
            self.is_write_paused = False
            self._set_deadline()
        while self._room:
            waiter = self._room.popleft()
            if not waiter.done():
                waiter.set_result(None)

    async def wait_for_room(self) -> None:
        """Wait until the peer has taken enough of what was written."""
        while self.is_write_paused:
            waiter = self.context.loop.create_future()
            self._room.append(waiter)
            await waiter

    # Time, and the end.

    def _give_transport(self, protocol: Flow) -> None:
        """Let another protocol go on in the place of this one."""
        self.context.connections.discard(self)
        self.context.connections.add(protocol)
        self.transport.set_protocol(protocol)

    def _give_time_to_send(self) -> None:
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = self.context.clock.after(self.context.limits.send_seconds)

    def _is_stuck(self) -> bool:
        """Whether the peer has taken nothing since the last look; if it has, it gets more time."""
        if 0 < self.transport.get_write_buffer_size() < self._unsent:
            self._give_time_to_send()
            return False
        return True

    def _close_half(self) -> bool:
        """Close our half, and leave the peer a moment; return False where there are no halves."""
        transport = self.transport
        if transport.is_closing() or self.tls is not None or not transport.can_write_eof():
            return False
        transport.write_eof()
        self.deadline = self.context.clock.after(LINGER_SECONDS)
        return True

    def _trace(self, message: str) -> None:
        if logger.level <= TRACE and logger.isEnabledFor(TRACE):
            prefix = "{}:{} - ".format(*self.client) if self.client else ""
            logger.log(TRACE, "%s%s", prefix, message)
