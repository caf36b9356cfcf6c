"""What holds for sockets that a service manager has bound (`LISTEN_FDS`), as far as a plan depends on it. Pure.

A passed socket stands for the address of its side, so nothing else may name one; and a private one keeps all rules of a
private listener: one IP address, of a network by which a neighbour is told from a stranger.
"""

from __future__ import annotations

from typing import Literal

from duallisten.config import Options
from duallisten.errors import LaunchError
from duallisten.net import LOOPBACK, InheritedSocket, IPAddress, Passed, TCPAddress, covers, join, read_address


def check_passed(
    passed: Passed, which: Literal["both", "public", "private"], options: Options, *, public: str | None
) -> None:
    """Make sure that what was passed is what is to be opened, and that no option names another; raises LaunchError.

    which: the sides that are opened
    public: the option that names a public socket
    """
    private = "--private-host" if options.private_host != "auto" else None
    for side, given, option in (("public", passed.public, public), ("private", passed.private, private)):
        if given and which not in ("both", side):
            raise LaunchError(
                f"LISTEN_FDS passes a {side} socket, but the {which} side alone is to be opened; look at --listeners"
            )
        if given and option:
            raise LaunchError(
                f"LISTEN_FDS passes a {side} socket, and {option} asks for another one: do without one of them"
            )


def passed_private(given: InheritedSocket, options: Options) -> TCPAddress:
    """Return the address of a passed private socket; raises LaunchError where a private listener must not have it."""
    what = f"the private socket {given} that LISTEN_FDS passes"
    address = read_address(given.address.host) if isinstance(given.address, TCPAddress) else None
    if not isinstance(given.address, TCPAddress) or address is None:
        raise LaunchError(f"{what} has no IP address, and a neighbour is known by nothing else")
    if address.is_unspecified:
        raise LaunchError(
            f"{what} listens on every interface, the public one too: name one address in its ListenStream="
        )
    require_neighbours(what, address, options)
    return given.address


def require_neighbours(what: str, address: IPAddress, options: Options) -> None:
    """Make sure that it is known who a neighbour of a private address is; raises LaunchError."""
    networks = options.private_network
    if not covers((*networks, *LOOPBACK), address) and options.private_allow is None:
        raise LaunchError(
            f"{what}: {address} lies in no private network ({join(networks)}), so no neighbour could be "
            "told from a stranger; give its network with --private-network, or the peers with --private-allow"
        )
