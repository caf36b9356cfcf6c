"""The side door: 0.0.0.0:$PORT is also 10.240.x.y:$PORT, where a neighbour reaches it past the router."""

from __future__ import annotations

from pathlib import Path

from tests.netns.topology import NEIGHBOUR, PRIVATE, PUBLIC, Topology
from tests.netns.visits import say, visit

FORGED = {"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https"}


def test_a_neighbour_gets_the_public_side_through_the_side_door(network: Topology) -> None:
    network.serve()
    neighbour = visit(network.neighbour, PRIVATE, 5000)
    assert (neighbour.side, neighbour.you) == ("public", neighbour.me)
    assert neighbour.you.startswith(f"{NEIGHBOUR}:")


def test_a_neighbour_cannot_forge_its_address_through_the_side_door(network: Topology) -> None:
    network.serve()
    neighbour = visit(network.neighbour, PRIVATE, 5000, FORGED)
    assert (neighbour.side, neighbour.you) == ("public", neighbour.me)


def test_the_side_door_leads_to_no_hidden_path(network: Topology) -> None:
    network.serve("--private-path", "/internal")
    request = b"GET /internal HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
    ours, the_application_s = b"content-type: text/plain", b"content-type: application/json"
    assert ours in say(network.neighbour, PRIVATE, 5000, request).received
    assert ours in say(network.router, PUBLIC, 5000, request).received
    assert the_application_s in say(network.neighbour, PRIVATE, 9240, request).received


def test_a_neighbour_cannot_forge_https_but_the_router_can_say_so(network: Topology) -> None:
    network.serve("--app-dir", str(Path(__file__).parent), app="mirror:app")
    neighbour = visit(network.neighbour, PRIVATE, 5000, FORGED).answer
    assert (neighbour["side"], neighbour["scheme"]) == ("public", "http")
    neighbour = visit(network.neighbour, PRIVATE, 9240, FORGED).answer
    assert (neighbour["side"], neighbour["scheme"]) == ("private", "http")
    router = visit(network.router, PUBLIC, 5000, {"X-Forwarded-For": "203.0.113.7", "X-Forwarded-Proto": "https"})
    assert router.answer == {"side": "public", "scheme": "https", "you": "203.0.113.7:0"}


def test_a_neighbour_cannot_forge_its_address_on_the_private_side(network: Topology) -> None:
    network.serve()
    neighbour = visit(network.neighbour, PRIVATE, 9240, FORGED)
    assert (neighbour.side, neighbour.you) == ("private", neighbour.me)


def test_the_routers_word_is_believed_and_nothing_to_the_left_of_it(network: Topology) -> None:
    network.serve()
    for forwarded, client in {
        "203.0.113.7": "203.0.113.7:0",
        "6.6.6.6, 203.0.113.7": "203.0.113.7:0",
        "6.6.6.6, 203.0.113.7, 172.17.0.1": "203.0.113.7:0",
        "10.240.0.6, 203.0.113.7": "203.0.113.7:0",
        "2001:db8::7": "[2001:db8::7]:0",
    }.items():
        assert visit(network.router, PUBLIC, 5000, {"X-Forwarded-For": forwarded}).you == client, forwarded


def test_a_side_door_that_refuses_closes_it_to_the_neighbour_and_not_to_the_router(network: Topology) -> None:
    server = network.serve("--side-door", "refuse")
    assert visit(network.neighbour, PRIVATE, 5000).was_shut_out
    assert server.wait_for(f"Refused a connection from {NEIGHBOUR} to {PRIVATE}")
    assert visit(network.neighbour, PRIVATE, 9240).side == "private"
    assert visit(network.router, PUBLIC, 5000, {"X-Forwarded-For": "203.0.113.7"}).you == "203.0.113.7:0"


def test_the_side_door_is_known_without_a_private_listener(network: Topology) -> None:
    network.serve("--listeners", "public", sides=["public"])
    neighbour = visit(network.neighbour, PRIVATE, 5000, FORGED)
    assert (neighbour.side, neighbour.you) == ("public", neighbour.me)


def test_a_neighbour_that_routes_to_the_outer_address_cannot_forge_its_own(network: Topology) -> None:
    network.serve()
    network.neighbour.ip(f"route add {PUBLIC} via {PRIVATE}")
    neighbour = visit(network.neighbour, PUBLIC, 5000, FORGED)
    assert (neighbour.side, neighbour.you) == ("public", neighbour.me)
    assert neighbour.you.startswith(f"{NEIGHBOUR}:")
