from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest

from duallisten import LaunchError
from duallisten.listeners.admission import Admission
from duallisten.listeners.plan import Listener, Plan
from duallisten.listeners.sockets import bind, close, drop_everything
from duallisten.net import Address, InheritedSocket, TCPAddress, UnixAddress
from tests.support.running import DEADLINE


def plan(public: Address | None = None, private: Address | None = None) -> Plan:
    return Plan(
        public=Listener("public", (public,)) if public else None,
        private=Listener("private", (private,)) if private else None,
        admission=Admission(()),
    )


ANY = TCPAddress("127.0.0.1", 0)


def test_sockets_are_bound_the_private_one_first_and_do_not_listen_yet() -> None:
    bound = bind(plan(ANY, ANY))
    try:
        assert [one.side for one in bound] == ["private", "public"]
        for one in bound:
            assert one.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 0
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(one.name, timeout=DEADLINE)
    finally:
        close(bound)


def test_all_are_bound_or_none() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, socket.create_server(("127.0.0.1", 0)) as probe:
        free = TCPAddress(*probe.getsockname())
        probe.close()
        busy = TCPAddress(*taken.getsockname())
        with pytest.raises(LaunchError, match=rf"cannot bind the public listener to {busy}: Address already in use"):
            bind(plan(busy, free))
        with socket.socket() as again:
            again.bind(tuple(free))


def test_a_clash_that_only_shows_when_listening_is_found_before_anything_starts() -> None:
    """With SO_REUSEADDR two sockets can be bound to one address until one of them listens."""
    with socket.socket() as first:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first.bind(("127.0.0.1", 0))
        address = TCPAddress(*first.getsockname())
        close(bind(plan(address)))
        first.listen()
        with pytest.raises(LaunchError, match="Address already in use; another process may use it"):
            bind(plan(address))


def test_the_throw_away_socket_never_accepts() -> None:
    with socket.socket() as trying:
        trying.bind(("127.0.0.1", 0))
        drop_everything(trying)
        trying.listen()
        with pytest.raises(TimeoutError):
            socket.create_connection(trying.getsockname(), timeout=0.2)


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        (TCPAddress("192.0.2.77", 0), "this host does not have this address; change --host"),
        (UnixAddress("/nowhere/app.sock"), "No such file or directory; check --uds"),
        (InheritedSocket(999), "Bad file descriptor; check --fd"),
    ],
)
def test_what_cannot_be_bound_is_told_with_what_to_do(address: Address, reason: str) -> None:
    with pytest.raises(LaunchError, match=reason):
        bind(plan(address))


def test_the_ipv6_wildcard_is_bound_for_both_families() -> None:
    bound = bind(plan(TCPAddress("::", 0)))
    bound[0].socket.listen()
    port = bound[0].name[1]
    for host in ("127.0.0.1", "::1"):
        socket.create_connection((host, port), timeout=DEADLINE).close()
    close(bound)


def test_a_stale_socket_file_is_replaced_with_its_permissions_kept(tmp_path: Path) -> None:
    path = tmp_path / "app.sock"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    path.chmod(0o600)
    close(bind(plan(UnixAddress(str(path)))))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_socket_file_in_use_and_any_other_file_are_left_alone(tmp_path: Path) -> None:
    path, text = tmp_path / "app.sock", tmp_path / "notes.txt"
    text.write_text("mine")
    with socket.socket(socket.AF_UNIX) as used:
        used.bind(str(path))
        used.listen()
        with pytest.raises(LaunchError, match="Address already in use"):
            bind(plan(UnixAddress(str(path))))
    with pytest.raises(LaunchError, match="a file that is not a socket"):
        bind(plan(UnixAddress(str(text))))
    assert text.read_text() == "mine"


def test_an_inherited_socket_keeps_its_own_descriptor() -> None:
    with socket.create_server(("127.0.0.1", 0)) as given:
        bound = bind(plan(InheritedSocket(given.fileno())))
        close(bound)
        assert os.fstat(given.fileno())
        assert bound[0].name == given.getsockname()
