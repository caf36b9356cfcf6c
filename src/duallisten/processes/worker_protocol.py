"""The messages between a supervisor, its workers, its fork server and its zygote, and the channel for them."""

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
"""A worker's report to its supervisor: the first item of a pair. The second item is a text:

- `began`, `alive`: not empty if a debugger is attached
- `ready`: the path rules that cover no route
- `at limit`: the limit of requests, which it has served
- `waiting`: what the worker waits for before it ends
- `failed`: why it could not start
"""


class Order(NamedTuple):
    """An order of a supervisor to a worker.

    slot: the number of the slot whose queues the order is about
    sides: the sides of the sockets that come with the order
    plan: the plan to serve from now on
    text: the question (`server.inspection`), which comes with the socket for the answer; or the log level
    """

    name: Literal["ping", "accept", "back up", "release", "open", "retire", "answer", "log level"]
    slot: int = 0
    sides: tuple[Side, ...] = ()
    plan: Plan | None = None
    text: str = ""


class ForkOrder(NamedTuple):
    """The order to fork a worker; the worker's end of its pipe and its sockets come with the order.

    plan: the plan of the worker's pool
    sides: the side of each socket
    row: the number of the worker's row on the scoreboard, if there is one
    """

    plan: Plan
    sides: tuple[Side, ...]
    row: int = 0


FORK = "fork"
"""The order to the zygote to fork; the fork's end of its pipe comes with the order."""


class StartOrder(NamedTuple):
    """The order to the zygote to become a fork server, or to its fork to become a worker.

    Its sockets and the descriptor of the scoreboard come with the order.

    environment: the environment of the process
    fork: the order for a worker; None for a fork server
    capacity: the number of rows of the scoreboard; 0 if there is no scoreboard
    """

    config: Config
    environment: dict[str, str]
    fork: ForkOrder | None
    capacity: int


class ForkReport(NamedTuple):
    """A report of a fork server or a zygote.

    With `forked` comes a descriptor that is readable when the fork has ended; without it, the fork has failed.

    pid, code: the process id and the exit code of a fork
    """

    name: Literal["ready", "failed", "forked", "ended"]
    text: str = ""
    pid: int = 0
    code: int = 0


class Channel:
    """One end of a duplex pipe that carries descriptors, too (SCM_RIGHTS, unix(7)).

    A message is followed by one byte that carries its descriptors. The socket for that is a duplicate of the pipe, made
    once: so a process that has reached its limit of descriptors can still send and receive.
    """

    def __init__(self, pipe: Connection) -> None:
        self.pipe = pipe
        self._socket = socket.socket(fileno=os.dup(pipe.fileno()))
        self._socket.setblocking(True)  # whatever socket.setdefaulttimeout() says

    def send(self, message: Any, descriptors: Sequence[int] = ()) -> None:
        """Send a message; raises OSError if the other end is closed."""
        self.pipe.send((message, len(descriptors)))
        if descriptors:
            socket.send_fds(self._socket, [b"\0"], descriptors)

    def receive(self) -> tuple[Any, list[int]]:
        """Wait for a message, and return it with its descriptors; raises EOFError or OSError at the pipe's end.

        If this process reaches its limit of descriptors, the kernel drops the rest of them (recvmsg(2)).
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
        """Return the pipe without closing it, for another channel."""
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
    """Send a `StartOrder` to the zygote or a fork of it; raises OSError if the other end is closed."""
    order = StartOrder(config, dict(os.environ), fork, board.capacity if board is not None else 0)
    shared = [board.descriptor] if board is not None else []
    channel.send(order, [*(queue.socket.fileno() for queue in queues), *shared])


def fork_order(plan: Plan, queues: Iterable[BoundSocket], row: RowRef | None) -> ForkOrder:
    """Build the order for a worker that serves these sockets."""
    return ForkOrder(plan, sides_of(queues), row.number if row is not None else 0)


def sides_of(bound: Iterable[BoundSocket]) -> tuple[Side, ...]:
    """Return the side of each socket, for a process that gets the sockets themselves separately."""
    return tuple(queue.side for queue in bound)


def bound_sockets(sides: tuple[Side, ...], sockets: list[socket.socket]) -> list[BoundSocket]:
    """Build the `BoundSocket`s from sockets and their sides (`sides_of`)."""
    return [bound_socket(side, sock) for side, sock in zip(sides, sockets, strict=True)]
