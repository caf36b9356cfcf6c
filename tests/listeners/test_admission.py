"""The one promise: the wrong side is never reached. These are its negative cases, without a socket."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest

from duallisten.listeners.admission import Admission, Verdict
from duallisten.net import LOOPBACK

PRIVATE = (ip_network("10.240.0.0/22"), ip_network("fdaa::/16"))
ADMISSION = Admission(PRIVATE, (ip_address("10.240.0.5"),), (*PRIVATE, *LOOPBACK))
REFUSING = ADMISSION._replace(side_door="refuse")


@pytest.mark.parametrize("peer", ["10.240.0.6", "::ffff:10.240.0.6", "127.0.0.1", "::1", "fdaa::6", "10.240.3.254"])
def test_a_neighbour_is_admitted_to_the_private_side(peer: str) -> None:
    assert ADMISSION.private(peer) is Verdict.PRIVATE


@pytest.mark.parametrize(
    "peer",
    ["172.17.0.1", "10.240.4.1", "8.8.8.8", "::ffff:172.17.0.1", "fdab::1", "::10.240.0.6", "", "neighbour", None],
)
def test_a_stranger_is_not_admitted_to_the_private_side(peer: str | None) -> None:
    assert ADMISSION.private(peer) is Verdict.REFUSED


@pytest.mark.parametrize("local", ["172.17.0.2", "127.0.0.1", "::1", "::ffff:172.17.0.2", "/run/app.sock", None])
@pytest.mark.parametrize("peer", ["172.17.0.1", "203.0.113.7", "169.254.8.129", "127.0.0.1", "2001:db8::1", None])
def test_the_public_address_leads_to_the_public_side(local: str | None, peer: str | None) -> None:
    assert ADMISSION.public(local, peer) is Verdict.PUBLIC


SIDE_DOORS = [
    ("10.240.0.5", "172.17.0.1"),
    ("10.240.0.77", "10.240.0.6"),
    ("::ffff:10.240.0.5", "::ffff:10.240.0.6"),
    ("fdaa::5", "fdaa::6"),
    ("172.17.0.2", "10.240.0.6"),  # routed in to the outer address, past the routers
    ("fe80::5%eth1", "fe80::6%eth1"),  # over the link itself, which may be the private one
    ("2001:db8::5", "fe80::6%eth1"),
]


@pytest.mark.parametrize(("local", "peer"), SIDE_DOORS)
def test_a_private_address_at_either_end_of_the_public_port_is_the_side_door(local: str, peer: str) -> None:
    assert ADMISSION.public(local, peer) is Verdict.SIDE_DOOR
    assert REFUSING.public(local, peer) is Verdict.REFUSED


def test_the_private_address_is_a_side_door_also_outside_the_private_networks() -> None:
    admission = Admission(PRIVATE, (ip_address("192.168.7.5"),), (ip_network("192.168.7.0/24"),))
    assert admission.public("192.168.7.5", "192.168.7.9") is Verdict.SIDE_DOOR
    assert admission.public("192.168.7.6", "192.168.7.9") is Verdict.PUBLIC


def test_a_private_listener_on_loopback_makes_no_side_door_of_loopback() -> None:
    admission = Admission(PRIVATE, (ip_address("127.0.0.1"),), LOOPBACK)
    assert admission.public("127.0.0.1", "127.0.0.1") is Verdict.PUBLIC


def test_one_socket_for_both_sides_tells_them_apart_by_address_and_peer() -> None:
    assert ADMISSION.shared("10.240.0.5", "10.240.0.6") is Verdict.PRIVATE
    assert ADMISSION.shared("::ffff:10.240.0.5", "::ffff:10.240.0.6") is Verdict.PRIVATE
    assert ADMISSION.shared("172.17.0.2", "172.17.0.1") is Verdict.PUBLIC


@pytest.mark.parametrize(
    ("local", "peer"),
    [
        ("10.240.0.5", "172.17.0.1"),  # routed in from the outer network
        ("10.240.0.5", None),
        ("10.240.0.7", "10.240.0.6"),  # a private address, but not the listener's
    ],
)
def test_one_socket_for_both_sides_gives_nobody_the_private_side_by_mistake(local: str, peer: str | None) -> None:
    assert ADMISSION.shared(local, peer) is Verdict.SIDE_DOOR
    assert REFUSING.shared(local, peer) is Verdict.REFUSED


@pytest.mark.parametrize(("local", "peer"), SIDE_DOORS)
def test_where_the_port_is_the_fence_there_is_no_side_door(local: str, peer: str) -> None:
    admission = REFUSING._replace(fence="port")
    assert admission.public(local, peer) is Verdict.PUBLIC
    assert admission.private("8.8.8.8") is Verdict.REFUSED
    assert admission.private("10.240.0.6") is Verdict.PRIVATE


def test_without_a_private_listener_nothing_is_private() -> None:
    admission = Admission(PRIVATE)
    assert admission.shared("10.240.0.5", "10.240.0.6") is Verdict.SIDE_DOOR
    assert admission.private("10.240.0.6") is Verdict.REFUSED
