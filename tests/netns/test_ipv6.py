"""IPv6 on either side, and one socket for both families."""

from __future__ import annotations

import pytest

from tests.netns.topology import PRIVATE, PRIVATE6, PUBLIC, PUBLIC6, ROUTER6, Topology
from tests.netns.visits import visit

FORGED = {"X-Forwarded-For": "1.2.3.4"}
BELIEVED = {"X-Forwarded-For": "203.0.113.7"}
PRIVATE_IPV6 = ("--private-network", "fdaa::/16")
LINK_LOCAL, NEIGHBOUR_LINK_LOCAL = "fe80::5", "fe80::6"

with_and_without_workers = pytest.mark.parametrize("workers", ["1", "2"], ids=["one-worker", "two-workers"])


def test_the_private_side_can_be_ipv6(network6: Topology) -> None:
    server = network6.serve(*PRIVATE_IPV6)
    server.wait_for(r"private side on http://\[fdaa::5\]:9240")
    neighbour = visit(network6.neighbour, PRIVATE6, 9240, FORGED)
    assert (neighbour.side, neighbour.you) == ("private", neighbour.me)
    assert visit(network6.router, PUBLIC, 5000).side == "public"


def test_a_host_outside_that_routes_to_the_private_ipv6_address_is_shut_out(network6: Topology) -> None:
    server = network6.serve(*PRIVATE_IPV6)
    network6.router.ip(f"route add fdaa::/64 via {PUBLIC6}")
    assert visit(network6.router, PRIVATE6, 9240).was_shut_out
    assert server.wait_for(f"Refused a connection from {ROUTER6} to {PRIVATE6}")


@with_and_without_workers
def test_one_public_socket_serves_both_families(network6: Topology, workers: str) -> None:
    network6.serve("--host", "::", WEB_CONCURRENCY=workers)
    for address in (PUBLIC, PUBLIC6):
        assert visit(network6.router, address, 5000).side == "public"
        assert visit(network6.router, address, 5000, BELIEVED).you == "203.0.113.7:0"


@with_and_without_workers
def test_the_side_door_is_known_through_a_socket_for_both_families(network6: Topology, workers: str) -> None:
    network6.serve("--host", "::", WEB_CONCURRENCY=workers)
    neighbour = visit(network6.neighbour, PRIVATE, 5000, FORGED)
    assert neighbour.side == "public"
    assert neighbour.is_named_truly


def test_the_side_door_is_known_over_ipv6(network6: Topology) -> None:
    network6.serve("--host", "::", *PRIVATE_IPV6)
    neighbour = visit(network6.neighbour, PRIVATE6, 5000, FORGED)
    assert (neighbour.side, neighbour.you) == ("public", neighbour.me)


def test_the_side_door_can_be_shut_on_a_socket_for_both_families(network6: Topology) -> None:
    networks = ("--private-network", "10.240.0.0/22", *PRIVATE_IPV6, "--private-host", PRIVATE)
    network6.serve("--host", "::", "--side-door", "refuse", *networks)
    for address in (PRIVATE, PRIVATE6):
        assert visit(network6.neighbour, address, 5000).was_shut_out
    for address in (PUBLIC, PUBLIC6):
        assert visit(network6.router, address, 5000).side == "public"


@with_and_without_workers
def test_an_ipv4_neighbour_is_read_as_ipv4_where_one_socket_serves_everything(network6: Topology, workers: str) -> None:
    network6.serve("--host", "::", PORT="9240", WEB_CONCURRENCY=workers)
    neighbour = visit(network6.neighbour, PRIVATE, 9240, FORGED)
    assert neighbour.side == "private"
    assert neighbour.is_named_truly
    for address in (PUBLIC, PUBLIC6):
        assert visit(network6.router, address, 9240).side == "public"
    assert visit(network6.neighbour, PRIVATE6, 9240).side == "public", "fdaa::/16 is not in --private-network here"


def test_an_outsider_is_read_as_ipv4_where_one_socket_serves_everything(network6: Topology) -> None:
    network6.serve("--host", "::", PORT="9240")
    network6.router.ip(f"route add 10.240.0.0/22 via {PUBLIC}")
    outsider = visit(network6.router, PRIVATE, 9240, FORGED)
    assert outsider.side == "public"
    assert outsider.is_named_truly


def test_a_neighbour_cannot_forge_its_address_over_the_link_itself(network6: Topology) -> None:
    """Every interface has a link-local address, also on a private network that is IPv4 only."""
    network6.container.ip(f"addr add {LINK_LOCAL}/64 dev eth1 nodad")
    network6.neighbour.ip(f"addr add {NEIGHBOUR_LINK_LOCAL}/64 dev eth1 nodad")
    network6.serve("--host", "::")
    neighbour = visit(network6.neighbour, f"{LINK_LOCAL}%eth1", 5000, FORGED)
    assert neighbour.side == "public"
    assert "1.2.3.4" not in neighbour.you
