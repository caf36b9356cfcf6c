"""The accept loop: takes connections out of a listening socket's queue as long as there is room for them.

asyncio's and uvloop's own servers are not used, because neither leaves a connection in the queue when no descriptor is
left for it (EMFILE). asyncio logs a traceback for each of as many attempts as the backlog is long, at once, and rests
for a second. libuv closes a descriptor that it has kept for this, accepts with it and *closes* all that waits, on every
listener. Here the socket is not looked at for `PAUSE`, and what waits, waits. Measured, it costs what theirs costs.

A connection above `--limit-connections` waits in the kernel's queue, too. It gets no answer and is not closed: nothing
that a client sent is lost, a router does not take the process for a dead one, and a full queue slows a flood down.

Facts it rests on:

- accept(2) gives the lowest descriptor that is free. So its number says, at no cost, how many are in use at least, and
  nothing has to be counted while many are left.
- accept(2) also reports errors of the network that came before it (`GONE`); the next connection may be in order.

Invariants: no peer can use up the descriptors of a process, whichever side it comes in on.

- The last `RESERVE` descriptors are the application's. No listener takes them.
- The `CONTESTED` before them go to the side that has less than its share. A side's share is half of the descriptors
  that connections can have: all that neither the reserve nor the application's own files take. A listener whose side
  has its share waits, and the other goes on.
- With more descriptors free than that, either side may hold as many as come. When they become few it keeps what it
  has, and those that end are the other side's.
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
"""Stands for a limit that is not set."""

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
    """How many connections a side may have, in all and of one peer, and who waits for room.

    Args:
        count: Returns how many are open.
        limit: How many may be open at a time; None for any number.
        per_peer: How many of them may be of one address; None for any number.
    """

    def __init__(self, count: Callable[[], int], limit: int | None = None, per_peer: int | None = None) -> None:
        self._count = count
        self._limit = NO_LIMIT if limit is None else limit
        self._per_peer = per_peer
        self._arriving = 0  # accepted, and not yet among the open ones
        self._of_peer: dict[str, int] = {}
        self._waiting: list[Callable[[], None]] = []

    @property
    def is_set(self) -> bool:
        """Whether there is any limit."""
        return self._limit != NO_LIMIT or self._per_peer is not None

    @property
    def taken(self) -> int:
        """How many connections are open, or about to be."""
        return self._count() + self._arriving

    @property
    def free(self) -> int:
        """How many more there is room for."""
        return self._limit - self.taken

    @property
    def is_full(self) -> bool:
        """Whether there is room for no further connection."""
        return self._count() + self._arriving >= self._limit

    def refuses(self, host: str | None) -> str:
        """Return why there is no room for a connection of a peer; empty where there is.

        Args:
            host: The peer's address; None for a UNIX domain socket, whose peers are not told apart.
        """
        return f"{self._limit} connections are open (--limit-connections)" if self.is_full else self.refuses_peer(host)

    def refuses_peer(self, host: str | None) -> str:
        """Return why a peer has no room for a connection that has a place already; empty where it has."""
        if self._per_peer is not None and host is not None and self._of_peer.get(host, 0) >= self._per_peer:
            return f"{self._per_peer} connections of this peer are open (--limit-connections-per-peer)"
        return ""

    def enter(self, host: str | None) -> None:
        """Count a connection that was accepted and is yet to be opened; None where its peer is not known yet."""
        self._arriving += 1
        self.enter_peer(host)

    def enter_peer(self, host: str | None) -> None:
        """Count a connection among those of its peer."""
        if self._per_peer is not None and host is not None:
            self._of_peer[host] = self._of_peer.get(host, 0) + 1

    def settle(self) -> None:
        """Stop counting a connection as yet to be opened: it is open now, or it has failed."""
        self._arriving -= 1
        self.notify()

    def leave(self, host: str | None) -> None:
        """Make room where a connection was."""
        if host is not None and host in self._of_peer:
            self._of_peer[host] -= 1
            if not self._of_peer[host]:
                del self._of_peer[host]
        self.notify()

    def lift(self) -> None:
        """Make room for all that come from now on: they are the last."""
        self._limit = NO_LIMIT
        self.notify()

    def wait(self, resume: Callable[[], None]) -> None:
        """Call `resume` when there may be room again."""
        self._waiting.append(resume)

    def notify(self) -> None:
        """Call those that wait, in the loop's next turn: a WebSocket leaves and enters again in one."""
        if self._waiting:
            loop = asyncio.get_running_loop()
            for resume in self._waiting:
                loop.call_soon(resume)
            self._waiting.clear()


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
        """Return why a side may take no further descriptor, for a log line; empty where it may.

        Args:
            used: How many are in use.
            count: How many of them are connections of the side.
            total: How many of them are connections of any side.
        """
        if used < self.contested:
            return ""
        few = f"nearly out of file descriptors: {used} of {self.limit} are in use"
        if used >= self.end:
            return few
        return f"{few}, {count} of them by this side" if count >= (self.end - (used - total)) // 2 else ""


class AcceptLoop:
    """A listening socket that the event loop accepts from; it has the names of an `asyncio.Server`.

    Args:
        sock: The socket, bound and listening.
        take: Takes an accepted connection, not blocking, and its peer's address.
        total: Returns how many connections all sides have together, those included that are about to be open, as in
            a TLS handshake, or a flood takes the other side's share before it is counted.
        limit: The connections of the socket's side. None where both sides share the socket: whose a connection is
            shows only when it is accepted, so none waits, and of the descriptors only the reserve is left alone.
    """

    def __init__(
        self,
        sock: socket.socket,
        take: Callable[[socket.socket, Any], None],
        total: Callable[[], int],
        limit: ConnectionLimit | None = None,
    ) -> None:
        self._socket = sock
        self._take = take
        self._limit = limit
        self._total = total
        self._supply = Supply(0)
        self._contested = 0
        self._paused: asyncio.TimerHandle | None = None
        self._throttle = RateLimiter()
        self._loop = asyncio.get_running_loop()
        self._serving = False

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The socket, while it is served."""
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

    async def wait_closed(self) -> None:
        """Return: nothing of it outlives `close`."""

    def lift_limit(self) -> None:
        """Accept what waits in the queue, however many are open: when it is closed, they would be reset."""
        if self._limit is not None:
            self._limit.lift()

    def _accept(self) -> None:
        for _ in range(BATCH):
            if self._limit is not None and self._limit.is_full:
                self._loop.remove_reader(self._socket)
                self._limit.wait(self._resume)
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
        """Return why a connection more is too many for the descriptors that are left; empty where it is not."""
        count = self._limit.taken if self._limit is not None else 0
        return self._supply.refuses(used, count, self._total())

    def _pause(self, reason: str) -> None:
        self._loop.remove_reader(self._socket)
        self._paused = self._loop.call_later(PAUSE, self._resume)
        if self._throttle.lets_through(self._loop.time()):
            logger.error("Pausing accept on %s for %g s: %s", self._socket.getsockname(), PAUSE, reason)

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
