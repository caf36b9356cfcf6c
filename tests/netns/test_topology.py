from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.netns.topology import PUBLIC, Topology, topology
from tests.netns.visits import visit
from tests.support.running import eventually


def test_a_network_goes_with_all_that_runs_in_it_whatever_happens(network: Topology, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), topology(tmp_path) as other:
        namespaces = (other.container, other.router, other.neighbour)
        assert all(namespace.exists for namespace in namespaces)
        other.serve(WEB_CONCURRENCY="2")
        processes = other.container.processes
        assert len(processes) >= 3
        raise ZeroDivisionError
    assert not any(namespace.exists for namespace in namespaces)
    assert eventually(lambda: not any(map(psutil.pid_exists, processes)))
    assert network.container.exists


def test_two_networks_with_the_same_addresses_do_not_meet(network: Topology, tmp_path: Path) -> None:
    with topology(tmp_path) as other:
        server, another = network.serve(), other.serve()
        assert visit(network.router, PUBLIC, 5000).answer["process"] == server.process.pid
        assert visit(other.router, PUBLIC, 5000).answer["process"] == another.process.pid
