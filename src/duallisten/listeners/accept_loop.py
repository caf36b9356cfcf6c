"""Accepting: a listening socket's connections, taken out of its queue as long as there is room for them.

asyncio's and uvloop's own servers are not used for this, for neither leaves a connection in the queue when there is no
descriptor for it (EMFILE). asyncio logs a traceback for each of as many attempts as the backlog is long, at once,
and rests for a second; libuv closes a descriptor that it has kept for this, accepts with it and *closes* all that
waits, on every listener. Here both loops do the same: the socket is not looked at for `PAUSE`, and what waits, waits.
That is measured to cost what theirs costs.

Waiting in the kernel's queue, and not an answer or a close, is what a connection above `--limit-connections` gets,
too: nothing that a client sent is lost, a router does not take the process for a dead one, and a full queue slows down
a flood by itself.

No peer can use up the descriptors of a process, whichever side it comes in on:

- The last `RESERVE` descriptors are the application's. No listener takes them.
- The `CONTESTED` before them go to the side that has less than its share. A side's share is half of the descriptors
  that connections can have: all that neither the reserve nor the application's own files take. While descriptors are
  this few, a listener whose side has its share waits, and the other goes on.
- With more descriptors free than that, either side may hold as many as come. When they become few, it holds what it
  has, and those that end are the other side's.

The facts it rests on:

- accept(2) gives the lowest descriptor that is free. So its number tells, at no cost, how many are in use at least,
  and above `CONTESTED` and `RESERVE` nothing has to be counted.
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
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

from duallisten.logs import RateLimiter

logger = logging.getLogger("uvicorn.error")

NO_LIMIT = sys.maxsize
"""Stands for none where a number is compared with."""

BATCH = 64
"""Connections that are accepted before the event loop goes on to something else."""

PAUSE = 0.1
"""Seconds before the next look whether there are descriptors again."""

RESERVE = 64
"""Descriptors that listeners leave to the application; an eighth of all where there are few."""

CONTESTED = 128
"""Descriptors before the reserve, for the side that has less than its share; a quarter of all where there are few."""

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


class ConnectionLimit:
    """The room that a listener has for connections, and who waits for it.

    Args:
        limit: How many may be open at a time.
        count: Returns how many are.
    """

    def __init__(self, limit: int, count: Callable[[], int]) -> None:
        self.limit = limit
        self._count = count
        self.arriving = 0  # accepted, and not yet among the connections
        self._waiting: list[Callable[[], None]] = []

    @property
    def taken(self) -> int:
        """How many connections are open, or about to be."""
        return self._count() + self.arriving

    @property
    def is_full(self) -> bool:
        """Whether there is room for no further connection."""
        return self.taken >= self.limit

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


class PeerLimit:
    """How many connections one peer may have on a listener.

    Args:
        limit: How many may be open at a time, from one address.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._open: dict[str, int] = {}

    def admits(self, host: str | None) -> bool:
        """Whether a peer may have one more; always for one without an address (a UNIX domain socket)."""
        return host is None or self._open.get(host, 0) < self.limit

    def add(self, host: str | None) -> None:
        """Count a connection."""
        if host is not None:
            self._open[host] = self._open.get(host, 0) + 1

    def remove(self, host: str | None) -> None:
        """Count one less."""
        if host is not None and host in self._open:
            self._open[host] -= 1
            if not self._open[host]:
                del self._open[host]


class Supply(NamedTuple):
    """The descriptors of a process, by the numbers that accept(2) gives.

    Attributes:
        limit: How many this process may have (RLIMIT_NOFILE).
    """

    limit: int

    @property
    def end(self) -> int:
        """The first of the application's reserve."""
        return self.limit - min(RESERVE, self.limit // 8)

    @property
    def contested(self) -> int:
        """The first that only a side with less than its share takes."""
        return self.end - min(CONTESTED, self.limit // 4)

    def refuses(self, used: int, count: int, total: int) -> str:
        """Say why a side may take no further descriptor.

        Args:
            used: How many are in use.
            count: How many of them are connections of the side.
            total: How many of them are connections of any side.

        Returns:
            The reason, for a log line; empty where it may take one.
        """
        if used < self.contested:
            return ""
        if used >= self.end:
            return f"few file descriptors are left ({used} of {self.limit} are in use)"
        share = (self.end - (used - total)) // 2
        if count < share:
            return ""
        return f"few file descriptors are left ({used} of {self.limit} are in use), and its side has {count} of them"


class AcceptLoop:
    """A listening socket that the event loop accepts from.

    Args:
        sock: The socket, bound and listening.
        take: Takes an accepted connection, not blocking, and its peer's address.
        room: What there must be room in; None where there is no limit.
        count: Returns how many connections the side has. It must include those that have been taken and are about to
            be open, as in a TLS handshake, or a flood takes the other side's share before it is counted. None where
            there is no other side, or where both share the socket: then only the reserve is left alone.
        total: Returns how many connections all sides have together; goes with `count`.
    """

    def __init__(
        self,
        sock: socket.socket,
        take: Callable[[socket.socket, Any], None],
        *,
        room: ConnectionLimit | None = None,
        count: Callable[[], int] | None = None,
        total: Callable[[], int] | None = None,
    ) -> None:
        self._socket = sock
        self._take = take
        self._room = room
        self._count = count or (lambda: 0)
        self._total = total or self._count
        self._supply = Supply(0)
        self._contested = 0
        self._paused: asyncio.TimerHandle | None = None
        self._throttle = RateLimiter()
        self._loop = asyncio.get_running_loop()
        self._serving = False

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The socket, while it is served: as `asyncio.Server` has it."""
        return (self._socket,) if self._serving else ()

    def is_serving(self) -> bool:
        """Whether it accepts, or waits for room to."""
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
            used = connection.fileno() + 1  # 0 where it has been closed already
            if used >= self._contested and (reason := self._shortage(used)):
                self._pause(reason)
                return

    def _shortage(self, used: int) -> str:
        """Say why a connection more is too many for the descriptors that are left; empty where it is not."""
        return self._supply.refuses(used, self._count(), self._total())

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
        self._supply = Supply(descriptor_limit())
        self._contested = self._supply.contested
        if self._shortage(_lowest_free(self._socket)):
            self._paused = self._loop.call_later(PAUSE, self._resume)
        else:
            self._loop.add_reader(self._socket, self._accept)


def descriptor_limit() -> int:
    """Return how many descriptors this process may have."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft if soft != resource.RLIM_INFINITY else 1 << 30


def _lowest_free(sock: socket.socket) -> int:
    """Return which descriptor would be given next; beyond all where there is none."""
    try:
        free = os.dup(sock.fileno())
    except OSError:
        return 1 << 30
    os.close(free)
    return free
