"""Deployments under load: processes change places, workers are replaced or killed, and no request is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.loads import Order, load
from tests.netns.nginx import ADDRESS, Nginx
from tests.netns.topology import PRIVATE, PUBLIC, Topology
from tests.support.running import Launched

pytestmark = pytest.mark.needs_nginx

PLACES = (("172.17.0.2", "10.240.0.5"), ("172.17.0.3", "10.240.0.7"), ("172.17.0.4", "10.240.0.8"))
"""The public and the private address of each container; one is ending while the next two change places."""

TURNS = 20
TTL, LINGER = 0.5, 1.0
"""Seconds; 5 and 5 on Scalingo, where the record is changed before SIGTERM as it is here."""


@pytest.fixture
def records(tmp_path: Path) -> tuple[Path, Path]:
    """Where the router's clients and the neighbour find whom to ask."""
    return tmp_path / "router.txt", tmp_path / "neighbour.txt"


@pytest.fixture
def router(network: Topology, tmp_path: Path, records: tuple[Path, Path]) -> Iterator[Nginx]:
    for public, private in PLACES[1:]:
        network.container.ip(f"addr add {public}/16 dev eth0", f"addr add {private}/22 dev eth1")
    network.router.ip("link set lo up")
    records[0].write_text(ADDRESS)
    records[1].write_text(f"{PRIVATE}:9240")
    with Nginx(network.router, tmp_path / "nginx", f"{PUBLIC}:5000") as running:
        yield running


def serve_at(network: Topology, place: tuple[str, str], *more: str) -> Launched:
    public, private = place
    arguments = ("--no-access-log", "--private-linger", str(LINGER), "--host", public, "--private-host", private)
    return network.serve(*arguments, *more)


def lead_to(router: Nginx, record: Path, place: tuple[str, str]) -> None:
    """Do what a platform does when the new containers are ready; the name is the last that changes before SIGTERM."""
    router.lead_to(f"{place[0]}:5000")
    scratch = record.with_suffix(".new")
    scratch.write_text(f"{place[1]}:9240")
    scratch.replace(record)


@pytest.mark.parametrize("more", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_deployments_under_load_lose_no_request(
    more: tuple[str, ...], network: Topology, router: Nginx, records: tuple[Path, Path]
) -> None:
    servers = [serve_at(network, PLACES[0], *more)]
    with (
        load(network.router, Order(str(records[0]), TTL)) as public,
        load(network.neighbour, Order(str(records[1]), TTL, pooled=3)) as private,
    ):
        for turn in range(1, TURNS + 1):
            if turn >= len(PLACES):
                servers[turn - len(PLACES)].process.wait(30)
            place = PLACES[turn % len(PLACES)]
            servers.append(serve_at(network, place, *more))
            lead_to(router, records[1], place)
            servers[turn - 1].send(signal.SIGTERM)
    assert (public.failures, private.failures) == ([], [])
    assert min(public.answers, private.answers) > 10 * TURNS
    assert all("Application shutdown complete" in server.output for server in servers[: -len(PLACES)])


def test_twenty_replacements_of_the_workers_under_load_lose_no_request(
    network: Topology, router: Nginx, records: tuple[Path, Path]
) -> None:
    server = serve_at(network, PLACES[0], "--workers", "2", "--preload")
    with (
        load(network.router, Order(str(records[0]), TTL)) as public,
        load(network.neighbour, Order(str(records[1]), TTL, pooled=3)) as private,
    ):
        for turn in range(1, TURNS + 1):
            server.send(signal.SIGHUP)
            server.wait_for("Finished server process", count=2 * turn)
    assert (public.failures, private.failures) == ([], [])
    assert min(public.answers, private.answers) > 100


def test_a_killed_worker_fails_no_more_than_it_had_in_hand(
    network: Topology, router: Nginx, records: tuple[Path, Path]
) -> None:
    server = serve_at(network, PLACES[0], "--workers", "2")
    clients = 6
    with (
        load(network.router, Order(str(records[0]), TTL, clients)) as public,
        load(network.neighbour, Order(str(records[1]), TTL, clients, pooled=3)) as private,
    ):
        for death in (1, 2):
            victim = max(workers(server))
            os.kill(victim, signal.SIGKILL)
            server.wait_for(rf"Worker \[{victim}\] was killed by SIGKILL")
            server.wait_for("Application startup complete", count=2 + death)
    assert len(public.failures) <= 2 * clients, public.failures
    assert len(private.failures) <= 2 * clients, private.failures
    assert min(public.answers, private.answers) > 100


def workers(server: Launched) -> list[int]:
    return [worker.pid for worker in server.workers]
