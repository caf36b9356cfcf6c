"""`Registry`: who is there, and who comes and goes, for those who look for a service.

`instances` answers once, or raises. `watch` listens for changes and asks every `poll` seconds all the same, for an
instance that died tells nobody; what the database tells only makes it ask sooner. Entries that cannot be read are
skipped, with one warning for each registry.

Invariants:
    - `watch` never ends and never raises. A registry that cannot be reached says nothing about the instances: the set
      stays as it was last seen, with one warning, until it can be reached again.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncGenerator

from duallisten.errors import UsageError
from duallisten.registry.backend import RegistryError, Stored, Wake
from duallisten.registry.entry import BadEntry, Instance, from_json, is_service
from duallisten.registry.link import Link, pauses

logger = logging.getLogger("duallisten.registry")

LONGEST_PAUSE = 30.0
"""Seconds at most until a registry that cannot be reached is asked again."""

GATHER = 0.05
"""Seconds at most between a change and asking for it: changes that come together are seen together, and by lot, so that
a thousand who listen do not ask within the same millisecond."""


class Registry:
    """The registry at a URL: `async with Registry(url) as registry`. It belongs to one event loop.

    Args:
        url: `redis://`, `rediss://`, `postgresql://`, or another with an entry point.
        timeout: Seconds that the registry may take to answer.
        poll: Seconds between two looks of `watch` where no change is told.

    Raises:
        UsageError: The URL cannot be read. The message has no credentials in it.
        LaunchError: An extra is not installed.
    """

    def __init__(self, url: str, *, timeout: float = 3.0, poll: float = 5.0) -> None:
        self._link = Link(url, timeout)
        self._link.prepare()  # imports what it takes now, not within the first request
        self._timeout = timeout
        self._poll = poll
        self._has_warned_of_entries = False

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
        return tuple(sorted(self._readable(found)))

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

    def _readable(self, found: list[Stored]) -> list[Instance]:
        instances: list[Instance] = []
        for stored in found:
            try:
                instance = from_json(stored.body)
                if (instance.service, instance.id) != stored[:2]:
                    raise BadEntry("its service and id are not those that it is kept under")
            except BadEntry as error:
                if not self._has_warned_of_entries:
                    logger.warning(
                        "Skipped an entry of the registry; further ones are skipped without a line: %s", error
                    )
                self._has_warned_of_entries = True
            else:
                instances.append(instance)
        return instances


def check_service(service: str | None) -> None:
    """Check whether this can be the name of a service; raises UsageError."""
    if service is not None and not is_service(service):
        raise UsageError(f"{service!r} cannot be the name of a service: letters, digits, `.`, `_` and `-` can")
