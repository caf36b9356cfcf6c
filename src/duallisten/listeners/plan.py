"""The plan: which addresses will be bound and which peers are admitted, decided before any socket is open.

`make_plan` turns what was asked for into a `Plan` for one host. It is pure: the host's interfaces, its resolver and the
environment are arguments, and it opens nothing. There is never half a plan: where something cannot be done, it raises a
`LaunchError` that says what was found and what to do.

A missing private address may appear later (`--private-missing later`): the plan then has only the public listener, and
`later` is set. A socket that a service manager passes (`LISTEN_FDS`) replaces the address of its side.

`make_pools` decides which workers serve which listeners. Without `--private-workers` every worker serves all of them.
With it the private side has its own workers, which share no event loop, no accept queue and no process with the public
side: a busy or blocked public side does not delay the private one.

Invariants:

- A private listener is never bound to a wildcard address, nor to an address that this host does not own.
- Its neighbours are known: its address is in a private network, or `--private-allow` names the peers.
- The listeners never have one specific address in common.
- A loopback address never shares the public port, because a proxy on this host would then be a neighbour.
- Where the port is the fence, the listeners never have the same port.
- One port for both sides cannot be combined with `--private-missing later` or `--private-workers`: one socket serves
  both sides then, is opened once and cannot be divided.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from duallisten.config import Options, Place
from duallisten.errors import LaunchError, UsageError
from duallisten.listeners.admission import Admission
from duallisten.listeners.fence import Fence, fence_of, neighbours, notes_of
from duallisten.listeners.private_addresses import Found, find_private, ip_of
from duallisten.net import (
    Address,
    Host,
    InheritedSocket,
    Passed,
    TCPAddress,
    UnixAddress,
    covers,
    read_address,
)
from duallisten.sides import Side

if TYPE_CHECKING:
    from duallisten.config import Config


Which = Literal["both", "public", "private"]
"""Which listeners are opened."""


class Listener(NamedTuple):
    """One side's addresses: several where several were asked for, or a name resolves to several."""

    side: Side
    addresses: tuple[Address, ...]

    def __str__(self) -> str:
        return ", ".join(map(str, self.addresses))


class Plan(NamedTuple):
    """What a launch will do.

    Attributes:
        public: The public listener; None where it is not opened.
        private: The private listener; None where it is not opened.
        admission: The admission rules.
        shared: Whether both listeners have one port, so that the public listener's wildcard socket serves both.
        notes: Notes for the user on how the plan was made, one line each.
        later: Whether the private listener will be opened later, when its address appears.
        elsewhere: The listener that other workers of the launch serve; None where there is none.
        fence: What tells the sides apart, and why.
    """

    public: Listener | None
    private: Listener | None
    admission: Admission
    shared: bool = False
    notes: tuple[str, ...] = ()
    later: bool = False
    elsewhere: Listener | None = None
    fence: Fence = Fence()

    @property
    def listeners(self) -> tuple[Listener, ...]:
        """The listeners in the order in which they are opened: the private one first."""
        return tuple(listener for listener in (self.private, self.public) if listener is not None)

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides that are served, the private one first."""
        return tuple(listener.side for listener in self.listeners)

    @property
    def whole(self) -> Plan:
        """The plan of the whole launch, where this one may be of a single pool."""
        if self.elsewhere is None:
            return self
        if self.elsewhere.side == "public":
            return self._replace(public=self.elsewhere, elsewhere=None)
        return self._replace(private=self.elsewhere, elsewhere=None)

    def served_by(self, side: Side) -> tuple[Side, ...]:
        """The sides that a socket of `side` serves: both where they share it."""
        return ("public", "private") if self.shared and self.private is not None else (side,)


class Pool(NamedTuple):
    """Workers that serve the same listeners.

    Attributes:
        plan: The plan, with only the listeners that they serve.
        size: How many workers there are at first.
    """

    plan: Plan
    size: int

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides that the workers serve."""
        return self.plan.sides


def make_pools(plan: Plan, workers: int, private_workers: int) -> tuple[Pool, ...]:
    """Return the pools of a launch: one, or one for each side, the public one first.

    Args:
        plan: The plan. A private listener that will be opened later has no pool yet.
        workers: How many workers serve the public side.
        private_workers: How many workers serve the private side alone; 0 where the public side's workers serve it.

    Raises:
        LaunchError: Both sides have one socket, which two pools cannot divide.
    """
    if plan.public is None:
        return (Pool(plan, private_workers or workers),)
    if plan.private is None or not private_workers:
        return (Pool(plan, workers),)
    if plan.shared:
        raise LaunchError(
            f"--private-workers needs a private port of its own: one socket serves both sides on {plan.public}; "
            "change --private-port"
        )
    public = plan._replace(private=None, elsewhere=plan.private)
    private = plan._replace(public=None, elsewhere=plan.public)
    return (Pool(public, workers), Pool(private, private_workers))


class Request(NamedTuple):
    """All that a plan depends on, except for the host: our options, uvicorn's addresses, and the place.

    Attributes:
        host: One host, or several.
        port_asked: Whether a port, a UNIX domain socket or a descriptor was given.
        networks_asked: Whether the user has given `--private-network`.
        loopback_asked: Whether the user has given `--private-missing loopback`, as on a development machine.
    """

    options: Options
    place: Place
    host: str | Sequence[str] | None
    port: int
    port_asked: bool = True
    networks_asked: bool = False
    loopback_asked: bool = False
    uds: str | None = None
    fd: int | None = None
    passed: Passed = Passed()


def request_of(config: Config) -> Request:
    """Return what was asked for in a configuration."""
    return Request._make(getattr(config, name) for name in Request._fields)


def make_plan(request: Request, host: Host) -> Plan:
    """Make the plan for this host; raises LaunchError where a part of the request cannot be met."""
    which = sides(request)
    options = request.options
    _check_passed(request, which)
    public = _public(request, host) if which != "private" else None
    found = find_private(request, host, public) if which != "public" else Found()
    named = (*options.private_network, *found.networks, *request.place.platform.private_networks)
    networks = tuple(dict.fromkeys(named))
    inner = found.ips or tuple(address for address in host.addresses if covers(networks, address))
    fence = fence_of(request, host, public, inner)
    admission = Admission(networks, side_door=options.side_door, fence=fence.kind)
    if found.addresses:
        allowed = neighbours(request, found, fence)
        plan = Plan(
            public,
            Listener("private", request.passed.private or found.addresses),
            admission._replace(private_addresses=found.ips, allowed=allowed),
            shared=_share(public, found, request.passed),
            notes=(*found.notes, *notes_of(request, fence, found, allowed)),
            fence=fence,
        )
    else:
        notes = found.notes or _public_alone(request, which)
        plan = Plan(public, None, admission, notes=notes, later=which != "public", fence=fence)
    _check_ports(request, plan)
    return plan


def _public_alone(request: Request, which: Which) -> tuple[str, ...]:
    """Return the note that only the public side is served, where the user did not ask for that."""
    if which != "public" or request.options.listeners == "public":
        return ()
    return (f"{request.place.platform.name} has no private network: serving only the public side",)


def _check_ports(request: Request, plan: Plan) -> None:
    """Ensure that the ports differ where the port is the fence, and that no listener has a port of the platform."""
    if plan.shared and plan.fence.kind == "port":
        raise LaunchError(
            f"the fence is the port ({plan.fence.why}), but both sides have the same port: public {plan.public}, "
            f"private {plan.private}; change --private-port"
        )
    platform = request.place.platform
    for listener in plan.listeners:
        its_own = (request.place.port, platform.port) if listener.side == "public" else ()
        for planned in listener.addresses:
            one = planned.address if isinstance(planned, InheritedSocket) else planned
            if isinstance(one, TCPAddress) and one.port in platform.barred_ports and one.port not in its_own:
                option = "--private-port" if listener.side == "private" else "--port"
                raise LaunchError(f"port {one.port} is reserved by {platform.name}: change {option}")


def sides(request: Request) -> Which:
    """Decide which listeners to open, by the option or by the platform's process types."""
    place, asked = request.place, request.options.listeners
    platform, process_type = place.platform, place.process_type
    if process_type in platform.barred_process_types:
        raise LaunchError(
            f"a {process_type} process on {platform.name} runs before a deployment and must exit: start the server in "
            f"another process type, such as {next(iter(platform.public_process_types), 'web')}"
        )
    is_public_type = process_type in platform.public_process_types
    has_port = place.port is not None or platform.port != 0 or request.port_asked
    if is_public_type and not has_port and asked != "private":
        raise LaunchError(
            f"this is a {process_type} process on {platform.name} and PORT is not set: the platform sets it for "
            f"{' and '.join(platform.public_process_types)}; give --port, or --listeners private"
        )
    if asked != "auto":
        return asked
    if not platform.has_private and not _wants_private(request):
        return "public"
    if not platform.public_process_types:
        return "both"
    if process_type is None:
        return "both" if place.port is not None else "private"
    return "both" if is_public_type else "private"


def _wants_private(request: Request) -> bool:
    """Whether an option was given that only a private side can serve."""
    options = request.options
    pages = options.private_health or options.private_metrics
    return bool(pages or request.passed.private or options.private_network or options.private_host != ("auto",))


def _check_passed(request: Request, which: Which) -> None:
    """Ensure that passed sockets are for opened sides, and that no option names other ones; raises LaunchError."""
    passed, options = request.passed, request.options
    public = "--uds" if request.uds is not None else None
    if request.fd is not None and request.fd not in (one.descriptor for one in passed.public):
        public = "--fd"
    private = "--private-host" if options.private_host != ("auto",) else None
    for side, given, option in (("public", passed.public, public), ("private", passed.private, private)):
        if given and which not in ("both", side):
            raise LaunchError(
                f"LISTEN_FDS passes a {side} socket, but only the {which} side is opened; check --listeners"
            )
        if given and option:
            raise LaunchError(f"LISTEN_FDS passes a {side} socket, and {option} names another: remove one of them")


def _public(request: Request, host: Host) -> Listener:
    if request.passed.public:
        return Listener("public", request.passed.public)
    if request.fd is not None:
        return Listener("public", (InheritedSocket(request.fd),))
    if request.uds is not None:
        return Listener("public", (UnixAddress(request.uds),))
    if not 0 <= request.port <= 65535:
        raise UsageError(f"--port {request.port}: must be a port, a number from 0 to 65535")
    names = [request.host or ""] if isinstance(request.host, str | None) else request.host
    taken: list[tuple[str, str]] = []
    for name in names:
        addresses = _public_hosts(name, host)
        for address, (other, before) in itertools.product(addresses, taken):
            if _overlap(address, other):
                both = other if other == address else f"{other}, {address}"
                raise UsageError(f"--host {before} and --host {name} overlap ({both}): remove one of them")
        taken += [(address, name) for address in addresses]
    return Listener("public", tuple(TCPAddress(address, request.port) for address, _ in taken))


def _public_hosts(name: str, host: Host) -> tuple[str, ...]:
    """Return the addresses of a `--host`."""
    name = name or "0.0.0.0"  # noqa: S104  # uvicorn's --host "" means every address
    if read_address(name) is not None:
        return (name,)
    addresses = host.resolve(name)
    if not addresses:
        raise LaunchError(f"--host {name}: does not resolve; give an IP address of this host")
    return tuple(map(str, addresses))


def _overlap(host: str, other: str) -> bool:
    """Whether one of two sockets with the same port would get the other's connections."""
    one, two = TCPAddress(host, 1), TCPAddress(other, 1)
    return one.covers(two) or two.covers(one)


def _share(public: Listener | None, private: Found, passed: Passed) -> bool:
    """Whether the public listener's socket would also take all connections of the private one.

    A passed socket cannot be shared: a private one would clash with the public one, and the families of a public one
    are not known.
    """
    shared: list[TCPAddress] = []
    for one in public.addresses if public is not None else ():
        address = one.address if isinstance(one, InheritedSocket) else one
        if not isinstance(address, TCPAddress):
            continue
        for other in filter(address.covers, private.addresses):
            if passed != Passed() or not address.is_wildcard or ip_of(other).is_loopback:
                raise LaunchError(
                    f"both listeners have the same address: public {address}, private {other}; "
                    "change --port or --private-port"
                )
            shared.append(other)
    if shared and (apart := [address for address in private.addresses if address not in shared]):
        raise LaunchError(
            f"one socket would serve both sides on {shared[0]}, and another the private side on {apart[0]}; "
            "change --private-port, or give --host ::"
        )
    return bool(shared)
