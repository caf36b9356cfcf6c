"""Accept queues: one for each worker slot, made and kept by the supervisor.

With one socket for all workers the kernel wakes whoever is quickest, and a few workers get most of the connections.
With a socket for each, bound with SO_REUSEPORT to one address, the kernel chooses by a hash of the connection's
addresses and ports. The facts this rests on (Linux; socket(7), listen(2), tcp(7)):

- Of the sockets bound to an address only those that listen get connections; the others do not count.
- A connection is in the queue of the one socket that it was given to. That socket lives as long as any process has it
  open, and so does the queue: the supervisor keeps every socket, and whoever takes the place of a dead worker accepts
  what waits there. The other side of it is that nobody else does: a queue whose worker is gone is given to another
  worker meanwhile (`worker_slots`).
- SO_REUSEPORT hides that somebody else is there: any number of sockets of one user may listen on an address if all have
  the option. `listen()` of a socket *without* it fails if anyone listens there, and makes everyone else's fail: the
  kernel decides, at once for both. So the first worker's readiness is preceded by a claim: a socket without the option
  listens, dropping all that reaches it; is given the option; our sockets listen beside it; and it is closed. There is
  no instant at which another launcher's claim could succeed.

Elsewhere than on Linux, and for UNIX domain sockets and inherited ones, all slots share one socket, as uvicorn's do.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable

from duallisten.errors import LaunchError
from duallisten.listeners import BoundSocket, bound_socket, claimed, listen, tcp_socket
from duallisten.sides import Side


def can_be_divided(one: BoundSocket) -> bool:
    """Whether others can be bound beside a socket, so that the kernel spreads the connections among them."""
    return one.ours and sys.platform == "linux"


def beside(bound: list[BoundSocket]) -> list[BoundSocket]:
    """Bind a socket beside each of `bound`, at its address; one that cannot be divided stands for itself.

    Raises OSError, with everything closed again that was made here.
    """
    made: list[BoundSocket] = []
    try:
        for one in bound:
            made.append(_beside(one) if can_be_divided(one) else one)
    except BaseException:
        for one in made:
            if one not in bound:
                one.socket.close()
        raise
    return made


def _beside(one: BoundSocket) -> BoundSocket:
    one.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock = tcp_socket(one.socket.family, one.socket.getsockname(), reuse_port=True)
    sock.set_inheritable(True)
    return bound_socket(one.side, sock, ours=True)


class PortClaims:
    """The addresses that are this launch's own, from when the first of its sockets listens there.

    backlog: gives the length of a side's accept queues
    """

    def __init__(self, backlog: Callable[[Side], int]) -> None:
        self._backlog = backlog
        self._claimed: set[tuple[str, int]] = set()

    def listen(self, bound: list[BoundSocket]) -> None:
        """Listen on sockets; raises LaunchError where somebody else listens at one of the addresses."""
        for one in bound:
            try:
                if one.name in self._claimed or not can_be_divided(one):
                    listen(one.socket, self._backlog(one.side))
                    continue
                with claimed(one.socket):
                    listen(one.socket, self._backlog(one.side))
                self._claimed.add(one.name)
            except OSError as error:
                raise LaunchError(
                    f"the {one.side} listener cannot listen on {one.name}: {error.strerror}; another process has taken "
                    "the port meanwhile"
                ) from None
