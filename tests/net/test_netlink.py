"""The kernel's answers about this host's addresses, read as its headers define them."""

from __future__ import annotations

import errno
import socket
import struct
import sys
from ipaddress import ip_address

import psutil
import pytest

from duallisten import LaunchError
from duallisten.net import netlink, read_host
from duallisten.net.netlink import Owned, Routed, read_datagram

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="netlink is Linux's")

FOUR, PEER, SIX = (ip_address(text).packed for text in ("10.240.0.5", "10.240.0.6", "fdaa::5"))


def message(kind: int, body: bytes, flags: int = 0) -> bytes:
    length = netlink.HEADER.size + len(body)
    return netlink.HEADER.pack(length, kind, flags, 1, 0) + body + b"\0" * (-length % 4)


def attribute(kind: int, value: bytes) -> bytes:
    length = netlink.ATTRIBUTE.size + len(value)
    return netlink.ATTRIBUTE.pack(length, kind) + value + b"\0" * (-length % 4)


def address(family: int, *attributes: bytes, index: int = 2, flags: int = 0) -> bytes:
    return message(netlink.RTM_NEWADDR, netlink.ADDRESS.pack(family, 24, flags, 0, index) + b"".join(attributes))


def read(*messages: bytes) -> tuple[Owned, ...]:
    return read_datagram(b"".join(messages)).addresses


def test_addresses_are_read_past_attributes_of_other_kinds_and_lengths() -> None:
    label = attribute(3, b"eth0\0")
    four = address(socket.AF_INET, label, attribute(netlink.IFA_ADDRESS, FOUR), index=3)
    six = address(socket.AF_INET6, attribute(netlink.IFA_ADDRESS, SIX), attribute(6, b"\0" * 16))
    assert read(four, six) == (Owned(3, FOUR), Owned(2, SIX))


def test_of_an_interface_to_one_peer_the_address_is_ours_and_not_the_peer_s() -> None:
    told = address(socket.AF_INET, attribute(netlink.IFA_ADDRESS, PEER), attribute(netlink.IFA_LOCAL, FOUR))
    assert read(told) == (Owned(2, FOUR),)


@pytest.mark.parametrize(("flags", "count"), [(netlink.IFA_F_TENTATIVE, 0), (0x44, 1), (0x80, 1)])
def test_an_address_that_cannot_be_bound_yet_is_not_there_yet(flags: int, count: int) -> None:
    assert len(read(address(socket.AF_INET6, attribute(netlink.IFA_ADDRESS, SIX), flags=flags))) == count


def test_what_is_no_ip_address_is_passed_over() -> None:
    other = address(17, attribute(netlink.IFA_ADDRESS, b"\1" * 6))
    bare = address(socket.AF_INET)
    link = message(16, b"\0" * 16)
    assert read(other, bare, link) == ()


def test_the_end_and_a_disturbance_are_told() -> None:
    done = message(netlink.NLMSG_DONE, b"\0" * 4)
    assert read_datagram(done).last
    disturbed = read_datagram(message(netlink.NLMSG_DONE, b"\0" * 4, flags=netlink.NLM_F_DUMP_INTR))
    assert disturbed.last and disturbed.disturbed
    more = read_datagram(address(socket.AF_INET, attribute(netlink.IFA_LOCAL, FOUR)))
    assert not more.last and not more.disturbed


def test_an_error_of_the_kernel_is_raised() -> None:
    with pytest.raises(OSError, match="Operation not permitted") as raised:
        read_datagram(message(netlink.NLMSG_ERROR, struct.pack("=i", -errno.EPERM) + b"\0" * 16))
    assert raised.value.errno == errno.EPERM


def route(*attributes: bytes, family: int = socket.AF_INET, bits: int = 24, kind: int = netlink.RTN_UNICAST) -> bytes:
    head = netlink.ROUTE.pack(family, bits, 0, 0, 52, 0, 0, kind, 0)
    return message(netlink.RTM_NEWROUTE, head + b"".join(attributes))


def test_routes_to_networks_are_read_of_all_tables() -> None:
    network, out = attribute(netlink.RTA_DST, FOUR), attribute(netlink.RTA_OIF, struct.pack("=I", 7))
    told = route(attribute(15, b"\0" * 4), out, network)
    six = route(attribute(netlink.RTA_DST, SIX), out, family=socket.AF_INET6, bits=128)
    left_out = (
        route(out, bits=0),  # the default route
        route(network),  # over several interfaces
        route(network, out, kind=2),  # an address of this host
        route(network, out, family=128),  # of a multicast router
    )
    read = read_datagram(b"".join((told, *left_out, six))).routes
    assert read == (Routed(7, FOUR, 24), Routed(7, SIX, 128))


def test_the_loopback_interface_leads_to_no_network() -> None:
    this = read_host()
    assert this.routed("lo") == ()
    with pytest.raises(LaunchError, match="the routes of nowhere0 cannot be read from the kernel"):
        this.routed("nowhere0")


@pytest.mark.parametrize("data", [b"", b"\0" * 15, message(netlink.RTM_NEWADDR, b"\0" * 8)])
def test_an_answer_without_an_address_is_read_to_its_end(data: bytes) -> None:
    assert read(data) == ()


def test_this_host_s_addresses_are_those_that_its_c_library_knows() -> None:
    known = {
        (name, entry.address)
        for name, entries in psutil.net_if_addrs().items()
        for entry in entries
        if entry.family in (socket.AF_INET, socket.AF_INET6)
    }
    found = {(one.name, str(address)) for one in read_host().interfaces for address in one.addresses}
    assert found == known
    assert {one.name for one in read_host().interfaces} == set(psutil.net_if_addrs())
