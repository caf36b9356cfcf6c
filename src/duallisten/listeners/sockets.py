"""Sockets: bound all or none, tested before the application starts, and listening only after it has started.

The facts it rests on (Linux, socket(7) and tcp(7)):

- With SO_REUSEADDR, which a restart needs, two sockets may be bound to one address while neither listens. The clash
  shows only in `listen()`. So each address is tested with a throw-away socket that binds *and* listens, before the
  application starts. The real sockets stay bound without listening until the application has started: connections are
  refused until it can answer, because a platform may take the first accepted connection for readiness.
- The throw-away socket drops every segment (SO_ATTACH_FILTER, a filter that keeps nothing), so that no connection is
  accepted in the instant in which it listens. A client sends its SYN again a second later.
- `::` is bound for both families (IPV6_V6ONLY off), with one worker and with several.
- Closing a listening socket resets the connections in its queue, and those that complete their handshake afterwards. So
  the socket first drops the first segment of every new connection (`drop_newcomers`). Connections in a handshake can
  then complete and be accepted. New clients send their SYN again a second later, and are refused then.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import stat
import struct
import sys
from array import array
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from duallisten.errors import LaunchError
from duallisten.net import Address, InheritedSocket, TCPAddress, UnixAddress

if TYPE_CHECKING:
    from duallisten.listeners.plan import Listener, Plan
    from duallisten.sides import Side

SO_ATTACH_FILTER = 26  # asm-generic/socket.h


class BoundSocket(NamedTuple):
    """A bound socket.

    Attributes:
        side: The side of its listener.
        name: Its address: (address, port in host order), or (path, 0) for a UNIX domain socket.
        ours: Whether it is a TCP socket that was bound here, so that others can be bound to the same address.
    """

    side: Side
    socket: socket.socket
    name: tuple[str, int]
    ours: bool = False


def bound_socket(side: Side, sock: socket.socket, *, ours: bool = False) -> BoundSocket:
    """Build a `BoundSocket`; it keeps the socket's name after the socket is closed."""
    name = sock.getsockname()
    name = os.fsdecode(name) if isinstance(name, bytes) else name  # an abstract UNIX domain socket
    return BoundSocket(side, sock, (str(name), 0) if isinstance(name, str) else (str(name[0]), int(name[1])), ours)


def listen(sock: socket.socket, backlog: int) -> None:
    """Listen on a bound socket, with TCP_NODELAY, which its connections inherit.

    asyncio sets TCP_NODELAY only on sockets that were made with their protocol number, which bound ones seldom are.
    Without it, a response in two parts waits for the client's delayed acknowledgement.
    """
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.listen(backlog)


Share = Callable[[socket.socket], socket.socket]
"""Makes a bound socket share its port with others (`shared_port`)."""


def bind(plan: Plan, public: list[socket.socket] | None = None, *, share: Share | None = None) -> list[BoundSocket]:
    """Bind every address of the plan, the private ones first, and test that each can be listened on.

    Args:
        plan: The plan with the addresses.
        public: Sockets that replace the public listener's, bound by the caller.
        share: Shares the private port with processes that got the same public socket; None where there are none.

    Returns:
        The sockets. None of them listens unless it was inherited so.

    Raises:
        LaunchError: A socket cannot be bound. All others are closed again.
    """
    bound: list[BoundSocket] = []
    try:
        for listener in plan.listeners:
            if plan.shared and listener.side == "private":
                continue  # the public listener's wildcard socket serves it
            if listener.side == "public" and public is not None:
                bound += [bound_socket("public", sock) for sock in public]
                continue
            for one in _bind_listener(listener, share if listener.side == "private" else None):
                bound.append(one)  # one by one, so that after a clash those before it are closed, too
    except BaseException:
        close(bound)
        raise
    return bound


def close(bound: list[BoundSocket]) -> None:
    """Close the sockets."""
    for one in bound:
        one.socket.close()


def remove_path(plan: Plan) -> None:
    """Remove the paths of UNIX domain sockets that the plan had bound."""
    for listener in plan.listeners:
        for address in listener.addresses:
            if isinstance(address, UnixAddress):
                Path(address.path).unlink(missing_ok=True)


def _bind_listener(listener: Listener, share: Share | None) -> Iterator[BoundSocket]:
    """Bind each address of a listener; if the kernel chooses the port, all get the same."""
    port = 0
    for planned in listener.addresses:
        address = TCPAddress(planned.host, planned.port or port) if isinstance(planned, TCPAddress) else planned
        try:
            sock = _bind_address(address, share if getattr(planned, "port", 0) else None)
            one = bound_socket(listener.side, sock, ours=isinstance(planned, TCPAddress))
        except OSError as error:
            raise LaunchError(_clash(listener.side, address, error)) from None
        port = one.name[1]
        yield one


def _bind_address(address: Address, share: Share | None) -> socket.socket:
    if isinstance(address, InheritedSocket):
        return socket.socket(fileno=os.dup(address.descriptor))
    if isinstance(address, UnixAddress):
        return _bind_path(address.path)
    family, name = _socket_name(address)
    sock = tcp_socket(family, name, reuse_port=share is not None)
    try:
        if share is not None:
            sock = share(sock)
            sock.set_inheritable(True)
            return sock
        # Where the port is 0, test the port that the kernel has chosen.
        _try(family, (*name[:1], sock.getsockname()[1], *name[2:]))
        sock.set_inheritable(True)
    except BaseException:
        sock.close()
        raise
    return sock


def _socket_name(address: TCPAddress) -> tuple[socket.AddressFamily, tuple[str | int, ...]]:
    """Turn an address into arguments for `bind()`; the resolver finds the number of an IPv6 zone (fe80::1%eth0)."""
    if "%" not in address.host:
        family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
        return family, (address.host, address.port)
    flags = socket.AI_NUMERICHOST | socket.AI_PASSIVE
    answer = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM, flags=flags)[0]
    return answer[0], tuple(answer[4])  # type: ignore[arg-type]  # (int, bytes) is for systems without IPv6


def tcp_socket(family: int, name: tuple[str | int, ...], *, reuse_port: bool = False) -> socket.socket:
    """Build a TCP socket and bind it; raises OSError."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0 if name[0] == "::" else 1)
        sock.bind(name)
    except BaseException:
        sock.close()
        raise
    return sock


def _try(family: socket.AddressFamily, name: tuple[str | int, ...]) -> None:
    """Bind and listen on a throw-away socket, without ever accepting."""
    with tcp_socket(family, name) as sock:
        drop_everything(sock)
        sock.listen(1)


@contextlib.contextmanager
def claimed(sock: socket.socket) -> Iterator[None]:
    """Keep others from listening at a socket's address within the block; raises OSError where another one listens."""
    with tcp_socket(sock.family, sock.getsockname()) as claim:
        drop_everything(claim)
        claim.listen(1)
        claim.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        yield


def drop_everything(sock: socket.socket) -> None:
    """Attach a filter that keeps no byte of any segment; failures are ignored."""
    _attach(sock, (0x06, 0, 0, 0))  # BPF_RET | BPF_K: keep 0 bytes


def drop_newcomers(sock: socket.socket) -> None:
    """Attach a filter that drops each segment with SYN and without ACK; failures are ignored.

    It applies to the socket, not to the descriptor, so it also applies in other processes that share the socket. After
    it, the socket can only be emptied. Accepted connections inherit the filter, but never get such a segment.
    """
    if sock.family == socket.AF_UNIX:
        return
    _attach(
        sock,
        (0x30, 0, 0, 13),  # BPF_LD | BPF_B | BPF_ABS: the flags of the TCP header
        (0x54, 0, 0, 0x12),  # BPF_ALU | BPF_AND | BPF_K: SYN and ACK
        (0x15, 0, 1, 0x02),  # BPF_JMP | BPF_JEQ | BPF_K: SYN alone?
        (0x06, 0, 0, 0),
        (0x06, 0, 0, 0xFFFFFFFF),  # keep all of it
    )


def _attach(sock: socket.socket, *instructions: tuple[int, int, int, int]) -> None:
    """Attach a classic BPF program; each instruction is a struct sock_filter of linux/filter.h."""
    if sys.platform != "linux":
        return
    code = array("B", b"".join(struct.pack("HBBI", *each) for each in instructions))
    program = struct.pack("HP", len(instructions), code.buffer_info()[0])  # struct sock_fprog
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def has_waiting(sock: socket.socket) -> bool:
    """Whether a connection waits in the queue of a listening socket; False for a closed one."""
    if sock.fileno() < 0:
        return False
    poll = select.poll()
    poll.register(sock.fileno(), select.POLLIN)
    return any(event & select.POLLIN for _, event in poll.poll(0))


def _bind_path(path: str) -> socket.socket:
    """Bind a UNIX domain socket as uvicorn does: open to all, or with the permissions of the file that it replaces."""
    permissions = 0o666
    place = Path(path)
    if place.exists():
        status = place.stat()
        if not stat.S_ISSOCK(status.st_mode):
            raise OSError(errno.EEXIST, "a file that is not a socket exists there")
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            if probe.connect_ex(path) == 0:
                raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))
        permissions = stat.S_IMODE(status.st_mode)
        place.unlink()
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(path)
        place.chmod(permissions)
        sock.set_inheritable(True)
    except BaseException:
        sock.close()
        raise
    return sock


def _clash(side: Side, address: Address, error: OSError) -> str:
    """Return the error text for an address that cannot be bound, with the option to change."""
    is_private = side == "private"
    port = "--private-port" if is_private else "--uds" if isinstance(address, UnixAddress) else "--port"
    hint, option = {
        errno.EADDRINUSE: ("another process may use it; change ", port),
        errno.EADDRNOTAVAIL: (
            "this host does not have this address; change ",
            "--private-host" if is_private else "--host",
        ),
        errno.EACCES: ("ports below 1024 need CAP_NET_BIND_SERVICE; change ", port),
    }.get(error.errno or 0, ("check ", port))
    if isinstance(address, InheritedSocket):
        option = "--fd"
    return f"cannot bind the {side} listener to {address}: {error.strerror or error}; {hint}{option}"
