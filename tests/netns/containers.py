"""Containers as a platform starts them: under its variables, with what its notes have a user say, and no more."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from ipaddress import ip_address, ip_interface
from typing import Any, Self

import pytest

from duallisten.config.platforms import NONE, Platform, every
from duallisten.net import covers
from tests.netns.kinds import KINDS
from tests.netns.topology import Kind, Namespace, Network, Topology
from tests.support.platforms import VARIABLES
from tests.support.running import Launched

DRAINING = 30.0
"""Seconds of grace that a user asks for where the platform has none of its own."""

PLACES = [(platform, kind) for platform in every() if platform is not NONE for kind in KINDS[platform.name]]
"""Every platform with every kind of network that it may have."""


def parameters(places: Iterable[tuple[Platform, Kind]]) -> list[Any]:
    """Make parameters `platform` and `kind` of places, each named by the platform and the number of the kind."""
    return [pytest.param(*place, id=f"{place[0].name}-{KINDS[place[0].name].index(place[1])}") for place in places]


@dataclass
class Container:
    """One on a network of its platform's kind."""

    platform: Platform
    networks: tuple[Network, ...]
    where: Namespace
    built: Topology

    @classmethod
    def of(cls, platform: Platform, built: Topology) -> Self:
        """The first one."""
        return cls(platform, built.kind.networks, built.container, built)

    def twin(self) -> Self:
        """Add one beside it, with addresses of its own."""
        networks = tuple(replace(one, container=tuple(map(_next, one.container))) for one in self.networks)
        return type(self)(self.platform, networks, self.built.add(networks), self.built)

    @property
    def public(self) -> list[str]:
        """The addresses at which the router comes in."""
        return [_bare(address) for one in self.networks if one.router for address in one.container]

    @property
    def private(self) -> list[str]:
        """The addresses at which the neighbour comes in."""
        has_sidecar = self.built.kind.has_sidecar
        return [_bare(address) for one in self.networks if one.neighbour or has_sidecar for address in one.container]

    @property
    def private_side(self) -> list[str]:
        """The addresses at which there is a private side: on some platforms not all that neighbours could come to."""
        networks = self.platform.private_networks
        found = self.private if self.platform.has_private else []
        return [address for address in found if not networks or covers(networks, ip_address(address))]

    @property
    def environ(self) -> dict[str, str]:
        """What the platform sets, and `$PORT` where it knows no port."""
        platform = self.platform
        known = next((variables for name, variables in VARIABLES if name == platform.name), None)
        found = {"DUALLISTEN_PLATFORM": platform.name} if known is None else known
        found = found | dict.fromkeys(platform.private_variables, self.private[0] if self.private else "")
        if platform.grace_variable and not platform.grace:
            found[platform.grace_variable] = f"{DRAINING:g}"
        return ({} if platform.port else {"PORT": "8000"}) | found

    @property
    def arguments(self) -> list[str]:
        """What its user has to say: which network is private, where the platform does not know."""
        if len(self.networks) == 1 or self.platform.private_networks or self.platform.private_interfaces:
            return []
        found = [ip_interface(address).network for one in self.networks if one.neighbour for address in one.container]
        return [f"--private-network={network}" for network in found]

    def launch(self, *more: str, lingers: bool = False) -> Launched:
        """Start `duallisten app:app`."""
        (self.built.folder / "app.py").write_text("from tests.netns.application import app\n")
        arguments = ("app:app", *self.arguments, *more)
        return self.built.launch(*arguments, environ=self.environ, where=self.where, lingers=lingers)

    def serve(self, *more: str, lingers: bool = False) -> tuple[Launched, int]:
        """Start it, wait until it serves what it has to, and return it with its public port."""
        server = self.launch(*more, lingers=lingers)
        if self.platform.has_private:
            server.wait_for("Serving the private side on ")
        return server, public_port(server)


def public_port(server: Launched) -> int:
    """Wait until the public side is served to the world, and return its port."""
    return int(server.wait_for(r"Serving the public side on http://0\.0\.0\.0:(\d+)")[1])


def _bare(address: str) -> str:
    return address.partition("/")[0]


def _next(address: str) -> str:
    """The second address after this one: between the two is the neighbour."""
    one = ip_interface(address)
    return f"{one.ip + 2}/{one.network.prefixlen}"
