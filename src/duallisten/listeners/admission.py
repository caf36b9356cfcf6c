"""Who may come in, and on which side: one decision per connection, from two socket addresses and nothing else.

Facts it rests on:

- A socket bound to 0.0.0.0 also accepts on every private address of the host, so a neighbour reaches the public
  listener at its private address. That is the *side door*: it leads to the public side, whatever the peer sends.
- Binding to an address is no fence. Linux answers for any address of the host on any interface (the weak host model,
  RFC 1122, 3.3.4.2), so a host on the outer network that routes the private block through this container reaches
  a private listener. The peer's own address decides, before a byte is read.
- The same holds the other way round: a neighbour that routes the outer address through this container reaches the
  public listener at its outer address, past the routers. So a private address at either end makes it the side door.
- Every IPv6 interface has a link-local address (RFC 4291, 2.8), at which a dual-stack listener is reached from the
  same link, be it the private one; such an address at either end counts as a private one here. (An IPv4 link-local
  one does not: some platforms' routers have it.)
- When both sides have one port, one wildcard socket serves both, and the local address of the connection tells
  them apart. The local address is the kernel's, not the client's, word.
- Where public and private connections come in at one address, the port is the fence (`fence`): nothing of a connection
  to the public port is a private one's sign, so there is no side door.

Invariants:

- Unknown means public: a connection is private only if this says so.
- Nothing here knows sockets or an event loop.
"""

from __future__ import annotations

from enum import Enum
from typing import Literal, NamedTuple

from duallisten.net import LOOPBACK, IPAddress, IPNetwork, covers, read_address


class Verdict(Enum):
    """What becomes of an accepted connection."""

    PUBLIC = "public"
    PRIVATE = "private"
    SIDE_DOOR = "side door"
    REFUSED = "refused"


class Admission(NamedTuple):
    """The rules that both listeners admit by.

    Attributes:
        private_networks: What counts as a private address, for the side door, beside IPv6's link-local ones.
        private_addresses: Where the private listener is bound; none without one.
        allowed: The peers that the private listener admits.
        fence: What tells the sides apart; with `port` the public listener has no side door.
        side_door: `serve` gives a side-door peer the public side, `refuse` closes the connection.
    """

    private_networks: tuple[IPNetwork, ...]
    private_addresses: tuple[IPAddress, ...] = ()
    allowed: tuple[IPNetwork, ...] = ()
    side_door: Literal["serve", "refuse"] = "serve"
    fence: Literal["address", "port"] = "address"

    def private(self, peer: str | None) -> Verdict:
        """Judge a connection to the private listener by the host of its peer, None where the kernel cannot tell."""
        address = read_address(peer) if peer else None
        if address is not None and covers(self.allowed, address):
            return Verdict.PRIVATE
        return Verdict.REFUSED

    def public(self, local: str | None, peer: str | None) -> Verdict:
        """Judge a connection to the public listener by the hosts of both ends; a UNIX domain socket's have none."""
        if self.fence == "port":
            return Verdict.PUBLIC
        ends = (read_address(end) for end in (local, peer) if end)
        if not any(end is not None and self._is_private(end) for end in ends):
            return Verdict.PUBLIC
        return Verdict.REFUSED if self.side_door == "refuse" else Verdict.SIDE_DOOR

    def shared(self, local: str | None, peer: str | None) -> Verdict:
        """Judge a connection to the one wildcard socket of both listeners."""
        address = read_address(local) if local else None
        if address is not None and address in self.private_addresses and self.private(peer) is Verdict.PRIVATE:
            return Verdict.PRIVATE
        return self.public(local, peer)

    def _is_private(self, address: IPAddress) -> bool:
        if (address.version == 6 and address.is_link_local) or covers(self.private_networks, address):
            return True
        return address in self.private_addresses and not covers(LOOPBACK, address)
