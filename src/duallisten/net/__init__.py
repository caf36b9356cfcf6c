"""Addresses and networks, and the interfaces of this host."""

from duallisten.net.addresses import (
    LONGEST_ADDRESS,
    LOOPBACK,
    PRIVATE_NETWORKS,
    Address,
    InheritedSocket,
    IPAddress,
    IPNetwork,
    Passed,
    TCPAddress,
    UnixAddress,
    canonical,
    covers,
    join,
    parse_network,
    read_address,
)
from duallisten.net.host import Host, Interface, read_host, resolve_name

__all__ = [
    "LONGEST_ADDRESS",
    "LOOPBACK",
    "PRIVATE_NETWORKS",
    "Address",
    "Host",
    "IPAddress",
    "IPNetwork",
    "InheritedSocket",
    "Interface",
    "Passed",
    "TCPAddress",
    "UnixAddress",
    "canonical",
    "covers",
    "join",
    "parse_network",
    "read_address",
    "read_host",
    "resolve_name",
]
