"""A private port that is shared by exactly the processes that serve one public socket.

A program may have its own workers: it opens the public socket and passes it to each worker (`uvicorn.supervisors`,
gunicorn, BentoML, `--fd` under supervisord or circus). Each worker is a server with a private listener, and all have
the same fixed private port. So each has its own socket there (SO_REUSEPORT), and the kernel spreads the connections.
The facts this rests on (Linux; socket(7), unix(7), proc_net(5)):

- Any number of sockets of one user may listen on an address if all have SO_REUSEPORT. `listen()` on a socket without it
  fails if another socket listens there, and makes later `listen()` calls of others fail.
- A public address belongs to one program, or to programs that share it on purpose. So it names the group.
- An abstract UNIX domain socket exists as long as the process that holds it, is listed in `/proc/net/unix`, and belongs
  to a network namespace, as TCP addresses do.

The first process ensures that no other one listens (`claimed`), and binds an abstract socket as a mark with the name of
its group. A process that finds the port in use looks for a mark of its own group: with a mark it listens, too, and
without one it raises an error.

Invariants:
    - No member listens on a port together with a process outside of its group.
    - A mark exists only while its process listens.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from duallisten.listeners.plan import Plan
from duallisten.listeners.sockets import claimed
from duallisten.net import InheritedSocket

PATIENCE = 1.0
"""Seconds to wait for the mark on a port that is in use: a member of the group may be about to listen there."""

POLL_INTERVAL = 0.02


class SharedSocket(socket.socket):
    """A bound TCP socket that shares its port with the sockets of its group.

    Args:
        sock: A bound socket, which this one replaces.
        public: The name of the public socket that the whole group serves.
    """

    def __init__(self, sock: socket.socket, public: str) -> None:
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        group = hashlib.sha256(f"{self.getsockname()} {public}".encode()).hexdigest()[:32]
        self._group = f"duallisten-{group}-"
        self._mark: socket.socket | None = None

    def listen(self, backlog: int = 128, /) -> None:
        """Listen; raises OSError where a process outside of the group listens."""
        with self.entering():
            super().listen(backlog)
            self._mark = socket.socket(socket.AF_UNIX)
            self._mark.bind(f"\0{self._group}{os.getpid()}-{id(self)}")

    def close(self) -> None:
        """Close the socket and remove the mark."""
        if self._mark is not None:
            self._mark.close()
        super().close()

    @contextlib.contextmanager
    def entering(self) -> Iterator[None]:
        """Ensure that this socket may listen within the block; raises OSError where it may not."""
        deadline = time.monotonic() + PATIENCE
        with contextlib.ExitStack() as held:
            while True:
                try:
                    held.enter_context(claimed(self))
                    break
                except OSError as error:
                    if error.errno == errno.EADDRINUSE and self._has_company():
                        self.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                        break
                    if error.errno != errno.EADDRINUSE or time.monotonic() > deadline:
                        raise
                time.sleep(POLL_INTERVAL)
            yield

    def _has_company(self) -> bool:
        """Whether a member of the group listens."""
        with contextlib.suppress(OSError):
            return f"@{self._group}" in Path("/proc/net/unix").read_text()
        return False


def sharing(plan: Plan, public: list[socket.socket] | None) -> Callable[[socket.socket], socket.socket] | None:
    """Build the function that makes a private socket a `SharedSocket`; None where no public socket was passed.

    The function takes a bound TCP socket, and raises OSError where a process outside of the group listens there.

    Args:
        plan: The plan, which may name a public socket by its descriptor.
        public: The public sockets that were passed to the server, if any.
    """
    name = _name_of(plan, public)
    if name is None or sys.platform != "linux":
        return None

    def share(sock: socket.socket) -> socket.socket:
        made = SharedSocket(sock, name)
        try:
            with made.entering():
                return made
        except OSError:
            made.close()
            raise

    return share


def _name_of(plan: Plan, public: list[socket.socket] | None) -> str | None:
    if public:
        return str(public[0].getsockname())
    for address in plan.public.addresses if plan.public is not None else ():
        if isinstance(address, InheritedSocket):
            with contextlib.suppress(OSError), socket.socket(fileno=os.dup(address.descriptor)) as sock:
                return str(sock.getsockname())
    return None
