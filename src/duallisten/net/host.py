"""The interfaces and addresses of this host, and the networks that are routed through an interface.

A private address is found by its network, never by the name of its interface: platforms document the network, not the
name. A user may name an interface.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address, ip_network
from typing import NamedTuple

from duallisten.errors import LaunchError
from duallisten.net.addresses import IPAddress, IPNetwork, canonical


class Interface(NamedTuple):
    """A network interface of this host: its name and its addresses."""

    name: str
    addresses: tuple[IPAddress, ...]


class Host(NamedTuple):
    """The facts about the machine that a plan needs.

    Attributes:
        interfaces: Every interface with its addresses, in the system's order.
        resolve: Returns the addresses of a host name; empty if it has none.
        routed: Takes an interface's name. Returns the networks routed through it, without the default route.
    """

    interfaces: tuple[Interface, ...]
    resolve: Callable[[str], tuple[IPAddress, ...]]
    routed: Callable[[str], tuple[IPNetwork, ...]] = lambda interface: ()

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """Every address of every interface."""
        return tuple(address for interface in self.interfaces for address in interface.addresses)

    def owns(self, address: IPAddress) -> bool:
        """Whether `address` belongs to this host; all of 127.0.0.0/8 does (RFC 1122)."""
        address = canonical(address)
        return address in map(canonical, self.addresses) or (address.version == 4 and address.is_loopback)

    def describe(self) -> str:
        """List every address with its interface, for a message: `lo 127.0.0.1, eth0 172.17.0.2`."""
        found = (f"{interface.name} {address}" for interface in self.interfaces for address in interface.addresses)
        return ", ".join(found) or "none"


def read_host() -> Host:
    """Read the interfaces of this host now; raises LaunchError if the system call fails."""
    if sys.platform == "linux":
        return Host(_ask_kernel(), resolve_name, _routes_of_kernel)
    return Host(_ask_psutil(), resolve_name, _networks_of_psutil)


def _ask_kernel() -> tuple[Interface, ...]:
    from duallisten.net.netlink import owned_addresses

    try:
        owned = owned_addresses()
    except OSError as error:
        raise LaunchError(f"the addresses of this host cannot be read from the kernel: {error.strerror}") from None
    return tuple(
        Interface(name, tuple(_from_packed(one.packed, name) for one in owned if one.interface == index))
        for index, name in socket.if_nameindex()
    )


def _routes_of_kernel(interface: str) -> tuple[IPNetwork, ...]:
    from duallisten.net.netlink import routed_networks

    try:
        routes = routed_networks(socket.if_nametoindex(interface))
    except OSError as error:
        raise LaunchError(f"the routes of {interface} cannot be read from the kernel: {error.strerror}") from None
    return tuple(dict.fromkeys(ip_network((route.packed, route.bits)) for route in routes))


def _from_packed(packed: bytes, interface: str) -> IPAddress:
    """Build the address of an interface; an IPv6 link-local address gets its zone (RFC 4007, 6)."""
    address = ip_address(packed)
    return IPv6Address(f"{address}%{interface}") if address.version == 6 and address.is_link_local else address


def _ask_psutil() -> tuple[Interface, ...]:
    import psutil

    interfaces = []
    for name, entries in psutil.net_if_addrs().items():
        texts = (entry.address for entry in entries if entry.family in (socket.AF_INET, socket.AF_INET6))
        interfaces.append(Interface(name, tuple(ip_address(text) for text in texts)))
    return tuple(interfaces)


def _networks_of_psutil(interface: str) -> tuple[IPNetwork, ...]:
    """Return the networks of an interface's own IPv4 addresses; psutil knows no other routes."""
    import psutil

    entries = psutil.net_if_addrs().get(interface, ())
    pairs = ((entry.address, entry.netmask) for entry in entries if entry.family == socket.AF_INET and entry.netmask)
    return tuple(dict.fromkeys(ip_network(f"{address}/{netmask}", strict=False) for address, netmask in pairs))


def resolve_name(name: str) -> tuple[IPAddress, ...]:
    """Return the addresses of `name` from the system's resolver, in its order, without duplicates."""
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(ip_address(answer[4][0]) for answer in answers))
