"""Deployments behind a balancer that hears of the end of a container late: `--public-linger` loses no request.

`ROLLING_DEPLOYMENTS` in the environment says how many there are.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.loads import Order, load
from tests.netns.nginx import ADDRESS, Nginx
from tests.netns.topology import PUBLIC, Topology
from tests.support.running import Launched

pytestmark = pytest.mark.needs_nginx

PLACES = (("172.17.0.2", "10.240.0.5"), ("172.17.0.3", "10.240.0.7"))
"""The public and the private address of each container; one ends while the other is new."""

DEPLOYMENTS = int(os.environ.get("ROLLING_DEPLOYMENTS", "2"))

LATE, LINGER = 2.0, 3.5
"""Seconds after SIGTERM in which the balancer goes on sending requests, and those in which they are accepted."""


@pytest.fixture
def balancer(network: Topology, tmp_path: Path) -> Iterator[Nginx]:
    public, private = PLACES[1]
    network.container.ip(f"addr add {public}/16 dev eth0", f"addr add {private}/22 dev eth1")
    network.router.ip("link set lo up")
    (tmp_path / "clients.txt").write_text(ADDRESS)
    with Nginx(network.router, tmp_path / "nginx", f"{PUBLIC}:5000") as running:
        yield running


def serve_at(network: Topology, turn: int, *more: str) -> Launched:
    public, private = PLACES[turn % len(PLACES)]
    return network.serve("--no-access-log", "--host", public, "--private-host", private, *more)


def deploy(network: Topology, balancer: Nginx, old: Launched, turn: int, *more: str) -> Launched:
    """Start a new container and end the old one; the balancer hears of both late."""
    new = serve_at(network, turn, *more)
    old.send(signal.SIGTERM)
    time.sleep(LATE)  # what the balancer is late by
    balancer.lead_to(f"{PLACES[turn % len(PLACES)][0]}:5000")
    old.process.wait(30)
    return new


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_balancer_that_hears_of_the_end_late_loses_no_request(
    workers: tuple[str, ...], network: Topology, balancer: Nginx, tmp_path: Path
) -> None:
    more = ("--public-linger", str(LINGER), *workers)
    server = serve_at(network, 0, *more)
    with load(network.router, Order(str(tmp_path / "clients.txt"), 1.0)) as clients:
        for turn in range(1, DEPLOYMENTS + 1):
            old, server = server, deploy(network, balancer, server, turn, *more)
            assert "Application shutdown complete" in old.output
    server.end(signal.SIGKILL)  # nothing more is asked of it
    assert clients.failures == []
    assert clients.answers > 100 * DEPLOYMENTS


def test_without_it_such_a_balancer_loses_requests(network: Topology, balancer: Nginx, tmp_path: Path) -> None:
    server = serve_at(network, 0)
    with load(network.router, Order(str(tmp_path / "clients.txt"), 1.0)) as clients:
        deploy(network, balancer, server, 1)
    assert clients.failures
