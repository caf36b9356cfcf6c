from __future__ import annotations

from tests.netns.topology import PRIVATE, PUBLIC, Topology
from tests.netns.visits import visit, visits
from tests.support.running import eventually

TIMES = 8


def test_every_worker_serves_each_side_as_what_it_is(network: Topology) -> None:
    server = network.serve(WEB_CONCURRENCY="2")
    workers = network.container.processes - {server.process.pid}
    for peer, host, port, side in (
        (network.router, PUBLIC, 5000, "public"),
        (network.neighbour, PRIVATE, 9240, "private"),
    ):
        seen = visits(peer, host, port, TIMES)
        assert [one.side for one in seen] == [side] * TIMES
        assert [one.you for one in seen] == [one.me for one in seen]
        assert {one.answer["process"] for one in seen} <= workers


def test_every_worker_has_the_fence_and_knows_the_side_door(network: Topology) -> None:
    network.serve(WEB_CONCURRENCY="2")
    network.router.ip(f"route add 10.240.0.0/22 via {PUBLIC}")
    forged = {"X-Forwarded-For": "1.2.3.4"}
    assert all(one.was_shut_out for one in visits(network.router, PRIVATE, 9240, TIMES))
    for one in visits(network.neighbour, PRIVATE, 5000, TIMES, forged):
        assert (one.side, one.you) == ("public", one.me)


def test_sigterm_ends_every_process(network: Topology) -> None:
    server = network.serve(WEB_CONCURRENCY="2")
    assert len(network.container.processes) >= 3
    assert server.end() == 0, server.output
    assert eventually(lambda: not network.container.processes)
    assert visit(network.router, PUBLIC, 5000).found_nobody
    assert visit(network.neighbour, PRIVATE, 9240).found_nobody
