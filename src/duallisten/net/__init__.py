"""Addresses and networks, and the interfaces of this host."""

from duallisten.net.addresses import Address, InheritedSocket, Passed, TCPAddress, UnixAddress
from duallisten.net.networks import (
    LONGEST_ADDRESS,
    LOOPBACK,
    Host,
    IPAddress,
    IPNetwork,
    canonical,
    covers,
    join,
    parse_network,
    read_address,
    read_host,
)

__all__ = [
    "LONGEST_ADDRESS",
    "LOOPBACK",
    "Address",
    "Host",
    "IPAddress",
    "IPNetwork",
    "InheritedSocket",
    "Passed",
    "TCPAddress",
    "UnixAddress",
    "canonical",
    "covers",
    "join",
    "parse_network",
    "read_address",
    "read_host",
]
