"""Admission: which side serves a connection, or that it is refused, decided by its two socket addresses alone.

Facts it rests on:

- A socket bound to 0.0.0.0 also accepts on every private address of the host, so a neighbour reaches the public
  listener at its private address. That is the *side door*: it leads to the public side, whatever the peer sends.
- Binding to an address does not protect it. Linux answers for any address of the host on any interface (the weak host
  model, RFC 1122, 3.3.4.2). So a host on the outer network that routes the private block through this container
  reaches a private listener. The peer's own address decides, before a byte is read.
- The same is true the other way round: a neighbour that routes the outer address through this container reaches the
  public listener at its outer address, past the routers. So a private address at either end makes it the side door.
- Every IPv6 interface has a link-local address (RFC 4291, 2.8). Hosts on the same link, also on a private one, reach a
  dual-stack listener there. So an IPv6 link-local address at either end counts as private. An IPv4 link-local one does
  not, because some platforms' routers have it.
- When both sides have one port, one wildcard socket serves both, and the local address of the connection tells
  them apart. The local address comes from the kernel, not from the client.
- Where public and private connections come in at one address, the port is the fence (`fence`). No address then shows
  that a connection to the public port is a private one, so there is no side door.

Invariants:

- Unknown means public: a connection is private only if this module says so.
- This module uses no sockets and no event loop.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal, NamedTuple

from duallisten.net import LOOPBACK, IPAddress, IPNetwork, covers, read_address


class Verdict(Enum):
    """The decision about an accepted connection."""

    PUBLIC = "public"
    PRIVATE = "private"
    SIDE_DOOR = "side door"
    REFUSED = "refused"


class Admission(NamedTuple):
    """The admission rules of both listeners.

    Attributes:
        private_networks: Networks whose addresses are private, for the side door; IPv6 link-local ones always are.
        private_addresses: Where the private listener is bound; empty without one.
        allowed: The networks of the peers that the private listener admits.
        fence: What tells the sides apart; with `port` the public listener has no side door.
        side_door: `serve` gives a side-door peer the public side, `refuse` closes the connection.
    """

    private_networks: tuple[IPNetwork, ...]
    private_addresses: tuple[IPAddress, ...] = ()
    allowed: tuple[IPNetwork, ...] = ()
    side_door: Literal["serve", "refuse"] = "serve"
    fence: Literal["address", "port"] = "address"

    def private(self, peer: str | None) -> Verdict:
        """Decide about a connection to the private listener by its peer's host; None where the kernel cannot tell."""
        address = read_address(peer) if peer else None
        if address is not None and covers(self.allowed, address):
            return Verdict.PRIVATE
        return Verdict.REFUSED

    def public(self, local: str | None, peer: str | None) -> Verdict:
        """Decide about a connection to the public listener by the hosts of both ends; None for a UNIX domain socket."""
        if self.fence == "port":
            return Verdict.PUBLIC
        ends = (read_address(end) for end in (local, peer) if end)
        if not any(end is not None and self._is_private(end) for end in ends):
            return Verdict.PUBLIC
        return Verdict.REFUSED if self.side_door == "refuse" else Verdict.SIDE_DOOR

    def shared(self, local: str | None, peer: str | None) -> Verdict:
        """Decide about a connection to the one wildcard socket of both listeners."""
        address = read_address(local) if local else None
        if address is not None and address in self.private_addresses and self.private(peer) is Verdict.PRIVATE:
            return Verdict.PRIVATE
        return self.public(local, peer)

    def _is_private(self, address: IPAddress) -> bool:
        if (address.version == 6 and address.is_link_local) or covers(self.private_networks, address):
            return True
        return address in self.private_addresses and not covers(LOOPBACK, address)
