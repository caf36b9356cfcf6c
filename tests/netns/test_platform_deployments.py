"""A rolling deployment under load for each way in which platforms end a container, under the platform's own variables.

Platforms are alike in this if their networks are of one kind, they send the same signal, and they tell their balancer
and their neighbours in the same order. Of those that are alike the one with the shortest grace is taken.

- Where the platform's data have the public side linger, the signal comes first, and the balancer and what neighbours
  resolve (a headless service of Kubernetes) change in the middle of that time. Neighbours keep what they have resolved.
- Elsewhere the balancer leads to the new container, and its private name too, before the signal. Neighbours then go on
  using an address for as long as the platform's names are cached.

A sidecar ends with its container, so it adds no way to these.
"""

from __future__ import annotations

import signal
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from duallisten.config.platforms import Platform
from tests.netns.containers import DRAINING, PLACES, Container, parameters
from tests.netns.loads import Order, load
from tests.netns.nginx import ADDRESS, Nginx
from tests.netns.topology import Kind, topology
from tests.netns.visits import begun
from tests.support.running import Launched

pytestmark = [pytest.mark.needs_root, pytest.mark.needs_ipv6, pytest.mark.needs_nginx]

SHORT = 5.0
"""Seconds of grace that are short enough for a test to see what becomes of a request that never ends."""


RECORD = 5.0
"""Seconds that CoreDNS gives the records of a service, where nobody configures another time."""


def ways() -> list[tuple[Platform, Kind]]:
    """One place for each way of ending."""
    found: dict[object, tuple[Platform, Kind]] = {}
    for platform, kind in sorted(PLACES, key=lambda place: place[0].grace or DRAINING):
        if not (kind.late or kind.has_sidecar):
            lingers = platform.public_linger > 0, platform.private_dns_ttl > 0
            found.setdefault((kind, platform.has_private, platform.stop_signal, *lingers), (platform, kind))
    return [*found.values()]


def lead(router: Nginx, record: Path, container: Container, port: int) -> None:
    """Have the balancer and the neighbours ask the new container."""
    router.lead_to(f"{container.public[0]}:{port}")
    write(record, container)


def write(record: Path, container: Container) -> None:
    scratch = record.with_suffix(".new")
    scratch.write_text(f"{container.private_side[0]}:9240" if container.private_side else "")
    scratch.replace(record)


def ends_in_time(server: Launched, seconds: float) -> bool:
    """Kill it as the platform does, if it has not ended by itself when the grace is over."""
    try:
        server.process.wait(seconds)
    except subprocess.TimeoutExpired:
        server.end(signal.SIGKILL)
        return False
    server.wait()
    return True


@pytest.mark.parametrize(("platform", "kind"), parameters(ways()))
def test_a_deployment_under_load_loses_no_request_and_ends_within_the_grace(
    platform: Platform, kind: Kind, tmp_path: Path
) -> None:
    number = signal.Signals[platform.stop_signal]
    grace = platform.grace or DRAINING
    public, private = tmp_path / "public.txt", tmp_path / "private.txt"
    public.write_text(ADDRESS)
    with topology(tmp_path, kind) as built, ExitStack() as stack:
        old = Container.of(platform, built)
        server, port = old.serve(lingers=True)
        write(private, old)
        router = stack.enter_context(Nginx(built.router, tmp_path / "nginx", f"{old.public[0]}:{port}"))
        with ExitStack() as peers:
            clients = [peers.enter_context(load(built.router, Order(str(public), 1.0)))]
            if old.private_side:
                ttl = RECORD if platform.public_linger else platform.private_dns_ttl
                clients += [peers.enter_context(load(built.neighbour, Order(str(private), ttl, pooled=3)))]
            new = old.twin()
            successor, _ = new.serve(lingers=True)
            with begun(built.router, old.public[0], port, "/slow") as slow, ExitStack() as stuck:
                server.wait_for("In hand: /slow")
                if grace <= SHORT:
                    stuck.enter_context(begun(built.router, old.public[0], port, "/stuck"))
                    server.wait_for("In hand: /stuck")
                if platform.public_linger:
                    server.send(number)
                    time.sleep(platform.public_linger / 2)  # what the balancer is late by
                    lead(router, private, new, port)
                else:
                    lead(router, private, new, port)
                    server.send(number)
                assert ends_in_time(server, grace), server.output
            assert slow[0].side == "public"
        assert [client.failures for client in clients] == [[]] * len(clients), router.output + server.output
        assert all(client.answers > 50 for client in clients)
        assert "Application shutdown complete" in server.output
        assert ("timeout graceful shutdown exceeded" in server.output) == (grace <= SHORT)
        successor.end(signal.SIGKILL)  # nothing more is asked of it
