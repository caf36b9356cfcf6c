"""The plan: what will be bound and who may come in, resolved before any socket is open.

`make_plan` turns what was asked for into a `Plan` for one host. It is pure: the host's interfaces, its resolver and the
environment are arguments, and it opens nothing. A plan that cannot be carried out whole is a `LaunchError` that says
what was found and what to do, never half a plan.

What it must never do: bind a private listener to a wildcard address, or to an address that this host does not own;
give both listeners one specific address; let a loopback address share the public port, for a proxy on this host
would then be a neighbour.

A private address that is missing may come later (`--private-missing later`): the plan then has the public listener
alone and says so (`later`). One port for both sides cannot be had that way, for a socket that serves both is opened
once.
"""

from __future__ import annotations

from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING, Literal, NamedTuple

from duallisten.config import Options, Place
from duallisten.errors import LaunchError, PrivateAddressMissing
from duallisten.listeners.admission import Admission
from duallisten.listeners.passed_sockets import check_passed, passed_private, require_neighbours
from duallisten.net import (
    LOOPBACK,
    Address,
    Host,
    InheritedSocket,
    IPAddress,
    IPNetwork,
    Passed,
    TCPAddress,
    UnixAddress,
    covers,
    join,
    read_address,
)
from duallisten.sides import Side

if TYPE_CHECKING:
    from duallisten.config import Config


class Listener(NamedTuple):
    """One side's addresses; several where a host name of the public side stands for several."""

    side: Side
    addresses: tuple[Address, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.addresses))


class Plan(NamedTuple):
    """What a launch will do.

    public, private: the listeners, None for one that is not opened
    admission: who may come in, and on which side
    shared: both listeners have one port, so the public listener's wildcard socket serves both
    later: the private listener is yet to be opened, when its address appears
    notes: what a user should know of how the plan came about, a line each
    elsewhere: the listener that other workers of the launch serve (`pools`)
    """

    public: Listener | None
    private: Listener | None
    admission: Admission
    shared: bool = False
    notes: tuple[str, ...] = ()
    later: bool = False
    elsewhere: Listener | None = None

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """The listeners in the order in which they are opened: the private one first."""
        return tuple(listener for listener in (self.private, self.public) if listener is not None)

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides that are served, in that order."""
        return tuple(listener.side for listener in self.listeners)

    def lingers(self, side: Side) -> bool:
        """Whether a socket of `side` goes on accepting for neighbours when all ends (`--private-linger`)."""
        return side == "private" or (self.shared and self.private is not None)


class Request(NamedTuple):
    """What was asked for, as far as a plan depends on it: our options, uvicorn's addresses, and the place."""

    options: Options
    place: Place
    host: str
    port: int
    port_asked: bool = True
    uds: str | None = None
    fd: int | None = None
    passed: Passed = Passed()


def request_of(config: Config) -> Request:
    """Return what was asked for in a configuration."""
    return Request(
        options=config.options,
        place=config.place,
        host=config.host,
        port=config.port,
        port_asked=config.port_asked,
        uds=config.uds,
        fd=config.fd,
        passed=config.passed,
    )


def make_plan(request: Request, host: Host) -> Plan:
    """Resolve what was asked for on this host; raises LaunchError where it cannot be carried out whole."""
    which = sides(request)
    options = request.options
    check_passed(request.passed, which, options, public=_named_socket(request))
    public = _public(request, host) if which != "private" else None
    private, notes, later = _find_private(request, host, public) if which != "public" else (None, (), False)
    private_networks = (*options.private_network, *request.place.platform.private_networks)
    admission = partial(Admission, tuple(dict.fromkeys(private_networks)), side_door=options.side_door)
    if private is None:
        return Plan(public, None, admission(), notes=notes, later=later)
    address = _address(private)
    allowed = options.private_allow or _neighbours(options, address)
    return Plan(
        public,
        Listener("private", (request.passed.private or private,)),
        admission(private_address=address, allowed=allowed),
        shared=_share(public, private, request.passed),
        notes=notes,
    )


def sought(options: Options) -> str:
    """Say what is looked for."""
    if options.private_host != "auto":
        return f"--private-host {options.private_host}"
    return f"a private address in {join(options.private_network)}"


def sides(request: Request) -> Literal["both", "public", "private"]:
    """Decide which listeners to open, by the option or by the platform's process types."""
    place, asked = request.place, request.options.listeners
    platform, process_type = place.platform, place.process_type
    if process_type in platform.barred_process_types:
        raise LaunchError(
            f"a {process_type} process on {platform.name} runs before a deployment and must end: start the server in "
            f"a process type of its own, such as {platform.public_process_types[0]}"
        )
    is_public_type = process_type in platform.public_process_types
    if is_public_type and place.port is None and not request.port_asked and asked != "private":
        raise LaunchError(
            f"this is a {process_type} process on {platform.name} and PORT is not set: the platform sets it for "
            f"{' and '.join(platform.public_process_types)}; give --port, or --listeners private"
        )
    if asked != "auto":
        return asked
    if not platform.public_process_types:
        return "both"
    if process_type is None:
        return "both" if place.port is not None else "private"
    return "both" if is_public_type else "private"


def _named_socket(request: Request) -> str | None:
    """Return which option names a socket of the public side, by other means than host and port, that was not passed."""
    if request.fd is not None and request.fd not in (one.descriptor for one in request.passed.public):
        return "--fd"
    return "--uds" if request.uds is not None else None


def _public(request: Request, host: Host) -> Listener:
    if request.passed.public:
        return Listener("public", request.passed.public)
    if request.fd is not None:
        return Listener("public", (InheritedSocket(request.fd),))
    if request.uds is not None:
        return Listener("public", (UnixAddress(request.uds),))
    if not 0 <= request.port <= 65535:
        raise LaunchError(f"--port {request.port}: must be a port, a number from 0 to 65535")
    name = request.host or "0.0.0.0"  # noqa: S104  # uvicorn's --host "" means every address
    if read_address(name) is not None:
        return Listener("public", (TCPAddress(name, request.port),))
    addresses = host.resolve(name)
    if not addresses:
        raise LaunchError(f"--host {name}: no address found for it; give an IP address of this host")
    return Listener("public", tuple(TCPAddress(str(address), request.port) for address in addresses))


def _find_private(
    request: Request, host: Host, public: Listener | None
) -> tuple[TCPAddress | None, tuple[str, ...], bool]:
    """Find the private listener's address, what to say of it, and whether it is yet to come."""
    options = request.options
    if request.passed.private is not None:
        return passed_private(request.passed.private, options), (), False
    if options.private_missing != "later" or public is None:  # alone, there is nothing to serve meanwhile
        return *_private(request, host), False
    for one in public.addresses:
        if isinstance(one, TCPAddress) and one.is_wildcard and one.port == options.private_port != 0:
            raise LaunchError(
                f"--private-missing later needs a private port of its own: one socket would serve both sides on {one}; "
                "change --private-port"
            )
    try:
        return *_private(request, host), False
    except PrivateAddressMissing:
        return None, (f"Serving the public side alone until there is {sought(options)}",), True


def _private(request: Request, host: Host) -> tuple[TCPAddress, tuple[str, ...]]:
    """Find the private listener's address, and what to say of how it was found."""
    options = request.options
    if options.private_host != "auto":
        return TCPAddress(str(_named(options, host)), options.private_port), ()
    found = [address for address in host.addresses if covers(options.private_network, address)]
    if len(found) > 1 and request.place.private_hostname:
        own = set(host.resolve(request.place.private_hostname))
        found = [address for address in found if address in own] or found
    if len(found) > 1:
        raise LaunchError(
            f"several addresses of this host lie in {join(options.private_network)}: {', '.join(map(str, found))}; "
            "say which with --private-host"
        )
    if found:
        return TCPAddress(str(found[0]), options.private_port), ()
    return _missing(request, host)


def _missing(request: Request, host: Host) -> tuple[TCPAddress, tuple[str, ...]]:
    options, place = request.options, request.place
    networks = join(options.private_network)
    if options.private_missing != "loopback":
        if place.in_private_network is False:
            hint = f"this application is in no private network (${place.platform.network_variable} is not set): "
            hint += "add it to one, or open the public side alone with --listeners public"
        else:
            hint = "name the address with --private-host, its network with --private-network, or open the public side "
            hint += "alone with --listeners public"
        raise PrivateAddressMissing(f"no address in {networks}; found {host.describe()}; {hint}")
    address = TCPAddress("127.0.0.1", options.private_port)
    where = str(address) if address.port else f"a free port of {address.host}"
    return address, (f"No address in {networks} here: the private side is on {where}, for this host alone",)


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
    address = next((address for address in own if covers(networks, address)), own[0])
    require_neighbours(f"--private-host {name}", address, options)
    return address


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


def _neighbours(options: Options, address: IPAddress) -> tuple[IPNetwork, ...]:
    """The peers admitted by default: the private networks that the bound address lies in, and this host."""
    return (*(network for network in options.private_network if address in network), *LOOPBACK)


def _share(public: Listener | None, private: TCPAddress, passed: Passed) -> bool:
    """Whether the public listener's socket would take the private one's connections too.

    A passed socket shares nothing: of a private one it would be in the way, and a public one's families are not known.
    """
    if public is None:
        return False
    for one in public.addresses:
        address = one.address if isinstance(one, InheritedSocket) else one
        if isinstance(address, TCPAddress) and address.covers(private):
            if passed != Passed() or not address.is_wildcard or _address(private).is_loopback:
                raise LaunchError(
                    f"both listeners would have one address: public {address}, private {private}; "
                    "change --port or --private-port"
                )
            return True
    return False


def _address(address: TCPAddress) -> IPAddress:
    """Return the IP address of a private listener, in canonical form."""
    read = read_address(address.host)
    assert read is not None  # noqa: S101  # a private address is made from an IP address
    return read
