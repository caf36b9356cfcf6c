"""The accept loop: takes connections out of a listening socket's queue as long as there is room for them.

The servers of asyncio and uvloop are not used, because neither leaves a connection in the queue when the process has no
free descriptor (EMFILE). asyncio tries as many times as the backlog is long, logs a traceback for each attempt, and
then waits a second. libuv closes a spare descriptor, accepts with it and *closes* all waiting connections, on every
listener. This loop ignores the socket for `PAUSE`, and the connections stay in the queue. Measured, it costs the same.

A connection above `--limit-connections` stays in the kernel's queue, too. It gets no answer and is not closed. So no
data of a client is lost, a router does not think that the process is dead, and a full queue slows a flood down.

Facts it rests on:

- accept(2) returns the lowest free descriptor. So its number is a lower bound of how many are in use, at no cost.
  Nothing has to be counted while many are free.
- accept(2) also reports earlier network errors of the connection (`GONE`). The next connection may be fine.

Invariants: no peer can use up the descriptors of a process, on either side.

- The last `RESERVE` descriptors are the application's. No listener takes them.
- The `CONTESTED` descriptors before them go to the side that has less than its share. A side's share is half of the
  descriptors that connections can have: all but the reserve and the application's own files. A listener whose side has
  its share waits, and the other one accepts.
- While more descriptors are free, each side may use as many as it needs. When few are left, a side keeps those it has.
  The descriptors of its closed connections go to the other side.
- All listeners of a process accept in turns of `BATCH`, so a flood on one listener does not block the other.
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
"""The value of a limit that is not set."""

BATCH = 64
"""How many connections are accepted in one turn of the event loop."""

PAUSE = 0.1
"""Seconds until the next check for free descriptors."""

RESERVE = 64
"""Descriptors that listeners leave to the application; at most an eighth of all."""

CONTESTED = 128
"""Descriptors before the reserve, for the side that has less than its share; at most a quarter of all."""

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
    """The limits of a side's connections, in all and per peer, and the accept loops that wait for room.

    Args:
        count: Returns how many connections are open.
        limit: How many may be open at a time; None for no limit.
        per_peer: How many may be open at a time per address; None for no limit.
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
        """How many connections are open or being opened."""
        return self._count() + self._arriving

    @property
    def free(self) -> int:
        """How many more connections may be opened."""
        return self._limit - self.taken

    @property
    def is_full(self) -> bool:
        """Whether no further connection may be opened."""
        return self._count() + self._arriving >= self._limit

    def refuses(self, host: str | None) -> str:
        """Return why a connection of a peer is refused; empty where it is accepted.

        Args:
            host: The peer's address; None for a UNIX domain socket, whose peers cannot be told apart.
        """
        return f"{self._limit} connections are open (--limit-connections)" if self.is_full else self.refuses_peer(host)

    def refuses_peer(self, host: str | None) -> str:
        """Return why the peer's own limit refuses a connection; empty where it does not."""
        if self._per_peer is not None and host is not None and self._of_peer.get(host, 0) >= self._per_peer:
            return f"{self._per_peer} connections of this peer are open (--limit-connections-per-peer)"
        return ""

    def enter(self, host: str | None) -> None:
        """Count a connection that was accepted and is not open yet; None where its peer is not known yet."""
        self._arriving += 1
        self.enter_peer(host)

    def enter_peer(self, host: str | None) -> None:
        """Count a connection among those of its peer."""
        if self._per_peer is not None and host is not None:
            self._of_peer[host] = self._of_peer.get(host, 0) + 1

    def settle(self) -> None:
        """Stop counting a connection as being opened: it is open now, or it has failed."""
        self._arriving -= 1
        self.notify()

    def leave(self, host: str | None) -> None:
        """Stop counting a closed connection."""
        if host is not None and host in self._of_peer:
            self._of_peer[host] -= 1
            if not self._of_peer[host]:
                del self._of_peer[host]
        self.notify()

    def lift(self) -> None:
        """Accept any number from now on; for shutdown, when the last connections are accepted."""
        self._limit = NO_LIMIT
        self.notify()

    def wait(self, resume: Callable[[], None]) -> None:
        """Call `resume` when there may be room again."""
        self._waiting.append(resume)

    def notify(self) -> None:
        """Call the waiting callbacks in the loop's next turn: a WebSocket leaves and enters again in one turn."""
        if self._waiting:
            loop = asyncio.get_running_loop()
            for resume in self._waiting:
                loop.call_soon(resume)
            self._waiting.clear()


class Supply(NamedTuple):
    """The descriptors of a process, by the numbers that accept(2) returns.

    Attributes:
        limit: How many this process may have (RLIMIT_NOFILE).
    """

    limit: int

    @property
    def end(self) -> int:
        """The first descriptor of the application's reserve."""
        return self.limit - min(RESERVE, self.limit // 8)

    @property
    def contested(self) -> int:
        """The first contested descriptor."""
        return self.end - min(CONTESTED, self.limit // 4)

    def refuses(self, used: int, count: int, total: int) -> str:
        """Return why a side may take no further descriptor, for a log line; empty where it may.

        Args:
            used: How many descriptors are in use.
            count: How many of them are connections of the side.
            total: How many of them are connections of either side.
        """
        if used < self.contested:
            return ""
        few = f"nearly out of file descriptors: {used} of {self.limit} are in use"
        if used >= self.end:
            return few
        return f"{few}, {count} of them by this side" if count >= (self.end - (used - total)) // 2 else ""


class AcceptLoop:
    """Accepts from a listening socket; it has the methods of `asyncio.Server`.

    Args:
        sock: The socket, bound and listening.
        take: Called with an accepted, non-blocking connection and its peer's address.
        total: Returns how many connections both sides have together. It includes those that are being opened, as in a
            TLS handshake; otherwise a flood could take the other side's share before it is counted.
        limit: The limit of the socket's side. None where both sides share the socket: the side of a connection is
            known only after it is accepted, so none waits in the queue, and only the reserve of descriptors is kept.
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
        """The socket while it is served, else nothing."""
        return (self._socket,) if self._serving else ()

    def is_serving(self) -> bool:
        """Whether it accepts, or waits for room."""
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
        """Return at once: nothing is left to do after `close`."""

    def lift_limit(self) -> None:
        """Accept all waiting connections, over the limit too: closing the socket would reset them."""
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
        """Return why too few descriptors are left for another connection; empty where there are enough."""
        count = self._limit.taken if self._limit is not None else 0
        return self._supply.refuses(used, count, self._total())

    def _pause(self, reason: str) -> None:
        self._loop.remove_reader(self._socket)
        self._paused = self._loop.call_later(PAUSE, self._resume)
        if self._throttle.lets_through(self._loop.time()):
            logger.error("Pausing accept on %s for %g s: %s", self._socket.getsockname(), PAUSE, reason)

    def _resume(self) -> None:
        """Accept again, or wait another `PAUSE` where there are still too few descriptors."""
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
    """Return the next descriptor that the kernel would return; a number beyond all where none is free."""
    try:
        free = os.dup(sock.fileno())
    except OSError:
        return 1 << 30
    os.close(free)
    return free
