"""Where the instances of a service can be reached now: asked of a registry, or of DNS alone.

From a registry come the ready instances; where none is ready those that drain, for they still answer. A set that is
suddenly empty, without anyone having drained, is more often a registry that has lost its memory than a service that
died as a whole: the last set is used on for `HOLD` seconds, in which every instance has had its beat. A registry that
cannot be reached changes nothing.

From DNS come all addresses of a private name. Its records live 5 s on Scalingo; getaddrinfo tells no TTL, so that is
what an answer is used for. While the name cannot be resolved the last answer stands.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Literal, NamedTuple, Protocol

from duallisten.registry.backend import RegistryError
from duallisten.registry.entry import Instance
from duallisten.registry.finding import Registry, check_service

HOLD = 30.0
"""Seconds; the default time to live of an entry."""
DNS_TTL = 5.0
DNS_PAUSE = 1.0
"""Seconds until a name is asked for again that could not be resolved."""
FIRST_ANSWER = 5.0
"""Seconds to wait for a first answer; afterwards nobody waits for one."""
PRIVATE_PORT = 9240


class Address(NamedTuple):
    """Where one instance is reached.

    server_name: the name in its TLS certificate
    """

    scheme: Literal["http", "https"]
    host: str
    port: int
    server_name: str


class Source(Protocol):
    """Knows the addresses of one service."""

    async def addresses(self) -> tuple[Address, ...]:
        """Return those to use now, or none; raises RegistryError where that is not known, and never was."""

    async def aclose(self) -> None:
        """Stop looking."""


class RegistrySource:
    """The addresses of the instances that a registry knows; it looks on in the background once it has been asked.

    registry: which is closed with this source if it is given as a URL

    Raises UsageError and LaunchError as `Registry` does, and UsageError for what cannot be the name of a service.
    """

    def __init__(self, registry: Registry | str, service: str) -> None:
        check_service(service)
        self._owned = Registry(registry) if isinstance(registry, str) else None
        self._registry = self._owned or registry
        self._service = service
        self._task: asyncio.Task[None] | None = None
        self._known = asyncio.Event()
        self._current: tuple[Instance, ...] = ()
        self._held_until = 0.0

    async def addresses(self) -> tuple[Address, ...]:
        """Return the ready instances, or else those that drain."""
        if self._task is None:
            self._task = asyncio.create_task(self._look())
        if not self._known.is_set():
            try:
                await asyncio.wait_for(self._known.wait(), FIRST_ANSWER)
            except TimeoutError:
                raise RegistryError(f"the registry does not tell where {self._service} is") from None
        if self._held_until and asyncio.get_running_loop().time() > self._held_until:
            self._current, self._held_until = (), 0.0
        return to_use(self._current)

    async def aclose(self) -> None:
        """Stop looking, and close the registry if it was given as a URL."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait({self._task})
        if self._owned is not None:
            await self._owned.aclose()

    async def _look(self) -> None:
        assert isinstance(self._registry, Registry)  # noqa: S101
        async for instances in self._registry.watch(self._service):
            if instances or not any(one.state == "ready" for one in self._current):
                self._current, self._held_until = instances, 0.0
            else:
                self._held_until = asyncio.get_running_loop().time() + HOLD
            self._known.set()


def to_use(instances: tuple[Instance, ...]) -> tuple[Address, ...]:
    """Return the addresses of the instances that are ready, or else of those that drain."""
    for state in ("ready", "draining"):
        found = tuple(
            Address(one.scheme, one.address, one.private_port, one.host or one.address)
            for one in instances
            if one.state == state and one.private_port is not None
        )
        if found:
            return found
    return ()


class DNSSource:
    """The addresses of a private name, such as `web.ap-1234.pn-1234.private-network.internal`.

    port: the fixed private port
    """

    def __init__(self, name: str, port: int = PRIVATE_PORT, scheme: Literal["http", "https"] = "http") -> None:
        self._name = name
        self._port = port
        self._scheme: Literal["http", "https"] = scheme
        self._current: tuple[Address, ...] = ()
        self._asking: asyncio.Task[None] | None = None
        self._good_until = 0.0

    async def addresses(self) -> tuple[Address, ...]:
        """Return all addresses; raises RegistryError where the name was never resolved."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._good_until:
            if self._asking is None or self._asking.done():
                self._asking = loop.create_task(self._ask())
            if not self._current:  # of many who wait, each may give up
                await asyncio.wait({self._asking}, timeout=FIRST_ANSWER)
        if not self._current:
            raise RegistryError(f"{self._name} has no address in DNS")
        return self._current

    async def aclose(self) -> None:
        """Stop asking."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM)
        except OSError:
            self._good_until = loop.time() + DNS_PAUSE
            return
        hosts = dict.fromkeys(str(address[0]) for *_, address in found)
        server_name = self._name.rstrip(".")
        self._current = tuple(Address(self._scheme, host, self._port, server_name) for host in hosts)
        self._good_until = loop.time() + DNS_TTL
