"""`Registry`: who is there, and who comes and goes, for those who look for a service.

`instances` answers once, or raises. `watch` listens for changes and asks every `poll` seconds all the same, for an
instance that died tells nobody; what the database tells only makes it ask sooner.

Whoever may write to the database may write an entry. So an entry leads only into `networks`, by default the private
ones: not to this machine itself, nor to what a cloud has for it. An entry that leads elsewhere, or cannot be read, is
skipped, with one warning for each kind, and spoils no other.

Invariants:
    - `watch` never ends and never raises. A registry that cannot be reached says nothing about the instances: the set
      stays as it was last seen, with one warning, until it can be reached again.
    - No address in `NEVER` is followed, whatever `networks` says.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Iterable, Iterator

from duallisten.errors import UsageError
from duallisten.net import IPNetwork, covers, join, parse_network, read_address
from duallisten.registry.backend import RegistryError, Stored, Wake
from duallisten.registry.entry import BadEntry, Instance, from_json, is_service
from duallisten.registry.link import Link, pauses

logger = logging.getLogger("duallisten.registry")

LONGEST_PAUSE = 30.0
"""Seconds at most until a registry that cannot be reached is asked again."""

GATHER = 0.05
"""Seconds at most between a change and asking for it: changes that come together are seen together, and by lot, so that
a thousand who listen do not ask within the same millisecond."""

PRIVATE_NETWORKS: tuple[IPNetwork, ...] = tuple(
    map(parse_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7"))
)
"""The networks in which instances are followed by default: RFC 1918; RFC 6598, which overlay networks use; RFC 4193."""

NEVER: tuple[IPNetwork, ...] = tuple(
    map(parse_network, ("169.254.0.0/16", "fe80::/10", "100.100.100.200", "fd00:ec2::/32", "fd20:ce::254"))
)
"""Link-local addresses (RFC 3927; RFC 4291, 2.5.6), and where else clouds tell a machine its credentials: Alibaba
Cloud, AWS and Google Cloud have addresses for that in private networks."""


class Registry:
    """The registry at a URL: `async with Registry(url) as registry`. It belongs to one event loop.

    Args:
        url: `redis://`, `rediss://`, `postgresql://`, or another with an entry point.
        timeout: Seconds that the registry may take to answer.
        poll: Seconds between two looks of `watch` where no change is told.
        networks: The networks in which instances are followed, such as `[*PRIVATE_NETWORKS, "127.0.0.0/8"]`. An entry
            with an address elsewhere is skipped. Link-local addresses are never followed.

    Raises:
        UsageError: The URL or a network cannot be read. The message has no credentials in it.
        LaunchError: An extra is not installed.
    """

    def __init__(
        self,
        url: str,
        *,
        timeout: float = 3.0,
        poll: float = 5.0,
        networks: Iterable[IPNetwork | str] = PRIVATE_NETWORKS,
    ) -> None:
        self._networks = read_networks(networks)
        self._link = Link(url, timeout)
        self._link.prepare()  # imports what it takes now, not within the first request
        self._timeout = timeout
        self._poll = poll
        self._warned_of: set[str] = set()

    async def __aenter__(self) -> Registry:
        return self

    async def __aexit__(self, *raised: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connections."""
        await self._link.aclose()

    async def instances(self, service: str | None = None) -> tuple[Instance, ...]:
        """Return the instances of a service, in every state, sorted.

        Args:
            service: Its name; None for all services.

        Raises:
            RegistryError: The registry cannot be asked.
            UsageError: This cannot be the name of a service.
        """
        check_service(service)
        found = await self._link.ask(lambda backend: backend.read(service))
        return tuple(sorted(self._followed(found), key=lambda instance: instance[:2]))

    async def watch(self, service: str | None = None) -> AsyncGenerator[tuple[Instance, ...]]:
        """Yield the instances of a service, now and whenever they are others than before.

        Args:
            service: Its name; None for all services.

        Raises:
            UsageError: This cannot be the name of a service. Nothing else is raised.
        """
        seen: tuple[Instance, ...] | None = None
        wake: Wake | None = None
        tries, is_lost = pauses(LONGEST_PAUSE), False
        try:
            while True:
                try:
                    if wake is None:
                        wake = await self._link.ask(lambda backend: backend.listen(service))
                    current = await self.instances(service)
                except RegistryError as error:
                    if not is_lost:
                        logger.warning(
                            "Cannot look for %s: %s; using the last known instances", service or "services", error
                        )
                    self._hang_up(wake)
                    wake, is_lost = None, True
                    await asyncio.sleep(next(tries))
                    continue
                tries, is_lost = pauses(LONGEST_PAUSE), False
                if current != seen:
                    seen = current
                    yield current
                if not await self._wait(wake):
                    self._hang_up(wake)
                    wake = None
                    await asyncio.sleep(next(tries))
        finally:
            self._hang_up(wake)

    async def _wait(self, wake: Wake) -> bool:
        """Wait until it is time to ask again; return whether `wake` is still good for it."""
        try:
            await self._link.within(self._poll + self._timeout, wake.wait(self._poll))
        except Exception:
            return False
        finally:
            await asyncio.sleep(random.uniform(0, GATHER))  # noqa: S311
        return True

    def _hang_up(self, wake: Wake | None) -> None:
        if wake is not None:
            self._link.leave(wake.aclose())

    def _followed(self, found: Iterable[Stored]) -> Iterator[Instance]:
        for stored in found:
            try:
                instance = from_json(stored.body)
                if (instance.service, instance.id) != stored[:2]:
                    raise BadEntry("its service and id are not those that it is kept under")
            except BadEntry as error:
                self._warn_once("Skipped an entry of the registry; further ones are skipped without a line: %s", error)
                continue
            if is_followed(instance.address, self._networks):
                yield instance
            else:
                self._warn_once(
                    "Skipped %s of %s in the registry: its address %s is not in the networks that are followed (%s; "
                    "`networks=` sets them); further ones are skipped without a line",
                    *(instance.id, instance.service, instance.address, join(self._networks)),
                )

    def _warn_once(self, message: str, *arguments: object) -> None:
        if message not in self._warned_of:
            self._warned_of.add(message)
            logger.warning(message, *arguments)


def read_networks(networks: Iterable[IPNetwork | str]) -> tuple[IPNetwork, ...]:
    """Read networks in CIDR form; raises UsageError."""
    read: list[IPNetwork] = []
    for network in [networks] if isinstance(networks, str) else networks:
        try:
            read.append(parse_network(network))
        except ValueError as error:
            raise UsageError(f"networks: {network} {error}") from None
    return tuple(read)


def is_followed(address: str, networks: Iterable[IPNetwork]) -> bool:
    """Whether requests may go to an IP address."""
    found = read_address(address)
    return found is not None and covers(networks, found) and not covers(NEVER, found)


def check_service(service: str | None) -> None:
    """Check whether this can be the name of a service; raises UsageError."""
    if service is not None and not is_service(service):
        raise UsageError(f"{service!r} cannot be the name of a service: letters, digits, `.`, `_` and `-` can")
