"""The fence: whether the local *address* or only the local *port* tells private connections from public ones.

On some platforms the internet and the neighbours reach different addresses of a container. There the address tells
them apart. A neighbour that reaches the public port at a private address comes by the side door (`admission`). On other
platforms, such as in a Kubernetes pod, a host has one address, and only the port differs. A connection to the public
port may then come from anyone: there is no side door, and forwarded headers are believed as the options and the
platform say. The private port admits every peer in a private network. The platform's network policy or security group
must keep others from it.

Facts it rests on: a socket bound to 0.0.0.0 accepts at every IPv4 address of the host. One bound to `::` (IPV6_V6ONLY
off, `sockets`) also accepts at the IPv6 ones.

Invariants:

- The fence is decided once per launch, from the options, the platform and the host's addresses. No connection can
  change it.
- A peer with a global address is a neighbour only if it is in a network that the user or the platform names.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

from duallisten.errors import LaunchError
from duallisten.net import (
    LOOPBACK,
    PRIVATE_NETWORKS,
    Host,
    InheritedSocket,
    IPAddress,
    IPNetwork,
    UnixAddress,
    canonical,
    covers,
    join,
    read_address,
)

if TYPE_CHECKING:
    from duallisten.listeners.plan import Listener, Request
    from duallisten.listeners.private_addresses import Found


class Fence(NamedTuple):
    """What tells the sides apart.

    Attributes:
        kind: The local address of a connection, or its local port alone.
        why: The reason for this kind.
    """

    kind: Literal["address", "port"] = "address"
    why: str = ""

    def __str__(self) -> str:
        return f"{self.kind} ({self.why})" if self.why else self.kind


def asked_fence(request: Request) -> Fence | None:
    """Return the fence that an option or the platform names; None where the host's addresses decide."""
    platform, asked = request.place.platform, request.options.fence
    if asked != "auto":
        return Fence(asked, "--fence")
    return Fence(platform.fence, f"platform {platform.name}") if platform.fence != "auto" else None


def fence_of(request: Request, host: Host, public: Listener | None, private: Iterable[IPAddress]) -> Fence:
    """Decide what tells the sides apart.

    Args:
        request: What was asked for.
        host: This host.
        public: The public listener; None without one.
        private: The private listener's addresses; without one, the host's addresses in private networks.
    """
    private, reached = tuple(private), reached_addresses(public, host)
    others = [address for address in reached if address not in private]
    alone = f"public traffic reaches only {_list(reached)}" if reached and not others else ""
    asked = asked_fence(request)
    if asked is not None:
        is_lost = alone and asked.kind == "address" and public is not None
        return (
            asked._replace(why=f"{asked.why}; but {alone}, so forwarded headers are not trusted") if is_lost else asked
        )
    if alone and _has_one_of_each(reached):
        return Fence("port", alone)
    why = "the sides have no address in common"
    if alone:
        why = f"{alone}, so forwarded headers are not trusted"
    elif not private:
        why = "no private address is known"
    elif all(address.is_loopback for address in private):
        why = "the private side listens on loopback only"
    elif others:
        why = f"public traffic reaches {_list(others)}, which is not private"
    return Fence("address", why)


def _has_one_of_each(addresses: Collection[IPAddress]) -> bool:
    """Whether there is at most one address of each IP version."""
    return len({address.version for address in addresses}) == len(addresses)


def reached_addresses(public: Listener | None, host: Host) -> tuple[IPAddress, ...]:
    """Return the addresses at which the public listener is reached, without loopback and link-local ones.

    Args:
        public: The public listener; None to return all addresses of the host.
        host: This host.
    """
    own = [canonical(address) for address in host.addresses if not address.is_link_local]
    own = [address for address in own if not covers(LOOPBACK, address)]
    if public is None:
        return tuple(dict.fromkeys(own))
    found: dict[IPAddress, None] = {}
    for planned in public.addresses:
        one = planned.address if isinstance(planned, InheritedSocket) else planned
        if isinstance(one, UnixAddress):
            continue
        if one is None:  # an inherited socket whose address is not known
            return tuple(dict.fromkeys(own))
        bound = read_address(one.host)
        if bound is not None and bound.is_unspecified:
            found.update((address, None) for address in own if bound.version == 6 or address.version == 4)
        elif bound in own:
            found[bound] = None
    return tuple(found)


def only_addresses(request: Request, host: Host, public: Listener | None) -> tuple[IPAddress, ...]:
    """Return the host's only address of each family as the private one, where the port can be the fence.

    It returns nothing where the user has named networks, or where the host has several addresses of a family. Unless
    an option or the platform names the fence, it returns only addresses in private ranges.
    """
    place, networks, asked = request.place, request.options.private_network, asked_fence(request)
    if asked is None:
        is_deployed = place.platform.has_private
        if place.is_unknown:
            is_deployed = place.port is not None and not request.loopback_asked
        may_be = is_deployed and not networks
    else:
        may_be = asked.kind == "port" and not request.networks_asked
    if not may_be:
        return ()
    found = reached_addresses(None if asked is not None else public, host)
    if not _has_one_of_each(found):
        return ()
    private = tuple(address for address in found if covers(PRIVATE_NETWORKS, address))
    return private or (found if asked is not None else ())


def neighbours(request: Request, found: Found, fence: Fence) -> tuple[IPNetwork, ...]:
    """Return the networks whose peers the private listener admits, loopback included.

    Where the port is the fence, a private address that is in no known private network has the private ranges as
    neighbours. If the address is not in a private range itself, an option or the platform must have named the fence.

    Raises:
        LaunchError: An address has no neighbours.
    """
    options, is_asked = request.options, asked_fence(request) is not None
    if options.private_allow is not None:
        return options.private_allow
    networks = (*options.private_network, *found.networks)
    own = [network for network in options.private_network if any(ip in network for ip in found.ips)]
    known = (*networks, *LOOPBACK)
    strange = {ip: what for ip, what in zip(found.ips, found.what, strict=True) if not covers(known, ip)}
    for ip, what in strange.items():
        if fence.kind == "port" and (is_asked or covers(PRIVATE_NETWORKS, ip)):
            continue
        raise LaunchError(
            f"{what}: {ip} is in no private network ({join(networks) or 'none is known'}): give its network with "
            "--private-network, or the peers to admit with --private-allow"
        )
    families = {ip.version for ip in strange}
    ranges = [network for network in PRIVATE_NETWORKS if network.version in families]
    return tuple(dict.fromkeys((*own, *found.networks, *ranges, *LOOPBACK)))


def _list(values: Iterable[object]) -> str:
    return ", ".join(map(str, values))


def notes_of(request: Request, fence: Fence, found: Found, allowed: Iterable[IPNetwork]) -> tuple[str, ...]:
    """Return notes about the fence for the user, one line each."""
    if fence.kind == "address" or all(ip.is_loopback for ip in found.ips):
        return ()
    notes = [
        f"The fence is the port: {_list(found.addresses)} admits every peer with an address in {join(allowed)}; keep "
        "other hosts away with a network policy or a security group"
    ]
    if request.options.side_door == "refuse":
        notes.append("--side-door refuse has no effect: there is no side door where the port is the fence")
    return tuple(notes)
