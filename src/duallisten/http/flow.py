"""The flow of bytes on a connection, both ways, which HTTP and WebSocket have in common.

Receiving. Reading pauses while the application has enough, or while others have their turn of the event loop. What has
been received already is used first when it goes on.

Sending. A transport says when more waits to be sent than its high-water mark (`pause_writing`). Whoever sends waits
then. A peer that takes nothing for `send_seconds` is given up; one that takes a little at a time is not.

The end. A transport that is closed goes on sending what was written, for as long as the peer likes; so a closed
connection has a deadline, too. Closed with bytes of the peer unread, a socket sends a reset, which overtakes the last
answer (RFC 9112, 9.6). So our half is closed alone, and the rest a moment later. TLS has no halves in asyncio.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from typing import TYPE_CHECKING, Any

from duallisten.http.timeouts import NEVER

if TYPE_CHECKING:
    from duallisten.http.context import Context

logger = logging.getLogger("uvicorn.error")

TRACE = 5
"""uvicorn's level below DEBUG."""

LINGER_SECONDS = 1.0
"""The time for a peer to read our last words, and to stop sending."""


class Flow(asyncio.Protocol):
    """A protocol that need not take all that comes, and whose peer may be slow to read.

    Attributes:
        context: What the listener's connections share.
        transport: The transport.
        tls: What ASGI tells of TLS; None without it.
        client: The other end's address, as in a scope; None for a UNIX domain socket.
        deadline: See `timeouts.Timed`.
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
        """Have `_go_on` called in another turn of the event loop."""
        if not self._is_scheduled:
            self._is_scheduled = True
            self.context.loop.call_soon(self._go_on)

    def _resume(self) -> None:
        if self.is_read_paused and not self._is_scheduled:
            self.is_read_paused = False
            if not self.transport.is_closing():
                self.transport.resume_reading()
            self._reading_has_changed()

    def _reading_has_changed(self) -> None:
        """Hear that reading was paused, or goes on."""

    def has_received(self) -> bool:
        """Whether there is something that was received, and can be used when reading goes on."""
        raise NotImplementedError

    def _go_on(self) -> None:
        """Use what was received, and read again if that is used up."""
        raise NotImplementedError

    # Sending.

    def pause_writing(self) -> None:
        """Have whoever sends wait: the peer does not take what we write fast enough."""
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
        """Close our half, and give the peer a moment; return False where there are no halves."""
        transport = self.transport
        if transport.is_closing() or self.tls is not None or not transport.can_write_eof():
            return False
        transport.write_eof()
        self.deadline = self.context.clock.after(LINGER_SECONDS)
        return True

    def _set_deadline(self) -> None:
        """Set the deadline anew: for what the peer is to do, now that it reads again."""
        raise NotImplementedError

    def _trace(self, message: str) -> None:
        if logger.level <= TRACE and logger.isEnabledFor(TRACE):
            prefix = "{}:{} - ".format(*self.client) if self.client else ""
            logger.log(TRACE, "%s%s", prefix, message)
