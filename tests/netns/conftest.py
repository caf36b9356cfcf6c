"""Fixtures: the network of a container, for one test each."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.netns.topology import Topology, topology, unfit


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Topology]:
    """A container between a router and a neighbour, with IPv4 addresses."""
    require(unfit())
    with topology(tmp_path) as built:
        yield built


@pytest.fixture
def network6(tmp_path: Path) -> Iterator[Topology]:
    """The same, with IPv6 addresses beside the IPv4 ones."""
    require(unfit(ipv6=True))
    with topology(tmp_path, ipv6=True) as built:
        yield built


def require(trouble: str | None) -> None:
    """Skip where the test cannot run; on CI, where nobody reads what was skipped, fail."""
    if trouble is None:
        return
    if os.environ.get("CI"):
        pytest.fail(f"these tests must run on CI: {trouble}", pytrace=False)
    pytest.skip(trouble)
