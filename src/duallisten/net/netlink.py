"""The addresses of this host, asked of the Linux kernel itself.

A launch needs them before anything else, and a library that knows all of a system takes a tenth of the whole start to
import; this is the one question that is asked of it. The facts it rests on (netlink(7), rtnetlink(7), and the kernel's
`linux/netlink.h`, `linux/rtnetlink.h` and `linux/if_addr.h`):

- RTM_GETADDR with NLM_F_DUMP is answered with one RTM_NEWADDR for each address, in as many datagrams as it takes, and
  with NLMSG_DONE. NLMSG_ERROR in its place has a negated errno. Messages and attributes are padded to four bytes, and
  their numbers are in the order of the host.
- NLM_F_DUMP_INTR marks an answer that something was changed under: it is asked for anew.
- Of an interface to one peer IFA_ADDRESS is the peer's; ours is IFA_LOCAL. IPv6 interfaces seldom have IFA_LOCAL.
- An IPv6 address that is still being looked for on the link (IFA_F_TENTATIVE without IFA_F_OPTIMISTIC) cannot be bound.
  For us it is not there yet; a launch that waits for its private address finds it a moment later.

`read_datagram` is pure.

Invariants:
    - Nothing but the addresses is asked, and nothing is ever changed.
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
ATTRIBUTE = struct.Struct("=HH")  # struct rtattr: length, type

NLMSG_ERROR, NLMSG_DONE, RTM_NEWADDR, RTM_GETADDR = 2, 3, 20, 22
NLM_F_REQUEST, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x01, 0x10, 0x300
IFA_ADDRESS, IFA_LOCAL = 1, 2
IFA_F_OPTIMISTIC, IFA_F_TENTATIVE = 0x04, 0x40

ATTEMPTS = 10
"""How often an answer that was disturbed is asked for anew."""

LONGEST_DATAGRAM = 1 << 16
"""Bytes; the kernel fills at most 32 KiB at a time."""


class Owned(NamedTuple):
    """An address of this host, 4 or 16 bytes, and the number of the interface that owns it."""

    interface: int
    packed: bytes


class Datagram(NamedTuple):
    """What a datagram of the kernel's says: also whether it was `disturbed` by a change, and is the answer's last."""

    addresses: tuple[Owned, ...]
    disturbed: bool
    last: bool


def owned_addresses() -> list[Owned]:
    """Ask for every IPv4 and IPv6 address of this network namespace, in the kernel's order; raises OSError."""
    question = ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)
    length = HEADER.size + len(question)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as kernel:
        for number in range(1, ATTEMPTS + 1):
            kernel.sendall(HEADER.pack(length, RTM_GETADDR, NLM_F_REQUEST | NLM_F_DUMP, number, 0) + question)
            answer = [read_datagram(kernel.recv(LONGEST_DATAGRAM))]
            while not answer[-1].last:
                answer.append(read_datagram(kernel.recv(LONGEST_DATAGRAM)))
            if not any(datagram.disturbed for datagram in answer):
                return [owned for datagram in answer for owned in datagram.addresses]
    raise OSError(errno.EAGAIN, "the addresses of this host change faster than they can be read")


def read_datagram(data: bytes) -> Datagram:
    """Read a datagram of the kernel's; raises OSError for the error that it tells."""
    addresses: list[Owned] = []
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
    return Datagram(tuple(addresses), disturbed, last)


def _read_address(body: bytes) -> Owned | None:
    family, _, flags, _, index = ADDRESS.unpack_from(body)
    is_tentative = flags & IFA_F_TENTATIVE and not flags & IFA_F_OPTIMISTIC
    if is_tentative or family not in (socket.AF_INET, socket.AF_INET6):
        return None
    found = {kind: value for (kind,), value in _records(body[ADDRESS.size :], ATTRIBUTE)}
    packed = found.get(IFA_LOCAL) or found.get(IFA_ADDRESS)
    return None if packed is None else Owned(index, packed)


def _records(data: bytes, header: struct.Struct) -> Iterator[tuple[list[int], bytes]]:
    """Return the fields of each header, which begins with the length of all, and what follows it."""
    at = 0
    while at + header.size <= len(data):
        length, *fields = header.unpack_from(data, at)
        yield fields, data[at + header.size : at + length]
        at += (max(length, header.size) + 3) & ~3
