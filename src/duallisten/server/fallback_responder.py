"""Standing by: duallisten's own pages are answered while the application blocks the event loop.

A health check that an application can block tells nothing when it matters. So a thread looks at the heartbeat, and when
the event loop has not turned for `STUCK` and no other process is there to accept on the private side, it accepts in the
loop's place. It looks at what the peer sends without taking it out of the socket (recv(2), MSG_PEEK): a request for one
of our pages it answers, and closes; every other connection it hands to the event loop as it is, which finds it
untouched when it turns again. So a thread decides nothing about a request, and reads none of the application's.

What it must never do: answer a peer that is not admitted, take more connections than the listener has room for, keep
one, or be in the way of an event loop that turns.

It cannot help with TLS, for there is nothing to be seen before a handshake, and a handshake cannot be handed on: there
the pages wait for the loop, or for another process. Nor can it while an extension module holds the GIL.
"""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, NamedTuple

from duallisten.admin.pages import Pages, Request
from duallisten.http import Context
from duallisten.http.head import BadRequest
from duallisten.http.request import RequestReader
from duallisten.listeners import ListenerService, ListenerSet, Listening, Verdict, host_of
from duallisten.observability import Phase, RowRef, Scoreboard

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


class Peeked(NamedTuple):
    """A connection that was accepted in the loop's place, and until when it may show what it wants."""

    connection: socket.socket
    peer: Any
    listening: Listening
    until: float


class Standby:
    """The thread that stands by for the event loop of a process.

    hand_over: has the event loop call something as soon as it turns
    """

    def __init__(self, listeners: ListenerSet, seat: RowRef, pages: Pages, hand_over: Any) -> None:
        self._listeners = listeners
        self._board: Scoreboard = seat.board
        self._row = seat.row
        self._pages = pages
        self._hand_over = hand_over
        self._stopped = threading.Event()
        self._pending: list[Peeked] = []
        self._handed = 0

    @property
    def _private(self) -> ListenerService:
        return self._listeners.services[Verdict.PRIVATE]

    def start(self) -> None:
        """Begin to look."""
        threading.Thread(target=self._run, name="duallisten-standby", daemon=True).start()

    def stop(self) -> None:
        """Look no more."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(max(LOOK, STUCK - self._row.heartbeat_age)):
            if self._is_needed:
                self._stand_by()

    @property
    def _is_needed(self) -> bool:
        """Whether the loop is blocked, and nobody else would accept."""
        if self._stopped.is_set() or self._row.heartbeat_age < STUCK:
            return False
        return not any(
            one.state is Phase.READY and "private" in one.sides and one.heartbeat_age < STUCK
            for one in self._board.processes()
        )

    def _stand_by(self) -> None:
        self._handed = 0
        try:
            while self._is_needed:
                self._wait()
                for one in list(self._listening):
                    self._accept(one)
                self._look_at_pending()
        finally:
            for peeked in self._pending:
                self._give(peeked.listening, peeked.connection, peeked.peer)
            self._pending.clear()

    @property
    def _listening(self) -> Iterator[Listening]:
        """What private connections come in at, as long as there is room for more."""
        service = self._listeners.private
        if service is None or service.config.ssl is not None:
            return
        taken = len(self._pending) + self._handed
        room = service.room
        free = MOST if room is None else room.limit - room.taken
        if taken < min(MOST, free):
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
        with suppress(OSError):
            local = host_of(connection.getsockname())
            if listening.acceptor.judge(local, host_of(peer)) is Verdict.PRIVATE:
                self._pending.append(Peeked(connection, peer, listening, time.monotonic() + PATIENCE))
                return
        self._give(listening, connection, peer)

    def _look_at_pending(self) -> None:
        waiting: list[Peeked] = []
        for peeked in self._pending:
            path, request, size = _peek(peeked.connection, self._private.context)
            if path is not None and (raw := self._root + path) in self._pages.answers:
                self._answer(peeked.connection, raw, request, size)
            elif path is None and size >= 0 and time.monotonic() < peeked.until:
                waiting.append(peeked)
            else:
                self._give(peeked.listening, peeked.connection, peeked.peer)
        self._pending = waiting
        if waiting:
            self._stopped.wait(0.01)  # what has been seen of them can be read at any time

    @property
    def _root(self) -> bytes:
        return self._private.config.root_path.encode()

    def _answer(self, connection: socket.socket, raw: bytes, request: Request, size: int) -> None:
        page = self._pages.answer(raw, request)
        answer = page.encode(self._private.context.default_fields, with_body=request.method != "HEAD")
        with connection, suppress(OSError):
            connection.recv(size)
            connection.settimeout(PATIENCE)
            connection.sendall(answer)
            connection.shutdown(socket.SHUT_WR)

    def _give(self, listening: Listening, connection: socket.socket, peer: Any) -> None:
        """Leave a connection to the event loop."""
        self._handed += 1
        try:
            self._hand_over(listening.acceptor.take, connection, peer)
        except RuntimeError:  # the loop is closed
            connection.close()


def _peek(connection: socket.socket, context: Context) -> tuple[bytes | None, Request, int]:
    """Look at what a peer asks for: the path, what else it says, and the bytes of it.

    The path is None as long as the head has not come; the number -1 where there is nothing to wait for.
    """
    nothing = Request("")
    try:
        data = connection.recv(HEAD_BYTES, socket.MSG_PEEK)
    except BlockingIOError:
        return None, nothing, 0
    except OSError:
        return None, nothing, -1
    end = data.find(b"\r\n\r\n") + 4
    if end < 4:
        return None, nothing, -1 if not data or len(data) == HEAD_BYTES else len(data)
    try:
        line, fields, _ = RequestReader(context.make_parser(), context.limits).read_head(data[:end])
    except BadRequest:
        return None, nothing, -1
    return line.raw_path, Request(line.method, fields), len(data)
