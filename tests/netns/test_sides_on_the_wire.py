from __future__ import annotations

from tests.netns.topology import NEIGHBOUR, PRIVATE, PUBLIC, ROUTER, Topology
from tests.netns.visits import say, visit

PAST_THE_FENCE = f"route add 10.240.0.0/22 via {PUBLIC}"
"""What a host on the outer network does to reach the private block through the container."""


def test_the_world_gets_the_public_side_and_a_neighbour_the_private_one(network: Topology) -> None:
    network.serve()
    world = visit(network.router, PUBLIC, 5000)
    neighbour = visit(network.neighbour, PRIVATE, 9240)
    assert (world.side, world.you, world.answer["me"]) == ("public", world.me, f"{PUBLIC}:5000")
    assert (neighbour.side, neighbour.you, neighbour.answer["me"]) == ("private", neighbour.me, f"{PRIVATE}:9240")
    assert world.answer["process"] == neighbour.answer["process"]


def test_the_private_port_is_closed_on_the_outer_address(network: Topology) -> None:
    network.serve()
    assert visit(network.router, PUBLIC, 9240).found_nobody


def test_a_host_outside_that_routes_to_the_private_address_is_shut_out(network: Topology) -> None:
    server = network.serve()
    network.router.ip(PAST_THE_FENCE)
    assert visit(network.router, PRIVATE, 9240).was_shut_out
    assert server.wait_for(f"Refused a connection from {ROUTER} to {PRIVATE}")
    assert say(network.router, PRIVATE, 9240, b"").was_shut_out, "it need not say anything first"
    assert visit(network.neighbour, PRIVATE, 9240).side == "private"


def test_it_is_the_list_of_peers_that_shuts_it_out_and_not_the_network(network: Topology) -> None:
    network.serve("--private-allow", "172.17.0.0/16")
    network.router.ip(PAST_THE_FENCE)
    outsider = visit(network.router, PRIVATE, 9240)
    assert (outsider.side, outsider.you) == ("private", outsider.me)
    assert visit(network.neighbour, PRIVATE, 9240).was_shut_out, "a list that was given replaces the default"


def test_only_the_neighbours_that_a_user_names_are_admitted(network: Topology) -> None:
    network.neighbour.ip("addr add 10.240.0.7/22 dev eth1")
    network.serve("--private-allow", NEIGHBOUR)
    assert visit(network.neighbour, PRIVATE, 9240).side == "private"
    network.neighbour.ip("route add 10.240.0.5 dev eth1 src 10.240.0.7")
    assert visit(network.neighbour, PRIVATE, 9240).was_shut_out


def test_one_port_for_both_sides_is_told_apart_by_the_address(network: Topology) -> None:
    network.serve(PORT="9240")
    assert visit(network.router, PUBLIC, 9240).side == "public"
    assert visit(network.neighbour, PRIVATE, 9240).side == "private"


def test_one_port_for_both_sides_believes_the_router_and_no_neighbour(network: Topology) -> None:
    network.serve(PORT="9240")
    assert visit(network.router, PUBLIC, 9240, {"X-Forwarded-For": "203.0.113.7"}).you == "203.0.113.7:0"
    neighbour = visit(network.neighbour, PRIVATE, 9240, {"X-Forwarded-For": "1.2.3.4"})
    assert (neighbour.side, neighbour.you) == ("private", neighbour.me)


def test_one_port_for_both_sides_shows_an_outsider_at_the_private_address_only_the_public_side(
    network: Topology,
) -> None:
    network.serve(PORT="9240")
    network.router.ip(PAST_THE_FENCE)
    outsider = visit(network.router, PRIVATE, 9240, {"X-Forwarded-For": "1.2.3.4"})
    assert (outsider.side, outsider.you) == ("public", outsider.me)


def test_one_port_for_both_sides_with_the_side_door_shut_refuses_an_outsider_at_the_private_address(
    network: Topology,
) -> None:
    network.serve("--side-door", "refuse", PORT="9240")
    network.router.ip(PAST_THE_FENCE)
    assert visit(network.router, PRIVATE, 9240).was_shut_out
    assert visit(network.router, PUBLIC, 9240).side == "public"
    assert visit(network.neighbour, PRIVATE, 9240).side == "private"
