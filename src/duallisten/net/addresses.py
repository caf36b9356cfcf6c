"""Addresses and networks, as values: parsed once, and never passed on as text.

Invariants:
    - An IPv4-mapped IPv6 address (RFC 4291, 2.5.5.2) is treated as its IPv4 address in every decision. Dual-stack
      sockets report IPv4 peers in that form. Only `canonical` converts it.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import NamedTuple

IPAddress = IPv4Address | IPv6Address
IPNetwork = IPv4Network | IPv6Network

LOOPBACK: tuple[IPNetwork, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))

PRIVATE_NETWORKS: tuple[IPNetwork, ...] = (
    IPv4Network("10.0.0.0/8"),
    IPv4Network("172.16.0.0/12"),
    IPv4Network("192.168.0.0/16"),
    IPv4Network("100.64.0.0/10"),
    IPv6Network("fc00::/7"),
)
"""Networks that are not routed on the internet: RFC 1918; RFC 6598, which overlay networks use; RFC 4193."""

LONGEST_ADDRESS = 80
"""Characters. The longest text of an IPv6 address has 45; a zone after it is the name of an interface."""


class TCPAddress(NamedTuple):
    """An IP address (with its zone, if it has one) and a port in host order; with port 0 the kernel chooses one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_wildcard(self) -> bool:
        """Whether it means every address of the host."""
        return self.host in ("0.0.0.0", "::")  # noqa: S104

    def covers(self, other: TCPAddress) -> bool:
        """Whether a socket bound here also receives connections to `other`; `::` is bound for both families."""
        if self.port != other.port or self.port == 0:
            return False
        return self.host in (other.host, "::") or (self.host == "0.0.0.0" and ":" not in other.host)  # noqa: S104


class UnixAddress(NamedTuple):
    """The path of a UNIX domain socket."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


class InheritedSocket(NamedTuple):
    """A socket that the process has inherited, and its bound address, if that has been looked up."""

    descriptor: int
    address: TCPAddress | UnixAddress | None = None

    def __str__(self) -> str:
        return f"fd:{self.descriptor}" if self.address is None else f"{self.address} (fd:{self.descriptor})"


class Passed(NamedTuple):
    """The sockets that a service manager has bound for the listeners, by side."""

    public: tuple[InheritedSocket, ...] = ()
    private: tuple[InheritedSocket, ...] = ()


Address = TCPAddress | UnixAddress | InheritedSocket


def canonical(address: IPAddress) -> IPAddress:
    """Return the IPv4 address inside an IPv4-mapped IPv6 one; any other address unchanged, without its zone."""
    if isinstance(address, IPv6Address):
        if address.ipv4_mapped is not None:
            return address.ipv4_mapped
        if address.scope_id is not None:
            return IPv6Address(int(address))
    return address


def read_address(text: str) -> IPAddress | None:
    """Parse the host part of a socket name, or of a header; return None if it is not an IP address.

    The result is in canonical form. A header may contain a text of any length, which must not fill the cache.
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
    """Parse a network in CIDR form, or a single address as a network of one address.

    A network of IPv4-mapped addresses is returned as its IPv4 network. Raises ValueError with the reason; if host bits
    are set, also with the network that was probably meant.
    """
    if isinstance(value, IPv4Network | IPv6Network):
        return _without_mapping(value)
    text = str(value).strip()
    try:
        return _without_mapping(ip_network(text))
    except ValueError:
        try:
            meant = _without_mapping(ip_network(text, strict=False))
        except ValueError:
            if "," in text:
                raise ValueError("is several networks: give each by itself") from None
            raise ValueError("is not a network: write it as 10.240.0.0/22 or fd00::/8") from None
        raise ValueError(f"has bits of a host set: did you mean {meant}?") from None


def _without_mapping(network: IPNetwork) -> IPNetwork:
    """Return the IPv4 network of a network of IPv4-mapped addresses; any other network unchanged."""
    inner = network.network_address.ipv4_mapped if isinstance(network, IPv6Network) else None
    return network if inner is None or network.prefixlen < 96 else IPv4Network((inner, network.prefixlen - 96))


def join(networks: Iterable[IPNetwork]) -> str:
    """List networks for a message; a network of one address is written without prefix length."""
    return ", ".join(
        str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)
        for network in networks
    )
