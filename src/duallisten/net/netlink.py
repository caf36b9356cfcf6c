"""The addresses of this host and the routes of its interfaces, read from the Linux kernel by netlink.

A launch needs its addresses before anything else. A library for this (psutil) would take a tenth of the whole start to
import, and these two queries are all that is needed of it. The facts it rests on (netlink(7), rtnetlink(7), and the
kernel's `linux/netlink.h`, `linux/rtnetlink.h` and `linux/if_addr.h`):

- The kernel answers RTM_GETADDR with NLM_F_DUMP by one RTM_NEWADDR for each address, in one or more datagrams, and by
  NLMSG_DONE at the end. On failure it sends NLMSG_ERROR with a negated errno. Messages and attributes are padded to
  four bytes, and their numbers are in host byte order. RTM_GETROUTE is answered likewise, with the routes of all
  tables.
- NLM_F_DUMP_INTR marks an answer that is inconsistent because of a concurrent change: the query is repeated.
- On a point-to-point interface IFA_ADDRESS is the peer's address, and ours is IFA_LOCAL. IPv6 interfaces seldom have
  IFA_LOCAL.
- An IPv6 address under duplicate address detection (IFA_F_TENTATIVE without IFA_F_OPTIMISTIC) cannot be bound. It is
  left out here; a launch that waits for its private address finds it a moment later.
- A route of RTN_UNICAST leads through the interface RTA_OIF to the network RTA_DST of `rtm_dst_len` bits. The default
  route has no RTA_DST. The host's own and broadcast addresses are routes of other types. A route over several
  interfaces (RTA_MULTIPATH) has no RTA_OIF, and is ignored here.

`read_datagram` is pure.

Invariants:
    - It queries nothing but addresses and routes, and never changes anything.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from typing import NamedTuple

HEADER = struct.Struct("=IHHII")  # struct nlmsghdr: length, type, flags, sequence number, port
ADDRESS = struct.Struct("=BBBBI")  # struct ifaddrmsg: family, prefix length, flags, scope, index
ROUTE = struct.Struct("=BBBBBBBBI")  # struct rtmsg: family, bits of destination and source, …, its type, flags
ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type

NLMSG_ERROR, NLMSG_DONE, RTM_NEWADDR, RTM_GETADDR, RTM_NEWROUTE, RTM_GETROUTE = 2, 3, 20, 22, 24, 26
NLM_F_REQUEST, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x01, 0x10, 0x300
IFA_ADDRESS, IFA_LOCAL = 1, 2
RTA_DST, RTA_OIF = 1, 4
RTN_UNICAST = 1
IFA_F_OPTIMISTIC, IFA_F_TENTATIVE = 0x04, 0x40

ATTEMPTS = 10
"""How many times a query is made until its answer is not disturbed."""

LONGEST_DATAGRAM = 1 << 16
"""Bytes; the kernel sends at most 32 KiB at a time."""


class Owned(NamedTuple):
    """An address of this host, in 4 or 16 bytes, and the index of its interface."""

    interface: int
    packed: bytes


class Routed(NamedTuple):
    """A network (its address in 4 or 16 bytes, and its prefix length in bits), and the index of its interface."""

    interface: int
    packed: bytes
    bits: int


class Datagram(NamedTuple):
    """A datagram of the kernel.

    Attributes:
        addresses: The addresses in it.
        routes: The routes in it.
        disturbed: Whether a concurrent change makes the answer inconsistent.
        last: Whether it is the last datagram of the answer.
    """

    addresses: tuple[Owned, ...]
    routes: tuple[Routed, ...]
    disturbed: bool
    last: bool


def owned_addresses() -> list[Owned]:
    """Return every IPv4 and IPv6 address of this network namespace, in the kernel's order; raises OSError."""
    answer = _ask(RTM_GETADDR, ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0))
    return [owned for datagram in answer for owned in datagram.addresses]


def routed_networks(interface: int) -> list[Routed]:
    """Return the networks routed through the interface of this index, without the default route; raises OSError."""
    answer = _ask(RTM_GETROUTE, ROUTE.pack(socket.AF_UNSPEC, 0, 0, 0, 0, 0, 0, 0, 0))
    return [route for datagram in answer for route in datagram.routes if route.interface == interface]


def _ask(kind: int, question: bytes) -> list[Datagram]:
    length = HEADER.size + len(question)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        for number in range(1, ATTEMPTS + 1):
            kernel.sendall(HEADER.pack(length, kind, NLM_F_REQUEST | NLM_F_DUMP, number, 0) + question)
            answer = [read_datagram(kernel.recv(LONGEST_DATAGRAM))]
            while not answer[-1].last:
                answer.append(read_datagram(kernel.recv(LONGEST_DATAGRAM)))
            if not any(datagram.disturbed for datagram in answer):
                return answer
    raise OSError(errno.EAGAIN, "they change faster than they can be read")


def read_datagram(data: bytes) -> Datagram:
    """Parse a datagram of the kernel; raises OSError if it contains an error."""
    addresses: list[Owned] = []
    routes: list[Routed] = []
    disturbed = last = False
    for (kind, flags, *_), body in _records(data, HEADER):
        disturbed = disturbed or bool(flags & NLM_F_DUMP_INTR)
        if kind == NLMSG_ERROR:
            (code,) = struct.unpack_from("=i", body)
            raise OSError(-code, os.strerror(-code))
        if kind == NLMSG_DONE:
            last = True
        elif kind == RTM_NEWADDR and (owned := _read_address(body)) is not None:
            addresses.append(owned)
        elif kind == RTM_NEWROUTE and (route := _read_route(body)) is not None:
            routes.append(route)
    return Datagram(tuple(addresses), tuple(routes), disturbed, last)


def _read_address(body: bytes) -> Owned | None:
    family, _, flags, _, index = ADDRESS.unpack_from(body)
    is_tentative = flags & IFA_F_TENTATIVE and not flags & IFA_F_OPTIMISTIC
    if is_tentative or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = {kind: value for (kind,), value in _records(body[ADDRESS.size :], ATTRIBUTE)}
    packed = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
    return None if packed is None else Owned(index, packed)


def _read_route(body: bytes) -> Routed | None:
    family, bits, *_, kind, _ = ROUTE.unpack_from(body)
    if kind != RTN_UNICAST or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = {kind: value for (kind,), value in _records(body[ROUTE.size :], ATTRIBUTE)}
    packed, interface = found.get(RTA_DST), found.get(RTA_OIF)
    return None if packed is None or interface is None else Routed(struct.unpack("=I", interface)[0], packed, bits)


def _records(data: bytes, header: struct.Struct) -> Iterator[tuple[list[int], bytes]]:
    """Return each record's header fields after its length, and its payload."""
    at = 0
    while at + header.size <= len(data):
        length, *fields = header.unpack_from(data, at)
        yield fields, data[at + header.size : at + length]
        at += (max(length, header.size) + 3) & ~3
