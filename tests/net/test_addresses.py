from __future__ import annotations

import errno
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NoReturn

import pytest

from duallisten import LaunchError
from duallisten.net import (
    Host,
    Interface,
    addresses,
    canonical,
    covers,
    join,
    netlink,
    parse_network,
    read_address,
    read_host,
)

MAPPED = IPv6Address("::ffff:10.240.0.6")


def test_an_ipv4_mapped_address_is_read_as_its_ipv4_address() -> None:
    assert canonical(MAPPED) == IPv4Address("10.240.0.6")
    assert read_address("::ffff:10.240.0.6") == IPv4Address("10.240.0.6")
    assert covers([ip_network("10.240.0.0/22")], MAPPED)


def test_a_zone_does_not_take_an_address_out_of_its_network() -> None:
    assert canonical(ip_address("fe80::1%eth0")) == IPv6Address("fe80::1")
    assert covers([ip_network("fe80::/10")], ip_address("fe80::1%eth0"))


@pytest.mark.parametrize("text", ["", "localhost", "/run/app.sock", "10.240.0", "10.240.0.6:80"])
def test_what_is_no_ip_address_is_none(text: str) -> None:
    assert read_address(text) is None


def test_a_long_text_is_no_address_and_is_not_kept() -> None:
    before = addresses._read_address.cache_info().currsize
    assert read_address("1" * 70000) is None
    assert addresses._read_address.cache_info().currsize == before


def test_a_network_may_be_a_single_address() -> None:
    assert parse_network("10.240.0.6") == ip_network("10.240.0.6/32")
    assert parse_network("fdaa::/16") == ip_network("fdaa::/16")


def test_a_network_with_bits_of_a_host_is_refused_with_the_one_that_was_meant() -> None:
    with pytest.raises(ValueError, match=r"did you mean 10\.240\.0\.0/22\?"):
        parse_network("10.240.0.5/22")


@pytest.mark.parametrize("text", ["10.240.0.0/40", "ten", "", "10.240.0.0/22/1"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a network"):
        parse_network(text)


def test_networks_are_listed_as_people_write_them() -> None:
    assert join([ip_network("10.240.0.0/22"), ip_network("::1/128")]) == "10.240.0.0/22, ::1"


def test_a_host_owns_the_addresses_of_its_interfaces_and_all_of_the_loopback_block() -> None:
    host = Host((Interface("eth1", (IPv4Address("10.240.0.5"), ip_address("fe80::1%eth1"))),), lambda name: ())
    assert host.owns(IPv4Address("10.240.0.5"))
    assert host.owns(IPv6Address("fe80::1"))
    assert host.owns(IPv4Address("127.0.0.2"))
    assert not host.owns(IPv4Address("10.240.0.6"))
    assert host.describe() == "eth1 10.240.0.5, eth1 fe80::1%eth1"


def test_this_machine_has_a_loopback_interface_and_a_resolver() -> None:
    host = read_host()
    assert IPv4Address("127.0.0.1") in host.addresses
    assert IPv4Address("127.0.0.1") in host.resolve("localhost")
    assert host.resolve("nowhere.invalid") == ()


def test_a_kernel_that_does_not_answer_is_told_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> NoReturn:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(netlink, "owned_addresses", refuse)
    with pytest.raises(LaunchError, match="cannot be read from the kernel: Operation not permitted"):
        read_host()


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("::ffff:10.240.0.0/118", "10.240.0.0/22"),
        ("::ffff:10.240.0.6", "10.240.0.6/32"),
        ("::ffff:0:0/96", "0.0.0.0/0"),
        (IPv6Network("::ffff:10.0.0.0/104"), "10.0.0.0/8"),
        ("::/0", "::/0"),
        ("fd00::/8", "fd00::/8"),
    ],
)
def test_a_network_of_ipv4_mapped_addresses_is_read_as_the_ipv4_one(written: object, meant: str) -> None:
    """No peer is ever seen as a mapped one, so it would admit nobody."""
    assert str(parse_network(written)) == meant


def test_the_network_that_was_meant_is_said_as_ipv4_too() -> None:
    with pytest.raises(ValueError, match=r"did you mean 10\.240\.0\.0/22\?"):
        parse_network("::ffff:10.240.0.5/118")
