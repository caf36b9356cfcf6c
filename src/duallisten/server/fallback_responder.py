"""A thread that answers duallisten's own pages while the application blocks the event loop.

A health check is useless if the application can block it. So a thread watches the heartbeat. When the event loop has
not run for `STUCK` seconds and no other process accepts on the private side, the thread accepts in its place. It reads
the peer's bytes without taking them from the socket (recv(2), MSG_PEEK). It answers a request for one of our pages and
closes the connection. It passes every other connection to the event loop unchanged. So the thread neither reads nor
decides about requests for the application.

It does not work with TLS: no request can be seen before the handshake, and a handshake cannot be passed on. It does not
work with the PROXY protocol either, whose header comes first. There the pages wait for the loop or for another process.
And it does not work while an extension module holds the GIL.

Invariants:
    - A peer that is not admitted is never answered, and the listener's connection limit is kept.
    - The thread keeps no connection, and does not disturb an event loop that runs.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from duallisten.admin.pages import Request
from duallisten.http.head import BadRequest
from duallisten.http.request import RequestReader
from duallisten.listeners import Verdict, host_of
from duallisten.observability import Phase

if TYPE_CHECKING:
    from duallisten.admin.pages import Pages
    from duallisten.http import Context
    from duallisten.listeners import ListenerSet, Listening
    from duallisten.observability import RowRef

STUCK = 0.35
"""Seconds without a heartbeat after which an event loop counts as blocked; it beats every 0.1 s."""

LOOK = 0.1
"""Seconds between two checks of a blocked event loop."""

PATIENCE = 0.5
"""Seconds that a peer has for the head of its request before its connection is passed to the event loop."""

MOST = 64
"""Connections that are accepted at most while the loop is blocked; the others wait in the queue."""

HEAD_BYTES = 8192
"""Bytes of a request that are peeked at most; a health probe is smaller."""


class Accepted(NamedTuple):
    """A connection that the thread has accepted, and the deadline for the head of its request."""

    connection: socket.socket
    peer: Any
    listening: Listening
    until: float


class Peeked(NamedTuple):
    """The request of a peer, and how many bytes the peer has sent."""

    raw_path: bytes
    request: Request
    size: int


class Standby:
    """The thread that answers in place of a blocked event loop.

    Args:
        listeners: The listeners of the process.
        seat: The process's row on the scoreboard.
        pages: duallisten's own pages on the private side.
        hand_over: Schedules a call in the event loop, as `call_soon_threadsafe`.
    """

    def __init__(self, listeners: ListenerSet, seat: RowRef, pages: Pages, hand_over: Any) -> None:
        self._listeners = listeners
        self._seat = seat
        self._pages = pages
        self._hand_over = hand_over
        self._stopped = threading.Event()
        self._pending: list[Accepted] = []
        self._handed = 0

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="duallisten-standby", daemon=True).start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(max(LOOK, STUCK - self._seat.heartbeat_age)):
            try:
                while self._is_needed:
                    self._wait()
                    for listening in list(self._listening):
                        self._accept(listening)
                    self._look_at_pending()
            finally:
                for one in self._pending:
                    self._give(one)
                self._pending.clear()
                self._handed = 0

    @property
    def _is_needed(self) -> bool:
        """Whether the loop is blocked, and no other process accepts."""
        if self._stopped.is_set() or self._seat.heartbeat_age < STUCK:
            return False
        return not any(
            one.state is Phase.READY and "private" in one.sides and one.heartbeat_age < STUCK
            for one in self._seat.board.processes()
        )

    @property
    def _listening(self) -> Iterator[Listening]:
        """The sockets for private connections, while the limits allow more."""
        service = self._listeners.private
        if service is None or service.config.ssl is not None or service.proxies is not None:
            return
        taken = len(self._pending) + self._handed
        if taken < min(MOST, service.limit.free):
            plan = self._listeners.plan
            for one in list(self._listeners.listening):
                if one.server.is_serving() and (one.bound.side == "private" or (plan is not None and plan.shared)):
                    yield one

    def _wait(self) -> None:
        """Wait up to `LOOK` seconds for a connection or for bytes."""
        poll = select.poll()
        for one in self._listening:
            with suppress(OSError, ValueError):  # the socket is being closed
                poll.register(one.bound.socket, select.POLLIN)
        for peeked in self._pending:
            poll.register(peeked.connection, select.POLLIN)
        poll.poll(LOOK * 1000)

    def _accept(self, listening: Listening) -> None:
        try:
            connection, peer = listening.bound.socket.accept()
        except OSError:  # no connection waits, the socket is being closed, or no descriptor is free
            return
        connection.setblocking(False)
        one = Accepted(connection, peer, listening, time.monotonic() + PATIENCE)
        with suppress(OSError):
            if listening.acceptor.judge(host_of(connection.getsockname()), host_of(peer)) is Verdict.PRIVATE:
                self._pending.append(one)
                return
        self._give(one)

    def _look_at_pending(self) -> None:
        """Answer requests for a page; pass other connections, and those past their deadline, to the event loop."""
        waiting: list[Accepted] = []
        service = self._listeners.services[Verdict.PRIVATE]
        root = service.config.root_path.encode()
        for one in self._pending:
            with suppress(OSError, BadRequest):
                peeked = _peek(one.connection, service.context)
                if peeked is None and time.monotonic() < one.until:
                    waiting.append(one)
                    continue
                if peeked is not None and root + peeked.raw_path in self._pages.answers:
                    page = self._pages.answer(root + peeked.raw_path, peeked.request)
                    with_body = peeked.request.method != "HEAD"
                    answer = page.encode(service.context.default_fields, with_body=with_body)
                    _answer(one.connection, peeked.size, answer)
                    continue
            self._give(one)
        self._pending = waiting
        if waiting:
            self._stopped.wait(0.01)  # peeked bytes stay readable, so `poll` would return at once

    def _give(self, one: Accepted) -> None:
        """Pass a connection to the event loop."""
        self._handed += 1
        try:
            self._hand_over(one.listening.acceptor.take, one.connection, one.peer)
        except RuntimeError:  # the loop is closed
            one.connection.close()


def _peek(connection: socket.socket, context: Context) -> Peeked | None:
    """Peek at the request of a peer; None while its head is incomplete.

    Raises:
        OSError: The connection is lost.
        BadRequest: The head is invalid or too large, or the connection has ended before it.
    """
    try:
        data = connection.recv(HEAD_BYTES, socket.MSG_PEEK)
    except BlockingIOError:
        return None
    head, end, _ = data.partition(b"\r\n\r\n")
    if end:
        line, fields, _ = RequestReader(context.make_parser(), context.limits).read_head(head + end)
        return Peeked(line.raw_path, Request(line.method, fields), len(data))
    if data and len(data) < HEAD_BYTES:
        return None
    raise BadRequest(400, "connection ended, or request head too large")


def _answer(connection: socket.socket, size: int, answer: bytes) -> None:
    with connection, suppress(OSError):
        connection.recv(size)
        connection.settimeout(PATIENCE)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
