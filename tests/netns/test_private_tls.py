"""TLS on the private listener: the decision who may come in is taken before the handshake."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme

from tests.netns.topology import PRIVATE, PUBLIC, ROUTER, Topology
from tests.netns.visits import say, visit
from tests.support.running import Launched

HANDSHAKE = b"\x16\x03"
"""How each record of a handshake begins (RFC 8446, 5.1)."""

on_either_loop = pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
"""A connection is handed to TLS in a way that depends on the loop's transports."""


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    """A certificate authority's certificate; beside it is what it gave the server."""
    made = trustme.CA()
    server = made.issue_cert(PRIVATE)
    server.private_key_pem.write_to_path(tmp_path / "key.pem")
    server.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    made.cert_pem.write_to_path(tmp_path / "authority.pem")
    return tmp_path / "authority.pem"


def serve(network: Topology, loop: str) -> Launched:
    server = network.serve(
        "--loop", loop, "--private-ssl-keyfile", "key.pem", "--private-ssl-certfile", "certificate.pem"
    )
    server.wait_for(f"private side on https://{PRIVATE}:9240")
    return server


def client_hello() -> bytes:
    """The first bytes of a TLS client."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    context = ssl.create_default_context()
    with pytest.raises(ssl.SSLWantReadError):
        context.wrap_bio(incoming, outgoing, server_hostname=PRIVATE).do_handshake()
    return outgoing.read()


@on_either_loop
def test_a_neighbour_is_answered_over_tls_and_the_world_without(network: Topology, authority: Path, loop: str) -> None:
    serve(network, loop)
    neighbour = visit(network.neighbour, PRIVATE, 9240, authority=authority)
    assert (neighbour.side, neighbour.you) == ("private", neighbour.me)
    assert visit(network.router, PUBLIC, 5000).side == "public"


@on_either_loop
def test_a_peer_that_is_not_admitted_gets_no_byte_of_a_handshake(network: Topology, authority: Path, loop: str) -> None:
    server = serve(network, loop)
    network.router.ip(f"route add 10.240.0.0/22 via {PUBLIC}")
    assert say(network.neighbour, PRIVATE, 9240, client_hello()).received.startswith(HANDSHAKE)
    assert say(network.router, PRIVATE, 9240, client_hello()).was_shut_out
    server.wait_for(f"Refused a connection from {ROUTER} to {PRIVATE}")
