"""A private port that processes share which serve one public socket, and that is nobody else's."""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from duallisten.listeners.admission import Admission
from duallisten.listeners.plan import Listener, Plan
from duallisten.listeners.shared_port import sharing
from duallisten.listeners.sockets import BoundSocket, bind, listen
from duallisten.net import InheritedSocket, TCPAddress

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="of Linux")


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def public_socket(stack: ExitStack) -> socket.socket:
    sock = stack.enter_context(socket.socket())
    sock.bind(("127.0.0.1", 0))
    return sock


def free_port(stack: ExitStack) -> int:
    """A port that nobody else gets meanwhile: bound, and not listened on."""
    sock = stack.enter_context(socket.socket())
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("127.0.0.1", 0))
    return int(sock.getsockname()[1])


def member(stack: ExitStack, public: socket.socket, port: int) -> BoundSocket:
    """Bind the private socket of a process that was given a public one."""
    address = InheritedSocket(public.fileno())
    plan = Plan(Listener("public", (address,)), Listener("private", (TCPAddress("127.0.0.1", port),)), Admission(()))
    private, given = bind(plan, share=sharing(plan, None))
    stack.callback(private.socket.close)
    given.socket.close()
    return private


def reached(port: int, members: list[BoundSocket]) -> bool:
    """Whether a connection gets to one of them."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        for one in members:
            one.socket.settimeout(0.2)
            try:
                taken, peer = one.socket.accept()
            except TimeoutError:
                continue
            taken.close()
            return bool(peer == connection.getsockname())
    return False


def test_those_who_serve_one_public_socket_listen_on_one_private_port(stack: ExitStack) -> None:
    public, port = public_socket(stack), free_port(stack)
    members = [member(stack, public, port) for _ in range(3)]
    for one in members:
        listen(one.socket, 5)
    members.append(member(stack, public, port))  # a worker that comes later
    listen(members[-1].socket, 5)
    assert all(reached(port, members) for _ in range(5))
    members.pop(0).socket.close()
    assert all(reached(port, members) for _ in range(5))


def test_who_serves_another_public_socket_is_refused_before_and_when_it_listens(stack: ExitStack) -> None:
    port = free_port(stack)
    ours, other = public_socket(stack), public_socket(stack)
    first, theirs = member(stack, ours, port), member(stack, other, port)
    listen(first.socket, 5)
    with pytest.raises(OSError) as refused:
        listen(theirs.socket, 5)
    assert refused.value.errno == errno.EADDRINUSE
    with pytest.raises(Exception, match=r"cannot bind the private listener to .* Address already in use"):
        member(stack, other, port)


def test_who_does_not_know_of_the_group_cannot_listen_there(stack: ExitStack) -> None:
    public, port = public_socket(stack), free_port(stack)
    listen(member(stack, public, port).socket, 5)
    alone = Plan(None, Listener("private", (TCPAddress("127.0.0.1", port),)), Admission(()))
    with pytest.raises(Exception, match="Address already in use"):
        bind(alone)


def test_a_port_that_a_stranger_listens_on_is_refused_even_if_it_could_be_shared(stack: ExitStack) -> None:
    public = public_socket(stack)
    stranger = stack.enter_context(socket.socket())
    stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    stranger.bind(("127.0.0.1", 0))
    stranger.listen()
    with pytest.raises(Exception, match="Address already in use"):
        member(stack, public, stranger.getsockname()[1])


def test_the_port_is_anybody_s_when_the_last_of_the_group_is_gone(stack: ExitStack) -> None:
    port = free_port(stack)
    one = member(stack, public_socket(stack), port)
    listen(one.socket, 5)
    one.socket.close()
    listen(member(stack, public_socket(stack), port).socket, 5)
