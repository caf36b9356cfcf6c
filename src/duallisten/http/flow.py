"""The common base of HTTP and WebSocket connections: flow control in both directions, and time-outs.

Receiving. Reading pauses while the application has enough data, or while other connections have their turn of the
event loop. When it resumes, bytes that were already received are used first.

Sending. The transport calls `pause_writing` when its write buffer exceeds the high-water mark. Senders wait then. A
peer that reads nothing for `send_seconds` is disconnected; a peer that reads slowly is not.

The end. A closed transport still sends its write buffer, however long the peer takes. So a closed connection has a
deadline, too. If a socket is closed with unread bytes of the peer, it sends a reset, which can destroy the last answer
(RFC 9112, 9.6). So we first close our sending half, and the rest a moment later. asyncio cannot half-close TLS.

Time. A timer for each request costs two heap operations, to set it and to cancel it, and nearly never fires. Here a
connection has a `deadline`, a plain number, which costs no more than to set an attribute. `Clock` checks all deadlines
a few times a second. A passed deadline is noticed up to one interval late, and never early. Setting a deadline needs
the current time, and asking the event loop for it is a call. So `Clock.now` is the time of the last check, and
`Clock.after` adds one interval to make up for its age.
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
"""The time for a peer to read our last answer, and to stop sending."""

NEVER = float("inf")

SHORTEST_LOOK = 0.02
LONGEST_LOOK = 0.5
"""The least and the most seconds between two checks of the deadlines."""


class Clock:
    """Checks the deadlines of connections.

    Args:
        loop: The event loop of the process.

    Attributes:
        now: The time of the last check, on the event loop's clock.
        interval: Seconds between two checks: a tenth of the shortest time-out, within bounds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._sets: list[Iterable[Any]] = []
        self._timer: asyncio.TimerHandle | None = None
        self.now = loop.time()
        self.interval = LONGEST_LOOK

    def watch(self, connections: Iterable[Any], time_outs: Iterable[float | None]) -> None:
        """Check `connections` from now on, as often as their time-outs (seconds) need.

        Connections without a `deadline` are skipped: those of a protocol class that the user provides.
        """
        shortest = min((seconds for seconds in time_outs if seconds), default=LONGEST_LOOK * 10)
        self.interval = min(self.interval, max(SHORTEST_LOOK, shortest / 10))
        if not any(connections is known for known in self._sets):
            self._sets.append(connections)
        if self._timer is None:
            self._look()

    def after(self, seconds: float | None) -> float:
        """Return the deadline `seconds` from now; `NEVER` for None."""
        return NEVER if seconds is None else self.now + self.interval + seconds

    def stop(self) -> None:
        """Stop checking deadlines."""
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
    """A protocol with flow control for reading and writing, and a deadline.

    Attributes:
        context: The state that the listener's connections share.
        transport: The transport.
        tls: The value of ASGI's `tls` extension; None without TLS.
        client: The client's address, as in an ASGI scope; None for a UNIX domain socket.
        deadline: When `expire` is called, on the event loop's clock; `NEVER` for no deadline.
        is_read_paused: Whether reading is paused.
        is_write_paused: Whether the transport's write buffer is full.
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
        self._unsent = 0  # size of the write buffer at the last check
        self._room: deque[asyncio.Future[None]] = deque()  # senders that wait for room

    # To be overridden by HTTP and WebSocket.

    def has_received(self) -> bool:
        """Whether received bytes wait to be used when reading resumes."""
        raise NotImplementedError

    def _go_on(self) -> None:
        """Use the received bytes, and resume reading if none are left."""
        raise NotImplementedError

    def _reading_has_changed(self) -> None:
        """Update the state after reading was paused or resumed."""

    def _set_deadline(self) -> None:
        """Set the deadline for the peer's next action; called when the write buffer has room again."""
        raise NotImplementedError

    # Receiving.

    def pause_reading(self) -> None:
        """Pause reading."""
        if not self.is_read_paused and not self.transport.is_closing():
            self.is_read_paused = True
            self.transport.pause_reading()
            self._reading_has_changed()

    def resume_reading(self) -> None:
        """Resume reading; bytes that were already received are used first."""
        if self.is_read_paused and self.has_received():
            self._schedule()
        else:
            self._resume()

    def _schedule(self) -> None:
        """Call `_go_on` in the next turn of the event loop."""
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
        """Make senders wait: the transport's write buffer is full."""
        self.is_write_paused = True
        self._give_time_to_send()

    def resume_writing(self) -> None:
        """Let senders continue."""
        if self.is_write_paused:
            self.is_write_paused = False
            self._set_deadline()
        while self._room:
            waiter = self._room.popleft()
            if not waiter.done():
                waiter.set_result(None)

    async def wait_for_room(self) -> None:
        """Wait until the transport's write buffer has room again."""
        while self.is_write_paused:
            waiter = self.context.loop.create_future()
            self._room.append(waiter)
            await waiter

    # Time, and the end.

    def _give_transport(self, protocol: Flow) -> None:
        """Replace this protocol on the transport by another one."""
        self.context.connections.discard(self)
        self.context.connections.add(protocol)
        self.transport.set_protocol(protocol)

    def _give_time_to_send(self) -> None:
        self._unsent = self.transport.get_write_buffer_size()
        self.deadline = self.context.clock.after(self.context.limits.send_seconds)

    def _is_stuck(self) -> bool:
        """Whether the write buffer has not shrunk since the last check; if it has, the deadline is extended."""
        if 0 < self.transport.get_write_buffer_size() < self._unsent:
            self._give_time_to_send()
            return False
        return True

    def _close_half(self) -> bool:
        """Close our sending half, and set a deadline to close the rest; return False if that is not possible."""
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
