"""The addresses of the private listener: found by the network they lie in, or by what `--private-host` names.

Like the plan that it is a part of, this is pure: the host's interfaces and its resolver are arguments.

Invariants:

- A private address is never a wildcard, and always one that this host owns.

Who its neighbours are is decided with the fence (`fence.neighbours`).
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, NamedTuple

from duallisten.errors import LaunchError, PrivateAddressMissing
from duallisten.listeners.fence import only_addresses
from duallisten.net import Host, InheritedSocket, IPAddress, TCPAddress, covers, join, read_address

if TYPE_CHECKING:
    from duallisten.config import Options
    from duallisten.listeners.plan import Listener, Request


class Found(NamedTuple):
    """Where the private listener is to be.

    Attributes:
        addresses: Each with the private port; none where they are yet to come.
        notes: What a user should know of how they were found, a line each.
        what: What named them, in words.
    """

    addresses: tuple[TCPAddress, ...] = ()
    notes: tuple[str, ...] = ()
    what: str = ""

    @property
    def ips(self) -> tuple[IPAddress, ...]:
        """The IP addresses, in canonical form."""
        return tuple(map(ip_of, self.addresses))


def sought(options: Options) -> str:
    """Return what is looked for, in words."""
    if options.private_host != "auto":
        return f"--private-host {options.private_host}"
    return f"a private address in {join(options.private_network)}" if options.private_network else "a private address"


def find_private(request: Request, host: Host, public: Listener | None) -> Found:
    """Find the private listener's addresses, none where they are yet to come; raises LaunchError."""
    options = request.options
    if request.passed.private:
        given = request.passed.private
        what = f"the private socket {', '.join(map(str, given))} that LISTEN_FDS passes"
        return Found(tuple(map(_passed_address, given)), what=what)
    if options.private_missing != "later" or public is None:  # alone, there is nothing to serve meanwhile
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
        return Found(notes=(f"Serving the public side alone until there is {sought(options)}",))


def _passed_address(given: InheritedSocket) -> TCPAddress:
    """Return the address of a passed private socket, for which the rules of a private listener hold, too."""
    what = f"the private socket {given} that LISTEN_FDS passes"
    address = read_address(given.address.host) if isinstance(given.address, TCPAddress) else None
    if not isinstance(given.address, TCPAddress) or address is None:
        raise LaunchError(f"{what} has no IP address, and a neighbour is known by nothing else")
    if address.is_unspecified:
        raise LaunchError(
            f"{what} listens on every interface, the public one too: name one address in its ListenStream="
        )
    return given.address


def _find(request: Request, host: Host, public: Listener | None) -> Found:
    """Find the address that `--private-host` or the platform names, the one in a private network, or the only one."""
    options, networks = request.options, request.options.private_network
    if options.private_host != "auto":
        return Found((TCPAddress(str(_named(options, host)), options.private_port),), what=sought(options))
    if told := _told(request, host) or only_addresses(request, host, public):
        what = f"the private address on {request.place.platform.name}"
        return Found(tuple(TCPAddress(str(address), options.private_port) for address in told), what=what)
    is_by_interface = bool(request.place.platform.private_interfaces) and not _is_users(request)
    found = [address for address in host.addresses if covers(networks, address) and not is_by_interface]
    if len(found) > 1 and request.place.private_hostname:
        own = set(host.resolve(request.place.private_hostname))
        found = [address for address in found if address in own] or found
    if len(found) > 1:
        raise LaunchError(
            f"several addresses of this host lie in {join(networks)}: {', '.join(map(str, found))}; "
            "say which with --private-host"
        )
    if found:
        return Found((TCPAddress(str(found[0]), options.private_port),))
    if options.private_missing == "loopback":
        address = TCPAddress("127.0.0.1", options.private_port)
        where = str(address) if address.port else f"a free port of {address.host}"
        missing = f"No address in {join(networks)} here" if networks else "No private network is known here"
        note = f"{missing}: the private side is on {where}, for this host alone"
        return Found((address,), (note,))
    if request.place.in_private_network is False:
        variable = request.place.platform.network_variable
        hint = f"this application is in no private network (${variable} is not set): add it to one, or "
    else:
        hint = "name the address with --private-host, its network with --private-network, or "
    hint += "open the public side alone with --listeners public"
    if request.place.port is not None and not request.place.platform.private_required:
        hint += (
            "; PORT is set, as on a platform, where a private address is required: on your own machine, "
            "--private-missing loopback serves the private side on 127.0.0.1"
        )
    missing = f"no address in {join(networks)}" if networks else "no private network is known"
    raise PrivateAddressMissing(f"{missing}; found {host.describe()}; {hint}")


def _named(options: Options, host: Host) -> IPAddress:
    """Find the address that `--private-host` names, and make sure that a private listener may have it."""
    name, networks = options.private_host, options.private_network
    candidates = _candidates(name, host)
    if any(address.is_unspecified for address in candidates):
        raise LaunchError(
            f"--private-host {name} would listen on every interface, the public one too: name one address, or auto"
        )
    own = [address for address in candidates if host.owns(address)]
    if not own:
        told = f" stands for {', '.join(map(str, candidates))}, which" if str(candidates[0]) != name else ""
        raise PrivateAddressMissing(
            f"--private-host {name}{told} is not an address of this host; found {host.describe()}"
        )
    return next((address for address in own if covers(networks, address)), own[0])


def _told(request: Request, host: Host) -> tuple[IPAddress, ...]:
    """Return the addresses that the platform's variables and interfaces name, as far as this host owns them.

    An interface's are those in a private network, where one is known. Where a user has named networks, all others are
    left out.
    """
    place, networks = request.place, request.options.private_network
    interfaces = [one for one in host.interfaces if one.name in place.platform.private_interfaces]
    named = [address for one in interfaces for address in one.addresses if not networks or covers(networks, address)]
    told = [address for address in place.private_addresses if not _is_users(request) or covers(networks, address)]
    may_be = (one for one in (*told, *named) if host.owns(one) and not (one.is_loopback or one.is_link_local))
    return tuple(dict.fromkeys(may_be))


def _is_users(request: Request) -> bool:
    """Whether the private networks are a user's word, and not the platform's."""
    return request.options.private_network != request.place.platform.private_networks


def _candidates(name: str, host: Host) -> tuple[IPAddress, ...]:
    for interface in host.interfaces:
        if interface.name == name:
            if not interface.addresses:
                raise PrivateAddressMissing(
                    f"--private-host {name}: that interface has no IP address; found {host.describe()}"
                )
            return interface.addresses
    try:
        return (ip_address(name),)
    except ValueError:
        pass
    candidates = host.resolve(name)
    if not candidates:
        raise PrivateAddressMissing(
            f"--private-host {name} is no IP address, no interface and no name that resolves; found {host.describe()}"
        )
    return candidates


def ip_of(address: TCPAddress) -> IPAddress:
    """Return the IP address of a private listener, in canonical form."""
    read = read_address(address.host)
    assert read is not None  # noqa: S101  # a private address is made from an IP address
    return read
