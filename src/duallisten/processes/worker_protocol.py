"""What a supervisor, its workers and its fork server say to each other, and the channel that carries it."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from duallisten.listeners import bound_socket

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from multiprocessing.connection import Connection

    from duallisten.config import Config
    from duallisten.listeners import BoundSocket, Plan
    from duallisten.observability import RowRef, Scoreboard
    from duallisten.sides import Side

Report = Literal["began", "ready", "serving", "at limit", "ending", "waiting", "ended", "failed", "alive", "turning"]
"""What a worker reports to its supervisor: the first of a pair, whose second is a text.

With `began` and `alive` comes whether a debugger is attached, with `ready` the path rules that cover no route, with `at
limit` the number of requests that it may serve and has served, with `waiting` what the worker waits for before it ends,
with `failed` why it could not start.
"""


class Order(NamedTuple):
    """What a supervisor orders a worker to do.

    slot: whose queues are meant
    sides: the sides of the sockets that come with it
    plan: what is served from now on
    text: what is asked (`server.inspection`), with the socket that the answer goes to; or the level of the log
    """

    name: Literal["ping", "accept", "back up", "release", "open", "retire", "answer", "log level"]
    slot: int = 0
    sides: tuple[Side, ...] = ()
    plan: Plan | None = None
    text: str = ""


class ForkOrder(NamedTuple):
    """The order to fork a worker; the worker's end of its pipe and its sockets come with it.

    plan: the plan of the worker's pool
    sides: the side of each socket
    row: the number of the worker's row on the scoreboard, if there is one
    """

    plan: Plan
    sides: tuple[Side, ...]
    row: int = 0


FORK = "fork"
"""The order to the zygote to fork; the fork's end of its pipe comes with it."""


class StartOrder(NamedTuple):
    """What the zygote, or a fork of it, is made for; its sockets and the descriptor of the scoreboard come with it.

    environment: what it finds in its environment
    fork: what is meant for a worker; None for a fork server
    capacity: the rows of the scoreboard; 0 where there is none
    """

    config: Config
    environment: dict[str, str]
    fork: ForkOrder | None
    capacity: int


class ForkReport(NamedTuple):
    """What a fork server or a zygote reports.

    With `forked` comes a descriptor that can be read when the fork has ended.

    pid, code: the process id and the exit code of a fork
    """

    name: Literal["ready", "failed", "forked", "ended"]
    text: str = ""
    pid: int = 0
    code: int = 0


class Channel:
    """One end of a duplex pipe that carries descriptors, too (SCM_RIGHTS, unix(7)).

    A message is followed by one byte that carries its descriptors. The socket for that is the pipe's own, opened once:
    a process that may open no more can still be told something.
    """

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self._socket = socket.socket(fileno=os.dup(pipe.fileno()))
        self._socket.setblocking(True)  # whatever socket.setdefaulttimeout() says

    def send(self, message: Any, descriptors: Sequence[int] = ()) -> None:
        """Send a message; raises OSError where nobody takes it."""
        self.pipe.send((message, len(descriptors)))
        if descriptors:
            socket.send_fds(self._socket, [b"\0"], descriptors)

    def receive(self) -> tuple[Any, list[int]]:
        """Wait for a message, and return it with its descriptors; raises EOFError or OSError at the pipe's end.

        There are fewer of them where this process may not open as many: the kernel drops the rest (recvmsg(2)).
        """
        message, count = self.pipe.recv()
        if not count:
            return message, []
        byte, descriptors, _, _ = socket.recv_fds(self._socket, 1, count)
        if not byte:
            raise EOFError
        for descriptor in descriptors:
            os.set_inheritable(descriptor, False)
        return message, descriptors

    def detach(self) -> Connection:
        """Let go of the pipe, for another channel to have it."""
        self._socket.close()
        return self.pipe

    def close(self) -> None:
        """Close this end."""
        self.pipe.close()
        self._socket.close()


def send_start(
    channel: Channel,
    config: Config,
    board: Scoreboard | None,
    fork: ForkOrder | None,
    queues: Iterable[BoundSocket] = (),
) -> None:
    """Tell the zygote, or a fork of it, what it is for; raises OSError where nobody takes it."""
    order = StartOrder(config, dict(os.environ), fork, board.capacity if board is not None else 0)
    shared = [board.descriptor] if board is not None else []
    channel.send(order, [*(queue.socket.fileno() for queue in queues), *shared])


def fork_order(plan: Plan, queues: Iterable[BoundSocket], row: RowRef | None) -> ForkOrder:
    """Make the order for a worker that serves these sockets, which go with it."""
    return ForkOrder(plan, sides_of(queues), row.number if row is not None else 0)


def sides_of(bound: Iterable[BoundSocket]) -> tuple[Side, ...]:
    """Return the side of each socket, for a process that gets the sockets themselves in another way."""
    return tuple(queue.side for queue in bound)


def bound_sockets(sides: tuple[Side, ...], sockets: list[socket.socket]) -> list[BoundSocket]:
    """Put together what `sides_of` has taken apart."""
    return [bound_socket(side, sock) for side, sock in zip(sides, sockets, strict=True)]
