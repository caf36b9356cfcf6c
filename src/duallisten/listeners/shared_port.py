"""A private port that is shared by the processes that serve one public socket, and by nobody else.

A program may bring workers of its own: it opens the public socket and gives it to each (`uvicorn.supervisors`,
gunicorn, BentoML, `--fd` under supervisord or circus). Each of them is a server with a private listener, and all have
one fixed private port. So each has a socket there (SO_REUSEPORT), and the kernel spreads the connections. The facts
this rests on (Linux; socket(7), unix(7), proc_net(5)):

- Any number of sockets of one user may listen on an address if all have SO_REUSEPORT. `listen()` of a socket without it
  fails if anyone listens there, and makes everyone else's fail.
- A public address belongs to one program, or to those that share it on purpose. It names the group.
- An abstract UNIX domain socket lives as long as the process that holds it, is listed in `/proc/net/unix`, and belongs
  to a network namespace, as TCP addresses do.

So who listens first makes sure that nobody else does (`claimed`), and leaves a mark with the name of its group. Who
finds the port in use listens beside a member of its own group, and refuses where there is no mark of it.

Invariants:
    - No member listens beside a process that is not of its group.
    - A mark is there only while its process listens.
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
"""Seconds in which a port that is in use may turn out to be in the hands of a member that is just about to listen."""

POLL_INTERVAL = 0.02


class SharedSocket(socket.socket):
    """A bound TCP socket that listens beside those of its group.

    Args:
        sock: A bound socket, which this one takes the place of.
        public: The name of the public socket that all of the group serve.
    """

    def __init__(self, sock: socket.socket, public: str) -> None:
        super().__init__(sock.family, sock.type, sock.proto, fileno=sock.detach())
        group = hashlib.sha256(f"{self.getsockname()} {public}".encode()).hexdigest()[:32]
        self._group = f"duallisten-{group}-"
        self._mark: socket.socket | None = None

    def listen(self, backlog: int = 128, /) -> None:
        """Listen; raises OSError where somebody listens who is not of the group."""
        with self.entering():
            super().listen(backlog)
            self._mark = socket.socket(socket.AF_UNIX)
            self._mark.bind(f"\0{self._group}{os.getpid()}-{id(self)}")

    def close(self) -> None:
        """Close the socket, and take the mark away."""
        if self._mark is not None:
            self._mark.close()
        super().close()

    @contextlib.contextmanager
    def entering(self) -> Iterator[None]:
        """Ensure that within the block this socket may listen; raises OSError where it may not."""
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
    """Build what makes a private socket one of those that serve the public socket; None where none was given.

    The function that is returned takes a bound TCP socket, and raises OSError where somebody else listens there.

    Args:
        plan: What is served.
        public: The public sockets that were given to the server; else the plan may name one by its descriptor.
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
