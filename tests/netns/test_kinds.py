"""The kinds of network: each is what it says, and each platform has one."""

from __future__ import annotations

import json
import subprocess
from itertools import chain
from pathlib import Path

import pytest

from duallisten.config.platforms import NAMES, load
from tests.netns.kinds import BOTH_INSIDE, KINDS
from tests.netns.topology import Kind, Namespace, topology

EVERY = tuple(dict.fromkeys((BOTH_INSIDE, *chain.from_iterable(KINDS.values()))))


def addresses(namespace: Namespace, device: str) -> set[str]:
    """Ask for the addresses of an interface, without those of the link."""
    done = subprocess.run(namespace.inside("ip", "-j", "addr", "show", "dev", device), capture_output=True, check=True)
    found = json.loads(done.stdout)[0]["addr_info"]
    return {f"{one['local']}/{one['prefixlen']}" for one in found if one["scope"] == "global"}


def test_each_platform_has_a_network_of_the_kind_that_its_data_says() -> None:
    assert KINDS.keys() == {*NAMES}
    for name, kinds in KINDS.items():
        fence = load(name).fence
        assert fence == "auto" or all((len(kind.networks) == 1) == (fence == "port") for kind in kinds)


@pytest.mark.needs_root
@pytest.mark.needs_ipv6
@pytest.mark.parametrize("kind", EVERY)
def test_a_network_is_laid_as_its_kind_says(kind: Kind, tmp_path: Path) -> None:
    with topology(tmp_path, kind) as built:
        assert (built.neighbour is built.container) == kind.has_sidecar
        for network in kind.networks:
            found = addresses(built.container, network.device)
            assert found == (set() if network.device == kind.late else {*network.container})
            assert not network.router or addresses(built.router, network.device) == {*network.router}
            assert not network.neighbour or addresses(built.neighbour, network.device) == {*network.neighbour}
        built.arrive()
        assert all(addresses(built.container, one.device) == {*one.container} for one in kind.networks)
