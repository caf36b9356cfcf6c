"""Accept queues of their own: who may listen at an address, and who gets its connections."""

from __future__ import annotations

import contextlib
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from duallisten import LaunchError
from duallisten.listeners.sockets import BoundSocket, bound_socket, tcp_socket
from duallisten.processes.worker_slots import LONGEST_DELAY, PortClaims, Slot, bind_siblings

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="elsewhere all workers share one queue")

HOSTS = [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")]


def claims() -> PortClaims:
    return PortClaims(lambda side: 128)


@contextlib.contextmanager
def own(family: int, host: str, port: int = 0) -> Iterator[BoundSocket]:
    """A socket as a launch has it: bound and not listening."""
    with tcp_socket(family, (host, port)) as sock:
        yield bound_socket("public", sock, ours=True)


def stranger_at(first: BoundSocket, shares: bool) -> socket.socket:
    """A socket of another program at the same address, with SO_REUSEPORT or without."""
    return tcp_socket(socket.AF_INET, first.name, reuse_port=shares)


def accepted(one: BoundSocket) -> int:
    """Take all that waits in a queue, and count it."""
    one.socket.setblocking(False)
    count = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            one.socket.accept()[0].close()
            count += 1
    return count


@pytest.mark.parametrize(("family", "host"), HOSTS)
def test_the_kernel_spreads_connections_over_all_that_listen(family: int, host: str) -> None:
    with own(family, host) as first, contextlib.ExitStack() as stack:
        queues = [first, *(bind_siblings([first])[0] for _ in range(3))]
        for one in queues:
            stack.enter_context(one.socket)
        claimed = claims()
        for one in queues[:2]:
            claimed.listen([one])
        for _ in range(100):
            stack.enter_context(socket.create_connection(("127.0.0.1", first.name[1])))
        early = [accepted(one) for one in queues[:2]]
        assert sum(early) == 100 and min(early) > 0, "those that do not listen yet get none"
        claimed.listen(queues[2:])
        for _ in range(200):
            stack.enter_context(socket.create_connection(("127.0.0.1", first.name[1])))
        late = [accepted(one) for one in queues]
        assert sum(late) == 200 and min(late) > 0


@pytest.mark.parametrize(("family", "host"), HOSTS)
def test_a_second_launch_that_was_bound_at_the_same_time_may_not_listen(family: int, host: str) -> None:
    with own(family, host) as first, own(family, host, first.name[1]) as other, bind_siblings([other])[0].socket:
        claims().listen([first])
        with pytest.raises(LaunchError, match=r"cannot listen on .*another process has taken the port meanwhile"):
            claims().listen([other])


@pytest.mark.parametrize("shares", [False, True])
def test_another_program_that_took_the_port_meanwhile_is_found(shares: bool) -> None:
    with (
        own(socket.AF_INET, "127.0.0.1") as first,
        bind_siblings([first])[0].socket,
        stranger_at(first, shares) as other,
    ):
        other.listen()
        with pytest.raises(LaunchError, match="another process"):
            claims().listen([first])


def test_what_waits_in_a_queue_is_not_lost_with_the_process_that_listened() -> None:
    with own(socket.AF_INET, "127.0.0.1") as first:
        theirs = first.socket.dup()
        claims().listen([first])
        with socket.create_connection(first.name) as client:
            theirs.close()
            client.sendall(b"hello")
            accepting, _ = first.socket.accept()
            with accepting:
                assert accepting.recv(16) == b"hello"


def test_what_cannot_be_divided_is_shared() -> None:
    with socket.socket(socket.AF_UNIX) as path, tcp_socket(socket.AF_INET, ("127.0.0.1", 0)) as inherited:
        given = [bound_socket("public", path), bound_socket("public", inherited)]
        assert bind_siblings(given) == given


def test_nothing_stays_open_when_one_of_several_cannot_be_bound() -> None:
    with own(socket.AF_INET, "127.0.0.1") as good, own(socket.AF_INET, "127.0.0.1") as stranger:
        stranger.socket.listen()
        refused = good._replace(socket=_At(good.socket, stranger.name))
        before = open_descriptors()
        with pytest.raises(OSError, match="in use"):
            bind_siblings([good, refused])
        assert open_descriptors() == before


def open_descriptors() -> set[str]:
    return {entry.name for entry in Path("/proc/self/fd").iterdir() if entry.exists()}


class _At(socket.socket):
    """A socket that says that it is bound elsewhere."""

    def __init__(self, like: socket.socket, name: tuple[str, int]) -> None:
        super().__init__(like.family, fileno=like.fileno())
        self.name = name

    def getsockname(self) -> tuple[str, int]:
        self.detach()  # the descriptor is another's
        return self.name


def test_the_delay_of_a_worker_that_dies_young_for_days_is_the_longest_one() -> None:
    slot = Slot(pool=None, queues=[], young_deaths=5000)  # type: ignore[arg-type]
    assert slot.note_end(SimpleNamespace(serving=False)) == LONGEST_DELAY  # type: ignore[arg-type]
