"""Addresses and networks: reading them, comparing them, and finding those of this host.

A private address is found by the network it lies in, never by the name of an interface: platforms promise the
block, and nothing about names. An IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2), which is how a dual-stack socket
shows an IPv4 peer, is read as its IPv4 address in every decision; `canonical` is the one place that does it.

Apart from `read_host` nothing here looks at the machine.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable, Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from duallisten.errors import LaunchError
from duallisten.net.netlink import owned_addresses

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

LOOPBACK: tuple[IPNetwork, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))


class Interface(NamedTuple):
    """A network interface of this host: its name and the addresses that it owns."""

    name: str
    addresses: tuple[IPAddress, ...]


class Host(NamedTuple):
    """What a plan needs to know of the machine.

    interfaces: every interface with its addresses, in the system's order
    resolve: the addresses that a host name stands for; empty where it stands for none
    """

    interfaces: tuple[Interface, ...]
    resolve: Callable[[str], tuple[IPAddress, ...]]

    @property
    def addresses(self) -> tuple[IPAddress, ...]:
        """Every address of every interface."""
        return tuple(address for interface in self.interfaces for address in interface.addresses)

    def owns(self, address: IPAddress) -> bool:
        """Whether `address` belongs to an interface of this host; all of 127.0.0.0/8 does (RFC 1122)."""
        address = canonical(address)
        return address in map(canonical, self.addresses) or (address.version == 4 and address.is_loopback)

    def describe(self) -> str:
        """Every address with its interface, for a message: `lo 127.0.0.1, eth0 172.17.0.2`."""
        found = (f"{interface.name} {address}" for interface in self.interfaces for address in interface.addresses)
        return ", ".join(found) or "none"


def read_host() -> Host:
    """Read the interfaces of this host now; raises LaunchError where the system does not tell them."""
    return Host(_ask_kernel() if sys.platform == "linux" else _ask_psutil(), resolve_name)


def _ask_kernel() -> tuple[Interface, ...]:
    try:
        owned = owned_addresses()
    except OSError as error:
        raise LaunchError(f"the addresses of this host cannot be read from the kernel: {error.strerror}") from None
    return tuple(
        Interface(name, tuple(_from_packed(one.packed, name) for one in owned if one.interface == index))
        for index, name in socket.if_nameindex()
    )


def _from_packed(packed: bytes, interface: str) -> IPAddress:
    """Read an address of an interface; an IPv6 link-local one is one only with its zone (RFC 4007, 6)."""
    address = ip_address(packed)
    return IPv6Address(f"{address}%{interface}") if address.version == 6 and address.is_link_local else address


def _ask_psutil() -> tuple[Interface, ...]:
    import psutil

    interfaces = []
    for name, entries in psutil.net_if_addrs().items():
        texts = (entry.address for entry in entries if entry.family in (socket.AF_INET, socket.AF_INET6))
        interfaces.append(Interface(name, tuple(ip_address(text) for text in texts)))
    return tuple(interfaces)


def resolve_name(name: str) -> tuple[IPAddress, ...]:
    """Ask the system's resolver for the addresses of `name`, in its order, each once."""
    try:
        answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return ()
    return tuple(dict.fromkeys(ip_address(answer[4][0]) for answer in answers))


def canonical(address: IPAddress) -> IPAddress:
    """Return the IPv4 address inside an IPv4-mapped IPv6 one; any other address unchanged, without its zone."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.scope_id is not None:
            return IPv6Address(int(address))
    return address


LONGEST_ADDRESS = 80
"""Characters; the longest text of an IPv6 address has 45, and a zone after it is the name of an interface."""


def read_address(text: str) -> IPAddress | None:
    """Read the host part of a socket's name, or what a header has in its place; None where it is no IP address.

    Returns it in canonical form. What a header says may be of any length, and must not fill the cache.
    """
    return _read_address(text) if len(text) <= LONGEST_ADDRESS else None


@lru_cache(maxsize=4096)
def _read_address(text: str) -> IPAddress | None:
    try:
        return canonical(ip_address(text))
    except ValueError:
        return None


def covers(networks: Iterable[IPNetwork], address: IPAddress) -> bool:
    """Whether `address` lies in one of `networks`."""
    address = canonical(address)
    return any(address in network for network in networks)


def parse_network(value: object) -> IPNetwork:
    """Read a network in CIDR form, or a single address as the network of itself.

    Raises ValueError with the reason, and with the network that was probably meant where bits of the host are set.
    """
    if isinstance(value, IPv4Network | IPv6Network):
        return value
    text = str(value).strip()
    try:
        return ip_network(text)
    except ValueError:
        try:
            meant = ip_network(text, strict=False)
        except ValueError:
            raise ValueError("is not a network: write it as 10.240.0.0/22 or fd00::/8") from None
        raise ValueError(f"has bits of a host set: did you mean {meant}?") from None


def join(networks: Iterable[IPNetwork]) -> str:
    """List networks in a message; one that is a single address without its prefix length."""
    return ", ".join(
        str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
        for network in networks
    )
