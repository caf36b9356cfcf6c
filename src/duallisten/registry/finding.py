"""`Registry`: looks up the instances of a service, once or continuously.

`instances` reads once, or raises. `watch` reads every `poll` seconds, because an instance that is killed reports
nothing; if the database reports a change, `watch` reads sooner.

Any client of the database may write an entry with any address. Only addresses in `networks` are followed, by default
private ones, without loopback addresses and the metadata services of clouds. An entry with another address, or one that
cannot be read, is skipped. Each of the two cases is logged once.

Invariants:
    - `watch` never ends and never raises. While the registry cannot be reached, the last known instances remain valid,
      and one warning is logged.
    - A broken entry affects no other entry.
    - No address in `NEVER` is followed, whatever `networks` says.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator, Iterable, Iterator

from duallisten.errors import UsageError
from duallisten.net import PRIVATE_NETWORKS, IPNetwork, covers, join, parse_network, read_address
from duallisten.registry.backend import RegistryError, Stored, Wake
from duallisten.registry.entry import BadEntry, Instance, from_json, is_service
from duallisten.registry.link import Link, pauses

logger = logging.getLogger("duallisten.registry")

LONGEST_PAUSE = 30.0
"""The most seconds between two attempts to reach the registry."""

GATHER = 0.05
"""The most seconds between a change and reading it, drawn at random: changes at about the same time are read together,
and a thousand clients do not read within the same millisecond."""

Networks = Iterable[IPNetwork | str] | None
"""Networks, as objects or in CIDR form; None for `PRIVATE_NETWORKS`."""

NEVER: tuple[IPNetwork, ...] = tuple(
    map(parse_network, ("169.254.0.0/16", "fe80::/10", "100.100.100.200", "fd00:ec2::/32", "fd20:ce::254"))
)
"""Link-local addresses (RFC 3927; RFC 4291, 2.5.6), and the metadata services of Alibaba Cloud, AWS and Google Cloud in
private networks, which hand out the machine's credentials."""


class Registry:
    """The registry at a URL: `async with Registry(url) as registry`. It belongs to one event loop.

    Args:
        url: `redis://`, `rediss://`, `postgresql://`, or a scheme with an entry point.
        timeout: Seconds that the registry may take to answer.
        poll: Seconds between two reads of `watch` if no change is reported.
        networks: The networks in which instances are followed, such as `[*PRIVATE_NETWORKS, "127.0.0.0/8"]`; None for
            `PRIVATE_NETWORKS`. Entries with other addresses are skipped. Link-local ones are never followed.

    Raises:
        UsageError: The URL or a network cannot be read. The message contains no credentials.
        LaunchError: An extra is not installed.
    """

    def __init__(self, url: str, *, timeout: float = 3.0, poll: float = 5.0, networks: Networks = None) -> None:
        self._networks = read_networks(networks)
        self._link = Link(url, timeout)
        self._link.prepare()  # imports the database's library now, not during the first request
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
        """Return the instances of a service, in every state.

        Args:
            service: Its name; None for all services.

        Returns:
            The instances, sorted by service and id.

        Raises:
            RegistryError: The registry cannot be reached or used.
            UsageError: `service` cannot be the name of a service.
        """
        check_service(service)
        found = await self._link.ask(lambda backend: backend.read(service))
        return tuple(sorted(self._followed(found), key=lambda instance: instance[:2]))

    async def watch(self, service: str | None = None) -> AsyncGenerator[tuple[Instance, ...]]:
        """Yield the instances of a service now, and again whenever they have changed.

        Args:
            service: Its name; None for all services.

        Yields:
            The instances, sorted by service and id.

        Raises:
            UsageError: `service` cannot be the name of a service. Nothing else is raised.
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
                            "Lookup of %s failed: %s; using the last known instances", service or "services", error
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
        """Wait until the next read is due; return whether `wake` can be used again."""
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
                    raise BadEntry("service and id in the entry differ from those of its key")
            except BadEntry as error:
                self._warn_once("Ignoring an invalid entry in the registry: %s; later ones are not logged", error)
                continue
            if is_followed(instance.address, self._networks):
                yield instance
            else:
                self._warn_once(
                    "Ignoring instance %s of %s in the registry: its address %s is not in the allowed networks (%s; "
                    "set `networks=`); later ones are not logged",
                    *(instance.id, instance.service, instance.address, join(self._networks)),
                )

    def _warn_once(self, message: str, *arguments: object) -> None:
        if message not in self._warned_of:
            self._warned_of.add(message)
            logger.warning(message, *arguments)


def read_networks(networks: Networks) -> tuple[IPNetwork, ...]:
    """Parse networks; raises UsageError."""
    if networks is None:
        return PRIVATE_NETWORKS
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
    """Raise UsageError if `service` cannot be the name of a service."""
    if service is not None and not is_service(service):
        raise UsageError(f"{service!r} is not a valid service name: only letters, digits, `.`, `_` and `-` are allowed")
