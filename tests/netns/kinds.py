"""The kinds of network that platforms have, and which platform has which.

one address:   router (a balancer) ---+--- eth0 container
                                      +--- eth0 neighbour

two addresses: router ---- eth0 container eth1 ---- neighbour
"""

from __future__ import annotations

from tests.netns.topology import (
    BOTH_FAMILIES,
    GATEWAY,
    OTHER_POD,
    POD,
    PUBLIC,
    ROUTER,
    TWO_IPV4,
    Kind,
    Network,
)

OUTSIDE = Network("eth0", (f"{PUBLIC}/16",), router=(f"{ROUTER}/16",))

IPV6_INSIDE = Kind((OUTSIDE, Network("eth1", ("fdaa::5/64",), neighbour=("fdaa::6/64",))))
"""IPv4 outside, IPv6 inside, as on Fly.io."""

BOTH_INSIDE = Kind((OUTSIDE, BOTH_FAMILIES.networks[1]))
"""IPv4 outside, both families inside."""

ONE = Kind((Network("eth0", (f"{POD}/24",), router=(f"{GATEWAY}/24",), neighbour=(f"{OTHER_POD}/24",)),))
"""One address, at which a balancer and a neighbour beside it come in, as in a pod."""

ALONE = Kind((Network("eth0", (f"{POD}/24",), router=(f"{GATEWAY}/24",)),))
"""One address, and nobody beside the router, as in a dyno."""

SIDECAR = Kind(ALONE.networks, has_sidecar=True)
"""A neighbour on loopback, in the container's own network."""

LATE = Kind(TWO_IPV4.networks, late="eth1")
"""The private address comes when the container already runs."""


def inside(device: str, *addresses: tuple[str, str]) -> Kind:
    """Return two addresses, the private ones as given: the container's and the neighbour's, of each family."""
    ours, theirs = zip(*addresses, strict=True)
    return Kind((OUTSIDE, Network(device, ours, neighbour=theirs)))


TAILNET = inside("tailscale0", ("100.64.7.5/10", "100.64.7.6/10"), ("fd7a:115c:a1e0::5/48", "fd7a:115c:a1e0::6/48"))

KINDS: dict[str, tuple[Kind, ...]] = {
    "scalingo": (TWO_IPV4, LATE),
    "fly": (IPV6_INSIDE,),
    "railway": (
        inside("eth1", ("fd12::5/16", "fd12::6/16")),
        inside("eth1", ("10.130.0.5/16", "10.130.0.6/16"), ("fd12::5/16", "fd12::6/16")),
    ),
    "clever-cloud": (TWO_IPV4, LATE),
    "dokku": (TWO_IPV4, LATE),
    "docker": (ONE, TWO_IPV4, BOTH_FAMILIES),
    "tailscale": (TAILNET,),
    "wireguard": (inside("wg0", ("10.8.0.5/24", "10.8.0.6/24")),),
    "nomad": (ONE, SIDECAR),
    "kubernetes": (ONE, SIDECAR),
    "openshift": (ONE, SIDECAR),
    "cloud-run": (ALONE, SIDECAR),
    **dict.fromkeys(("app-runner", "app-service", "beanstalk", "heroku", "upsun"), (ALONE,)),
    **dict.fromkeys(("caprover", "cloud-foundry", "container-apps", "coolify", "digitalocean", "ecs"), (ONE,)),
    **dict.fromkeys(("heroku-private", "koyeb", "northflank", "render"), (ONE,)),
    "none": (ONE, TWO_IPV4),
}
"""The kinds of network that a container may have on a platform, by the value of `--platform`."""
