"""Finds the addresses of the private listener, by the private networks or by `--private-host`.

Like the plan, this module is pure: the host's interfaces, its resolver and its routes are arguments. The neighbours are
decided with the fence (`fence.neighbours`).

There may be several addresses: one of each IP version for `auto`, all of an interface, and those of every
`--private-host`. Either all are found, or a `PrivateAddressMissing` says which one is missing.

The networks of an interface that is named count as private: those that its routes lead to, within the private ranges,
and for a known overlay network (Tailscale) the overlay's. They are read once. They count only where the user has not
given `--private-network`, and never where they overlap the networks of a platform's routers.

Invariants:

- A private address is never a wildcard, and always one that this host owns.
- Neither the default route nor a route to addresses of the internet makes a network private.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, NamedTuple

from duallisten.config import networks_of_interface
from duallisten.errors import LaunchError, PrivateAddressMissing
from duallisten.listeners.fence import only_addresses
from duallisten.net import (
    LOOPBACK,
    PRIVATE_NETWORKS,
    Host,
    InheritedSocket,
    Interface,
    IPAddress,
    IPNetwork,
    TCPAddress,
    covers,
    join,
    read_address,
)

if TYPE_CHECKING:
    from duallisten.config import Options
    from duallisten.listeners.plan import Listener, Request


class Found(NamedTuple):
    """The addresses for the private listener.

    Attributes:
        addresses: Each with the private port; empty where they may appear later.
        what: The option, socket or platform that named each address, for error messages; empty for `auto`.
        networks: The networks of named interfaces, which are private in addition to `--private-network`.
        notes: Notes for the user on how the addresses were found, one line each.
    """

    addresses: tuple[TCPAddress, ...] = ()
    what: tuple[str, ...] = ()
    networks: tuple[IPNetwork, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def ips(self) -> tuple[IPAddress, ...]:
        """The IP addresses, in canonical form."""
        return tuple(map(ip_of, self.addresses))


def sought(options: Options) -> str:
    """Return what is looked for, for a log line."""
    somewhere = f" in {join(options.private_network)}" if options.private_network else ""
    return " and ".join(
        f"a private address{somewhere}" if name == "auto" else f"--private-host {name}" for name in options.private_host
    )


def find_private(request: Request, host: Host, public: Listener | None) -> Found:
    """Find the private listener's addresses; none where they may appear later. Raises LaunchError."""
    options = request.options
    if request.passed.private:
        return Found(*zip(*map(_passed_address, request.passed.private), strict=True))
    if options.private_missing != "later" or public is None:  # without a public side nothing can be served meanwhile
        return _find(request, host, public)
    for one in public.addresses:
        if isinstance(one, TCPAddress) and one.is_wildcard and one.port == options.private_port != 0:
            raise LaunchError(
                f"--private-missing later needs a private port of its own: one socket would serve both sides on {one}; "
                "change --private-port"
            )
    try:
        return _find(request, host, public)
    except PrivateAddressMissing:
        return Found(notes=(f"Serving only the public side until there is {sought(options)}",))


def _passed_address(given: InheritedSocket) -> tuple[TCPAddress, str]:
    """Return the address of a passed private socket, which must obey the rules of a private listener, too."""
    what = f"the private socket {given} that LISTEN_FDS passes"
    address = read_address(given.address.host) if isinstance(given.address, TCPAddress) else None
    if not isinstance(given.address, TCPAddress) or address is None:
        raise LaunchError(
            f"{what} has no IP address, which the private side needs to recognise peers: use a TCP socket"
        )
    if address.is_unspecified:
        raise LaunchError(
            f"{what} listens on every interface, including public ones: name one address in its ListenStream="
        )
    return given.address, what


def _find(request: Request, host: Host, public: Listener | None) -> Found:
    """Find the addresses of all `--private-host`, each once."""
    return _merged(
        _find_auto(request, host, public) if name == "auto" else _find_named(name, request, host)
        for name in request.options.private_host
    )


def _merged(found: Iterable[Found]) -> Found:
    parts = tuple(found)
    addresses: dict[TCPAddress, str] = {}
    for part in parts:
        for address, what in zip(part.addresses, part.what, strict=True):
            addresses.setdefault(address, what)
    return Found(
        tuple(addresses),
        tuple(addresses.values()),
        tuple(dict.fromkeys(network for part in parts for network in part.networks)),
        tuple(note for part in parts for note in part.notes),
    )


def _at(addresses: Iterable[IPAddress], request: Request, what: str) -> Found:
    found = tuple(TCPAddress(str(address), request.options.private_port) for address in addresses)
    return Found(found, (what,) * len(found))


def _find_auto(request: Request, host: Host, public: Listener | None) -> Found:
    """Find the address for `auto`: from the platform, or one of each IP version in a private network.

    Where none is found and the port can be the fence, the host's only address is used.
    """
    networks, platform = request.options.private_network, request.place.platform
    if told := _told(request, host):
        return _at(told, request, f"the private address that {platform.name} names")
    if platform.private_interfaces and not request.networks_asked:
        named = (one for one in host.interfaces if one.name in platform.private_interfaces)
        found_there = _merged(_find_interface(one, f"interface {one.name}", request, host) for one in named)
        return found_there if found_there.addresses else _missing(request, host)
    found = [address for address in host.addresses if covers(networks, address)]
    chosen = [address for version in (4, 6) for address in _one_of(version, found, request, host)]
    if chosen := chosen or list(only_addresses(request, host, public)):
        return _at(chosen, request, "")
    return _missing(request, host)


def _missing(request: Request, host: Host) -> Found:
    """Return loopback for a private address that is missing, where allowed; raises PrivateAddressMissing."""
    options, networks = request.options, request.options.private_network
    if options.private_missing == "loopback":
        address = TCPAddress("127.0.0.1", options.private_port)
        where = str(address) if address.port else f"a free port of {address.host}"
        missing = f"No address in {join(networks)} here" if networks else "No private network is known here"
        note = f"{missing}: the private side is on {where}, reachable from this host only"
        return Found((address,), ("",), notes=(note,))
    if request.place.in_private_network is False:
        variable = request.place.platform.network_variable
        hint = f"this application is in no private network (${variable} is not set): add it to one, or "
    else:
        hint = "name the address with --private-host, its network with --private-network, or "
    hint += "open only the public side with --listeners public"
    if request.place.port is not None and not request.place.platform.private_required:
        hint += (
            "; PORT is set, as on a platform, where a private address is required: on your own machine, "
            "--private-missing loopback serves the private side on 127.0.0.1"
        )
    missing = f"no address in {join(networks)}" if networks else "no private network is known"
    raise PrivateAddressMissing(f"{missing}; found {host.describe()}; {hint}")


def _told(request: Request, host: Host) -> tuple[IPAddress, ...]:
    """Return the addresses in the platform's variables that this host owns.

    Where the user has named networks, addresses in no such network are left out.
    """
    networks = request.options.private_network
    return tuple(
        address
        for address in request.place.private_addresses
        if host.owns(address)
        and not (address.is_loopback or address.is_link_local)
        and (not request.networks_asked or covers(networks, address))
    )


def _one_of(version: int, found: list[IPAddress], request: Request, host: Host) -> list[IPAddress]:
    """Return the address of an IP version, if there is one.

    Of several addresses, the one that the platform's host name resolves to is used; raises LaunchError where there is
    still more than one.
    """
    several = [address for address in found if address.version == version]
    if len(several) > 1 and request.place.private_hostname:
        own = set(host.resolve(request.place.private_hostname))
        several = [address for address in several if address in own] or several
    if len(several) > 1:
        raise LaunchError(
            f"several addresses of this host are in {join(request.options.private_network)}: "
            f"{', '.join(map(str, several))}; choose one with --private-host"
        )
    return several


def _find_named(name: str, request: Request, host: Host) -> Found:
    """Find the addresses of one `--private-host`: all of an interface, or all private ones of a host name."""
    what, networks = f"--private-host {name}", request.options.private_network
    interface = next((one for one in host.interfaces if one.name == name), None)
    if interface is not None:
        return _find_interface(interface, what, request, host)
    try:
        candidates: tuple[IPAddress, ...] = (ip_address(name),)
    except ValueError:
        candidates = host.resolve(name)
    if not candidates:
        raise PrivateAddressMissing(
            f"{what} is not an IP address, an interface or a host name that resolves; found {host.describe()}"
        )
    if any(address.is_unspecified for address in candidates):
        raise LaunchError(f"{what} would listen on every interface, including public ones: name one address, or auto")
    own = [address for address in candidates if host.owns(address)]
    if not own:
        told = f" resolves to {', '.join(map(str, candidates))}, which" if str(candidates[0]) != name else ""
        raise PrivateAddressMissing(f"{what}{told} is not an address of this host; found {host.describe()}")
    private = [address for address in own if covers(networks, address)]
    return _at(private or [address for address in own if address.is_loopback] or own[:1], request, what)


def _find_interface(interface: Interface, what: str, request: Request, host: Host) -> Found:
    """Find the private addresses of an interface, and its own networks where they count as private."""
    usable = [address for address in interface.addresses if not address.is_link_local] or list(interface.addresses)
    if not usable:
        raise PrivateAddressMissing(f"{what}: that interface has no IP address; found {host.describe()}")
    networks: tuple[IPNetwork, ...] = ()
    known = [address for address in usable if covers((*request.options.private_network, *LOOPBACK), address)]
    if len(known) < len(usable) and not request.networks_asked:
        others = [address for address in usable if address not in known]
        networks = _own_networks(interface.name, others, request, host)
        known = [address for address in usable if address in known or covers(networks, address)]
    if not known:
        return _at(usable, request, what)  # allowed only with `--private-allow`, which `neighbours` checks
    left_out = ", ".join(str(address) for address in usable if address not in known)
    notes = (f"{what}: not listening on {left_out}, which is in no private network",) if left_out else ()
    return _at(known, request, what)._replace(networks=networks, notes=notes)


def _own_networks(
    interface: str, addresses: Collection[IPAddress], request: Request, host: Host
) -> tuple[IPNetwork, ...]:
    """Return the interface's networks that count as private and contain, or are routed for, some of `addresses`."""
    overlay = networks_of_interface(interface)
    found = [network for network in overlay if any(address in network for address in addresses)]
    others = [address for address in addresses if not covers(overlay, address)]
    routers = request.place.platform.routers
    routed = [
        network
        for network in (host.routed(interface) if others else ())
        if any(_lies_in(network, private) for private in PRIVATE_NETWORKS)
        and not any(network.overlaps(router) for router in routers)
    ]
    for address in others:
        if covers(PRIVATE_NETWORKS, address) and not covers(routers, address):
            its_own = [network for network in routed if network.version == address.version]
            found += its_own
            if its_own and not covers(its_own, address):
                found.append(ip_network(address))  # this host is its own neighbour, too
    return tuple(dict.fromkeys(found))


def _lies_in(network: IPNetwork, other: IPNetwork) -> bool:
    return network.prefixlen >= other.prefixlen and network.network_address in other


def ip_of(address: TCPAddress) -> IPAddress:
    """Return the IP address of a private listener, in canonical form."""
    read = read_address(address.host)
    assert read is not None  # noqa: S101  # a private address is made from an IP address
    return read
