"""Accepting: a listening socket's connections, taken out of its queue as long as there is room for them.

asyncio's and uvloop's own servers are not used for this, for neither leaves a connection in the queue when there is no
descriptor for it (EMFILE). asyncio logs a traceback for each of as many attempts as the backlog is long, at once,
and rests for a second; libuv closes a descriptor that it has kept for this, accepts with it and *closes* all that
waits, on every listener. Here both loops do the same: the socket is not looked at for `PAUSE`, and what waits, waits.
That is measured to cost what theirs costs.

Waiting in the kernel's queue, and not an answer or a close, is what a connection above `--limit-connections` gets,
too: nothing that a client sent is lost, a router does not take the process for a dead one, and a full queue slows down
a flood by itself.

The facts it rests on:

- accept(2) gives the lowest descriptor that is free. So a high number tells, at no cost, that few are left, and the
  public listener stops `RESERVE` short of the end; what remains is for the private one, and for the application.
- It also reports errors of the network that came before it (`GONE`); then the next connection may be in order.
- All of a process's listeners accept in turns of `BATCH`, so that a flood of one leaves the other its turn.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import resource
import socket
from collections.abc import Callable
from typing import Any

from duallisten.limits import NO_LIMIT
from duallisten.throttle import Throttle

logger = logging.getLogger("uvicorn.error")

BATCH = 64
"""Connections that are accepted before the event loop goes on to something else."""

PAUSE = 0.1
"""Seconds before the next look whether there are descriptors again."""

RESERVE = 64
"""Descriptors that the public listener leaves to others; an eighth of them where there are few."""

GONE = frozenset(
    {
        errno.ECONNABORTED,
        errno.ENETDOWN,
        errno.EPROTO,
        errno.ENOPROTOOPT,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.EOPNOTSUPP,
        errno.ENETUNREACH,
        errno.EPERM,
    }
)
"""Errors of one connection, not of the socket (accept(2))."""


class Room:
    """The room that a listener has for connections, and who waits for it.

    limit: how many may be open at a time
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.connections = Connections(self)
        self.arriving = 0  # accepted, and not yet among the connections
        self._waiting: list[Callable[[], None]] = []

    @property
    def is_full(self) -> bool:
        """Whether there is room for no further connection."""
        return len(self.connections) + self.arriving >= self.limit

    def wait(self, resume: Callable[[], None]) -> None:
        """Have `resume` called when there may be room again."""
        self._waiting.append(resume)

    def lift(self) -> None:
        """Have room for all that come from now on: they are the last."""
        self.limit = NO_LIMIT
        self.tell()

    def tell(self) -> None:
        """Tell those that wait, in the loop's next turn: a WebSocket leaves and enters again in one."""
        if self._waiting:
            loop = asyncio.get_running_loop()
            for resume in self._waiting:
                loop.call_soon(resume)
            self._waiting.clear()


class Connections(set[Any]):
    """The connections of a uvicorn `ServerState`, which tell when one of them has ended."""

    def __init__(self, room: Room) -> None:
        super().__init__()
        self._room = room

    def discard(self, connection: Any) -> None:
        """Remove an HTTP connection, which has ended or will be back at once as a WebSocket."""
        super().discard(connection)
        self._room.tell()

    def remove(self, connection: Any) -> None:
        """Remove a WebSocket, which has ended."""
        super().remove(connection)
        self._room.tell()


class ListeningSocket:
    """A listening socket that the event loop accepts from.

    take: takes an accepted connection, not blocking, and its peer's address
    room: what there must be room in; None where there is no limit
    keeps_reserve: whether it leaves the last descriptors to others
    """

    def __init__(
        self,
        sock: socket.socket,
        take: Callable[[socket.socket, Any], None],
        *,
        room: Room | None = None,
        keeps_reserve: bool = False,
    ) -> None:
        self._socket = sock
        self._take = take
        self._room = room
        self._keeps_reserve = keeps_reserve
        self._ceiling = 0
        self._paused: asyncio.TimerHandle | None = None
        self._throttle = Throttle()
        self._loop = asyncio.get_running_loop()
        self._serving = False

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The socket, while it is served: as `asyncio.Server` has it."""
        return (self._socket,) if self._serving else ()

    def is_serving(self) -> bool:
        """Tell whether it accepts, or waits for room to."""
        return self._serving

    async def start_serving(self) -> None:
        """Accept from now on; the socket listens already."""
        self._socket.setblocking(False)
        self._serving = True
        self._resume()

    def close(self) -> None:
        """Stop accepting, and close the socket."""
        if self._serving:
            self._serving = False
            self._loop.remove_reader(self._socket)
            if self._paused is not None:
                self._paused.cancel()
            self._socket.close()

    def lift_limit(self) -> None:
        """Accept what waits in the queue, however many are open: when it is closed, they would be reset."""
        if self._room is not None:
            self._room.lift()

    async def wait_closed(self) -> None:
        """Return: nothing of it outlives `close`."""

    def _accept(self) -> None:
        for _ in range(BATCH):
            if self._room is not None and self._room.is_full:
                self._loop.remove_reader(self._socket)
                self._room.wait(self._resume)
                return
            try:
                connection, peer = self._socket.accept()
            except (BlockingIOError, InterruptedError):
                return
            except OSError as error:
                if error.errno in GONE:
                    continue
                self._pause(error.strerror or str(error))
                return
            connection.setblocking(False)
            self._take(connection, peer)
            if connection.fileno() >= self._ceiling:
                self._pause("few file descriptors are left")
                return

    def _pause(self, reason: str) -> None:
        self._loop.remove_reader(self._socket)
        self._paused = self._loop.call_later(PAUSE, self._resume)
        if self._throttle.lets_through(self._loop.time()):
            logger.error("Not accepting on %s for now: %s", self._socket.getsockname(), reason)

    def _resume(self) -> None:
        """Accept again, or wait on where there are still no descriptors."""
        self._paused = None
        if not self._serving:
            return
        self._ceiling = _ceiling() if self._keeps_reserve else descriptor_limit()
        if _lowest_free(self._socket) < self._ceiling:
            self._loop.add_reader(self._socket, self._accept)
        else:
            self._paused = self._loop.call_later(PAUSE, self._resume)


def descriptor_limit() -> int:
    """Tell how many descriptors this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 30


def _ceiling() -> int:
    """Tell from which descriptor on the reserve begins."""
    limit = descriptor_limit()
    return limit - min(RESERVE, limit // 8)


def _lowest_free(sock: socket.socket) -> int:
    """Tell which descriptor would be given next; beyond all where there is none."""
    try:
        free = os.dup(sock.fileno())
    except OSError:
        return 1 << 30
    os.close(free)
    return free
