"""A private network that the platform attaches after the container has started."""

from __future__ import annotations

import pytest

from tests.net.topology import PRIVATE, PUBLIC, Topology, listening, scalingo
from tests.net.visits import visit


@pytest.fixture
def late(network: Topology) -> Topology:
    """The network, with eth1 down and without its address."""
    network.container.ip("addr flush dev eth1", "link set eth1 down")
    return network


def test_a_private_address_that_appears_late_is_waited_for(late: Topology) -> None:
    server = late.launch("duallisten.demo:app", environ=scalingo())
    # What one look takes, from start to end, the server has then had time for, too.
    assert late.run("duallisten.demo:app", "--private-wait", "0", environ=scalingo()).returncode == 3
    assert server.process.poll() is None, server.output
    assert listening(server.process.pid) == set(), "no side is up before both can be"
    late.container.ip("link set eth1 up", f"addr add {PRIVATE}/22 dev eth1")
    for side in ("private", "public"):
        server.wait_for(f"Serving the {side} side on ")
    assert visit(late.router, PUBLIC, 5000).side == "public"
    assert visit(late.neighbour, PRIVATE, 9240).side == "private"


def test_a_private_address_that_is_not_there_is_told_with_those_that_are(late: Topology) -> None:
    done = late.run("duallisten.demo:app", "--private-wait", "0", environ=scalingo())
    assert (done.returncode, done.stdout) == (3, ""), done
    (line,) = done.stderr.splitlines()
    assert "no address in 10.240.0.0/22" in line
    assert f"eth0 {PUBLIC}" in line
    assert "lo 127.0.0.1" in line


def test_the_public_side_alone_needs_no_private_address(late: Topology) -> None:
    late.serve("--listeners", "public", sides=["public"])
    assert visit(late.router, PUBLIC, 5000).side == "public"
