"""Socket activation: the listeners that systemd has bound, taken from the environment (sd_listen_fds(3)).

Facts it rests on:

- `LISTEN_FDS` sockets are open from descriptor 3 on, if `LISTEN_PID` is this process. With another number the variables
  were meant for a parent. `LISTEN_FDNAMES` has their names, separated by colons: the `FileDescriptorName=` of the
  `.socket` unit, and without it the unit's name.
- The sockets are duplicates of systemd's, which keeps them open: connections that come in while the service is down
  wait for the next start. Socket options stay set after the service ends, so none is set that would matter then.
- They listen already, so connections may be in the queue before the application has started. They are accepted after.

`public` and `private` name the sides. A single socket with any other name is the public one; several sockets must each
have the name of a side. Each side may have several, such as for IPv4 and IPv6. `plan` checks the address of a private
one, by the same rules as for an option.

Invariants: no child process takes the descriptors. The variables are removed, and the descriptors are not inherited.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections.abc import MutableMapping
from typing import NamedTuple

from duallisten.errors import LaunchError, UsageError
from duallisten.net import InheritedSocket, Passed, TCPAddress, UnixAddress

logger = logging.getLogger("uvicorn.error")

FIRST = 3
"""The first passed descriptor."""

VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class Named(NamedTuple):
    """A passed descriptor and its name."""

    descriptor: int
    name: str


def take_passed(environ: MutableMapping[str, str], process: int) -> Passed:
    """Take the sockets that were passed to a process, and remove the variables from its environment.

    Args:
        environ: The environment.
        process: The process ID.

    Raises:
        UsageError: The variables cannot be read.
        LaunchError: A descriptor cannot be served.
    """
    said = {name: environ.pop(name) for name in VARIABLES if name in environ}
    sockets = [(one.name, _inspect(one)) for one in read_names(said, process)]
    private = tuple(sock for name, sock in sockets if name == "private")
    return Passed(tuple(sock for name, sock in sockets if name != "private"), private)


def read_names(said: MutableMapping[str, str], process: int) -> tuple[Named, ...]:
    """Read the variables; empty where they are for another process. Raises UsageError."""
    if said.get("LISTEN_PID", "") != str(process):
        logger.warning(
            "Ignoring the sockets of LISTEN_FDS: LISTEN_PID is %s, but this process is %d; start duallisten "
            "directly, or with exec",
            said.get("LISTEN_PID", "not set"),
            process,
        )
        return ()
    try:
        count = int(said["LISTEN_FDS"])
    except ValueError:
        count = -1
    if count < 0:
        raise UsageError(f"LISTEN_FDS={said['LISTEN_FDS']}: must be the number of passed sockets")
    given = said.get("LISTEN_FDNAMES")
    names = ["unknown"] * count if given is None else given.split(":") if given else []
    if len(names) != count:
        raise UsageError(f"LISTEN_FDNAMES={given} has {len(names)} names, but LISTEN_FDS={count}")
    if count > 1 and (strange := [name for name in names if name not in ("public", "private")]):
        raise UsageError(
            f"LISTEN_FDNAMES={':'.join(names)}: {strange[0]} is not a side; name each socket public or private "
            "(FileDescriptorName= of its .socket unit)"
        )
    return tuple(Named(FIRST + number, name) for number, name in enumerate(names))


def _inspect(one: Named) -> InheritedSocket:
    """Return a descriptor with its socket's address; raises LaunchError where it cannot be served."""
    label = f"descriptor {one.descriptor} ({one.name}), passed by LISTEN_FDS,"
    try:
        if not stat.S_ISSOCK(os.fstat(one.descriptor).st_mode):
            raise LaunchError(f"{label} is not a socket")
        os.set_inheritable(one.descriptor, False)
        sock = socket.socket(fileno=one.descriptor)
    except OSError as error:
        raise LaunchError(f"{label} cannot be used: {error.strerror}") from None
    try:
        families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
        if sock.family not in families or sock.type != socket.SOCK_STREAM:
            raise LaunchError(f"{label} is not a TCP or UNIX stream socket: use ListenStream=")
        try:
            sock.getpeername()
        except OSError:  # it has no peer
            name = sock.getsockname()
        else:
            raise LaunchError(f"{label} is a connection, not a listener: set Accept=no in its .socket unit")
    finally:
        sock.detach()
    if isinstance(name, tuple):
        return InheritedSocket(one.descriptor, TCPAddress(str(name[0]), int(name[1])))
    if isinstance(name, bytes):  # an abstract name begins with a zero byte, which is shown as @
        name = "@" + os.fsdecode(name[1:])
    return InheritedSocket(one.descriptor, UnixAddress(name))
