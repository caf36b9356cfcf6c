"""A thread that answers duallisten's own pages while the application blocks the event loop.

A health check that an application can block tells nothing when it matters. So a thread looks at the heartbeat. When the
event loop has not turned for `STUCK` seconds and no other process accepts on the private side, the thread accepts in
the loop's place. It looks at what the peer sends without taking it out of the socket (recv(2), MSG_PEEK). A request for
one of our pages it answers, and closes the connection. Every other connection it hands to the event loop as it is. So
the thread decides nothing about a request of the application's, and reads none.

It cannot help with TLS: there is nothing to be seen before a handshake, and a handshake cannot be handed over. Nor does
it with the PROXY protocol, whose header comes first. There the pages wait for the loop, or for another process. Nor can
it help while an extension module holds the GIL.

Invariants:
    - A peer that is not admitted is never answered, and no more connections are taken than the listener has room for.
    - No connection is kept, and an event loop that turns is not disturbed.
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
"""Seconds without a heartbeat after which an event loop is taken for blocked; it beats every 0.1 s."""

LOOK = 0.1
"""Seconds between two looks at an event loop that does not turn."""

PATIENCE = 0.5
"""Seconds that a peer has for the head of its request before its connection is the event loop's."""

MOST = 64
"""Connections that are looked at, or have been handed over, while the loop is blocked; the others wait in the queue."""

HEAD_BYTES = 8192
"""How much of a request is looked at: a probe's is smaller."""


class Accepted(NamedTuple):
    """A connection that was accepted in the loop's place, and until when it may show what it wants."""

    connection: socket.socket
    peer: Any
    listening: Listening
    until: float


class Peeked(NamedTuple):
    """What a peer asks for, and how many bytes it has sent."""

    raw_path: bytes
    request: Request
    size: int


class Standby:
    """The thread that stands by for the event loop of a process.

    seat: the process's place on the scoreboard
    hand_over: has the event loop call something as soon as it turns
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
        """What private connections come in at, as long as there is room for more."""
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
        """Wait for a connection or for bytes, not long."""
        poll = select.poll()
        for one in self._listening:
            with suppress(OSError, ValueError):  # it is being closed
                poll.register(one.bound.socket, select.POLLIN)
        for peeked in self._pending:
            poll.register(peeked.connection, select.POLLIN)
        poll.poll(LOOK * 1000)

    def _accept(self, listening: Listening) -> None:
        try:
            connection, peer = listening.bound.socket.accept()
        except OSError:  # nobody is there, it is being closed, or there is no descriptor
            return
        connection.setblocking(False)
        one = Accepted(connection, peer, listening, time.monotonic() + PATIENCE)
        with suppress(OSError):
            if listening.acceptor.judge(host_of(connection.getsockname()), host_of(peer)) is Verdict.PRIVATE:
                self._pending.append(one)
                return
        self._give(one)

    def _look_at_pending(self) -> None:
        """Answer those that ask for a page, and leave the others to the event loop, but for those to be waited for."""
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
            self._stopped.wait(0.01)  # what has been seen of them can be read at any time

    def _give(self, one: Accepted) -> None:
        """Leave a connection to the event loop."""
        self._handed += 1
        try:
            self._hand_over(one.listening.acceptor.take, one.connection, one.peer)
        except RuntimeError:  # the loop is closed
            one.connection.close()


def _peek(connection: socket.socket, context: Context) -> Peeked | None:
    """Look at what a peer asks for; None as long as the head of its request has not come.

    Raises:
        OSError: The connection is broken.
        BadRequest: There will be no head, or it is not one.
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
