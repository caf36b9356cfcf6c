"""Fixtures: the network of a container, for one test each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.kinds import ONE
from tests.netns.topology import BOTH_FAMILIES, Topology, topology


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Topology]:
    """A container between a router and a neighbour, with IPv4 addresses."""
    with topology(tmp_path) as built:
        yield built


@pytest.fixture
def pods(tmp_path: Path) -> Iterator[Topology]:
    """A container that has one address, for the router and for its neighbour."""
    with topology(tmp_path, ONE) as built:
        yield built


@pytest.fixture
def network6(tmp_path: Path) -> Iterator[Topology]:
    """The same, with IPv6 addresses beside the IPv4 ones."""
    with topology(tmp_path, BOTH_FAMILIES) as built:
        yield built
