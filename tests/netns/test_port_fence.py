"""A container with one address, at which the world and the neighbours come in: the port is the fence."""

from __future__ import annotations

import pytest

from tests.netns.topology import GATEWAY, OTHER_POD, POD, Topology, listening
from tests.netns.visits import say, visit
from tests.support.running import Launched

DEMO = "duallisten.demo:app"
KUBERNETES = {"KUBERNETES_SERVICE_HOST": "10.43.0.1"}
FORWARDED = {"X-Forwarded-For": "6.6.6.6, 203.0.113.7", "X-Forwarded-Proto": "https"}


def served(pods: Topology, *arguments: str, environ: dict[str, str]) -> Launched:
    server = pods.launch(DEMO, *arguments, environ=environ)
    server.wait_for("Serving the public side on ")
    return server


@pytest.mark.parametrize("more", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_pod_serves_both_sides_at_its_one_address(more: tuple[str, ...], pods: Topology) -> None:
    public = ("--host", "0.0.0.0", "--port", "8000", "--private-path", "/internal", *more)
    server = served(pods, *public, "--forwarded-allow-ips", GATEWAY, "--public-linger", "0", environ=KUBERNETES)
    server.wait_for(r"Serving the private side on http://10\.42\.0\.5:9240 \(.*; fence: port \(platform kubernetes\)")
    ingress = visit(pods.router, POD, 8000, FORWARDED)
    assert (ingress.side, ingress.you) == ("public", "203.0.113.7:0")
    neighbour = visit(pods.neighbour, POD, 8000, FORWARDED)
    assert (neighbour.side, neighbour.you) == ("public", neighbour.me)
    neighbour = visit(pods.neighbour, POD, 9240, FORWARDED)
    assert (neighbour.side, neighbour.you) == ("private", neighbour.me)
    request = b"GET /internal HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n"
    ours, the_application_s = b"content-type: text/plain", b"content-type: application/json"
    assert ours in say(pods.neighbour, POD, 8000, request).received
    assert the_application_s in say(pods.neighbour, POD, 9240, request).received


def test_who_has_no_private_address_is_shut_out_of_the_private_port(pods: Topology) -> None:
    server = served(pods, environ={"PORT": "8000"})
    server.wait_for(r"The fence is the port: 10\.42\.0\.5:9240 admits every peer with an address in 10\.")
    pods.router.ip("addr add 203.0.113.1/24 dev eth0", f"route add {POD} dev eth0 src 203.0.113.1")
    assert visit(pods.router, POD, 9240).was_shut_out
    assert server.wait_for(f"Refused a connection from 203.0.113.1 to {POD}")
    assert visit(pods.router, POD, 8000).side == "public"


def test_named_peers_are_the_only_ones(pods: Topology) -> None:
    served(pods, "--port", "8000", "--host", "0.0.0.0", "--private-allow", OTHER_POD, environ=KUBERNETES)
    assert visit(pods.neighbour, POD, 9240).side == "private"
    assert visit(pods.router, POD, 9240).was_shut_out


def test_a_platform_without_a_private_network_has_the_public_side_alone(pods: Topology) -> None:
    server = served(pods, environ={"DYNO": "web.1", "PORT": "8000", "FORWARDED_ALLOW_IPS": "*"})
    server.wait_for("heroku has no private network: serving only the public side")
    assert listening(server.process.pid) == {("0.0.0.0", 8000)}
    assert visit(pods.router, POD, 8000, FORWARDED).you == "203.0.113.7:0"
