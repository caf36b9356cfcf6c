"""Each platform on a network of its kind, with the variables that it sets: who reaches what, and who is believed."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface
from pathlib import Path

import pytest

from duallisten.config.platforms import NONE, Platform, every
from duallisten.net import covers
from tests.netns.kinds import KINDS
from tests.netns.topology import Kind, Topology, topology
from tests.netns.visits import visit
from tests.support.platforms import VARIABLES

CLIENT = "203.0.113.7"
PLACES = [
    pytest.param(platform, kind, id=f"{platform.name}-{number}")
    for platform in every()
    for number, kind in enumerate(KINDS[platform.name])
    if platform is not NONE and not kind.late
]


def addresses(kind: Kind, *, private: bool) -> list[str]:
    """The container's addresses at which its neighbour comes in, or the router."""
    networks = (one for one in kind.networks if ((one.neighbour or kind.has_sidecar) if private else one.router))
    return [address.partition("/")[0] for network in networks for address in network.container]


def launch(built: Topology, platform: Platform) -> int:
    """Start the demo as on the platform, with what its users have to say there, and return its public port."""
    environ = next((variables for name, variables in VARIABLES if name == platform.name), {})
    arguments = [] if environ else ["--platform", platform.name]
    private = addresses(built.kind, private=True)
    environ = environ | dict.fromkeys(platform.private_variables, private[0] if private else "")
    if not environ.get("PORT") and not platform.port:
        arguments += ["--host", "0.0.0.0"]
    if len(built.kind.networks) > 1 and not platform.private_networks and not platform.private_interfaces:
        own = [
            ip_interface(address).network for one in built.kind.networks if one.neighbour for address in one.container
        ]
        arguments += [f"--private-network={network}" for network in own]
    server = built.launch("duallisten.demo:app", *arguments, environ=environ | {"DUALLISTEN_PUBLIC_LINGER": "0"})
    if platform.has_private:
        server.wait_for("Serving the private side on ")
    return int(server.wait_for(r"Serving the public side on http://0\.0\.0\.0:(\d+)")[1])


@pytest.mark.needs_root
@pytest.mark.needs_ipv6
@pytest.mark.parametrize(("platform", "kind"), PLACES)
def test_each_peer_reaches_its_own_side_and_the_routers_alone_are_believed(
    platform: Platform, kind: Kind, tmp_path: Path
) -> None:
    forwarded = {"X-Forwarded-For": f"6.6.6.6, {CLIENT}", platform.client_header or "X-Real-IP": CLIENT}
    with topology(tmp_path, kind) as built:
        port = launch(built, platform)
        router = visit(built.router, addresses(kind, private=False)[0], port, forwarded)
        assert (router.side, router.you) == ("public", f"{CLIENT}:0" if platform.is_routed else router.me)
        for address in addresses(kind, private=True) if platform.has_private else ():
            neighbour = visit(built.neighbour, address, 9240, forwarded)
            if platform.private_networks and not covers(platform.private_networks, ip_address(address)):
                assert neighbour.found_nobody
            else:
                assert (neighbour.side, neighbour.you) == ("private", neighbour.me)
            neighbour = visit(built.neighbour, address, port, forwarded)
            assert neighbour.found_nobody or (neighbour.side, neighbour.you) == ("public", neighbour.me)
