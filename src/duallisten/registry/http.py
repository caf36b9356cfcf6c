"""An httpx2 client for a service with many instances: it spreads the requests, and goes around instances that are gone.

    async with client("billing", "redis://…") as http:      # instances from a registry
        await http.get("/invoices")
    client("web.ap-1234.pn-1234.private-network.internal")  # instances from DNS

httpx has had no release since 2024, and httpx2 carries it on, with the same names. Where only httpx is installed, the
client is one of httpx. `httpx` of this module is the library in use: `except httpx.ConnectError`.

What is sent again (RFC 9110, section 9.2.2): where no connection could be made nothing has been sent, so any request
goes to the next instance. Where a connection ends before the answer, the request may have been carried out. Nothing is
sent again once an answer has begun, or after a timeout in waiting for one.

Requests to other hosts than the service (after a redirect, say) are sent as by any client of the library. The
certificate of an instance must be for its private host name. The Host header stays that of the URL. An address that
failed comes last for `ASIDE` seconds. A client belongs to one event loop (asyncio).

A registry gives the ready instances; where none is ready the draining ones, for they still answer. A set that is
suddenly empty, though no instance drained, is more often a registry that has lost its memory than a service that died
as a whole: the last set is used for `HOLD` seconds more, in which every instance writes its entry again. A registry
that cannot be reached changes nothing. DNS gives all addresses of a private name. An answer is used for 5 s, the TTL on
Scalingo, for getaddrinfo has none; while the name cannot be resolved the last answer is used. From either, only
addresses in `networks` are followed (`finding`).

Invariants:
    - A request that may have reached an instance is sent again only if its method is idempotent, and once.
    - Nothing is sent without TLS that was asked for with https://.
"""

from __future__ import annotations

import asyncio
import random
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol

from duallisten.errors import UsageError
from duallisten.net import join
from duallisten.registry.backend import RegistryError
from duallisten.registry.entry import Instance
from duallisten.registry.finding import Networks, Registry, check_service, is_followed, read_networks

if TYPE_CHECKING:  # where only httpx is installed, a type checker takes its types for Any
    import httpx2 as httpx
else:
    try:
        import httpx2 as httpx
    except ModuleNotFoundError:
        try:
            import httpx
        except ModuleNotFoundError:
            message = "duallisten.registry.http needs httpx2, which is not installed: pip install 'duallisten[http]'"
            raise ModuleNotFoundError(message, name="httpx2") from None

__all__ = ["Address", "DNSSource", "RegistrySource", "Source", "Transport", "client", "httpx"]

ASIDE = 5.0
"""Seconds after which an address that failed is treated like any other again."""
PATIENCE = 2
"""How many addresses may let a request wait for a connection until that times out."""
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
LOST = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)

HOLD = 30.0
"""Seconds; the default time to live of an entry."""
DNS_TTL = 5.0
DNS_PAUSE = 1.0
"""Seconds until a name is asked for again that could not be resolved."""
FIRST_ANSWER = 5.0
"""Seconds to wait for a first answer; afterwards nobody waits for one."""
PRIVATE_PORT = 9240


def client(
    service: str,
    registry: Registry | str | None = None,
    *,
    port: int = PRIVATE_PORT,
    scheme: Literal["http", "https"] = "http",
    networks: Networks = None,
    **options: Any,
) -> httpx.AsyncClient:
    """Build a client whose base URL is the service.

    Args:
        service: Its name in the registry; without a registry, its host name.
        registry: The registry, or its URL; None to ask DNS alone.
        port: The private port of all instances, without a registry (9240); entries of a registry have theirs.
        scheme: `http` or `https`, likewise. With a registry, `https` leaves out instances without TLS.
        networks: The networks in which instances are followed, such as `[*PRIVATE_NETWORKS, "127.0.0.0/8"]`; None for
            `PRIVATE_NETWORKS`, or those of the `Registry` that is given. Link-local addresses are never followed.
        options: As of `httpx2.AsyncClient`.

    Returns:
        An `httpx2.AsyncClient`, or an `httpx.AsyncClient` where only that is installed.

    Raises:
        UsageError: This cannot be the name of a service, the registry's URL or a network cannot be read, or there are
            `networks` beside a `Registry`.
        LaunchError: An extra is not installed.
    """
    source: Source
    if registry is None:
        source = DNSSource(service, port, scheme, networks)
    else:
        source = RegistrySource(registry, service, networks)
    own = {
        name: options[name] for name in ("limits", "verify", "cert", "trust_env", "http1", "http2") if name in options
    }
    mounts = {**options.pop("mounts", {}), f"all://{service.rstrip('.').lower()}": Transport(source, **own)}
    return httpx.AsyncClient(mounts=mounts, **{"base_url": f"{scheme}://{service.rstrip('.')}", **options})


class Transport(httpx.AsyncBaseTransport):
    """Sends each request to one of the addresses of a source, whatever the host of its URL.

    Args:
        source: Where the addresses come from; closed with the transport.
        options: As of `httpx2.AsyncHTTPTransport`.
    """

    def __init__(self, source: Source, **options: Any) -> None:
        self._source = source
        self._inner = httpx.AsyncHTTPTransport(**options)
        self._turn = random.randrange(1 << 16)  # noqa: S311  # so that clients do not begin with the same instance
        self._aside: dict[Address, float] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to an instance, and to others while that does no harm.

        Raises:
            httpx.ConnectError: No instance is known, or none takes a connection.
            httpx.TransportError: As of httpx2's own transport.
        """
        failure: httpx.TransportError = httpx.ConnectError(f"no instance of {request.url.host} is known")
        patience, may_repeat = PATIENCE, request.method in IDEMPOTENT and isinstance(request.stream, httpx.ByteStream)
        for address in self._in_turn(await self._addresses()):
            if request.url.scheme == "https" != address.scheme:
                failure = httpx.ConnectError(f"an instance of {request.url.host} has no TLS")
                continue
            try:
                return await self._inner.handle_async_request(_to(address, request))
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                failure = error
                patience -= isinstance(error, httpx.ConnectTimeout)
            except LOST as error:
                if not may_repeat:
                    raise
                failure, may_repeat = error, False
            self._aside[address] = asyncio.get_running_loop().time() + ASIDE
            if patience <= 0:
                break
        raise failure

    async def aclose(self) -> None:
        """Close all connections, and the source."""
        await self._source.aclose()
        await self._inner.aclose()

    async def _addresses(self) -> tuple[Address, ...]:
        try:
            return await self._source.addresses()
        except RegistryError as error:
            raise httpx.ConnectError(str(error)) from None

    def _in_turn(self, addresses: tuple[Address, ...]) -> Iterator[Address]:
        """Begin with the next address at each request; those that failed lately come last."""
        if self._aside:
            now = asyncio.get_running_loop().time()
            self._aside = {address: until for address, until in self._aside.items() if until > now}
        good = [address for address in addresses if address not in self._aside]
        self._turn += 1
        for group in (good, [address for address in addresses if address in self._aside]):
            for number in range(len(group)):
                yield group[(self._turn + number) % len(group)]


def _to(address: Address, request: httpx.Request) -> httpx.Request:
    """Address a request to an instance; its headers, `Host` among them, stay as they are."""
    url = request.url.copy_with(scheme=address.scheme, host=address.host, port=address.port)
    extensions = dict(request.extensions)
    if address.scheme == "https":
        extensions.setdefault("sni_hostname", address.server_name)
    return httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=extensions)


class Address(NamedTuple):
    """Where one instance is reached.

    Attributes:
        scheme: `http` or `https`.
        host: Its IP address.
        port: The port of its private listener.
        server_name: The name in its TLS certificate.
    """

    scheme: Literal["http", "https"]
    host: str
    port: int
    server_name: str


class Source(Protocol):
    """Where the addresses of one service come from."""

    async def addresses(self) -> tuple[Address, ...]:
        """Return those to use now, or none; raises RegistryError where that is not known, and never was."""

    async def aclose(self) -> None:
        """Stop looking."""


class RegistrySource:
    """The addresses of the instances in a registry, which is watched in the background from the first request on.

    Args:
        registry: The registry, or its URL; where it is given as a URL, it is closed with this source.
        service: The name of the service.
        networks: As of `client`.

    Raises:
        UsageError: As of `client`.
        LaunchError: An extra is not installed.
    """

    def __init__(self, registry: Registry | str, service: str, networks: Networks = None) -> None:
        check_service(service)
        self._is_owned = isinstance(registry, str)
        if isinstance(registry, str):
            registry = Registry(registry, networks=networks)
        elif networks is not None:
            raise UsageError("networks: this Registry has its own: give them to that")
        self._registry = registry
        self._service = service
        self._task: asyncio.Task[None] | None = None
        self._known = asyncio.Event()
        self._current: tuple[Instance, ...] = ()
        self._held_until = 0.0

    async def addresses(self) -> tuple[Address, ...]:
        """Return the ready instances, or else the draining ones; raises RegistryError where none were ever read."""
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
        if self._is_owned:
            await self._registry.aclose()

    async def _look(self) -> None:
        async for instances in self._registry.watch(self._service):
            if instances or not any(one.state == "ready" for one in self._current):
                self._current, self._held_until = instances, 0.0
            else:
                self._held_until = asyncio.get_running_loop().time() + HOLD
            self._known.set()


def to_use(instances: tuple[Instance, ...]) -> tuple[Address, ...]:
    """Return the addresses of the ready instances, or else of the draining ones."""
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

    Args:
        name: The host name.
        port: The private port of all instances.
        scheme: `http` or `https`.
        networks: As of `client`.

    Raises:
        UsageError: A network cannot be read.
    """

    def __init__(
        self,
        name: str,
        port: int = PRIVATE_PORT,
        scheme: Literal["http", "https"] = "http",
        networks: Networks = None,
    ) -> None:
        self._networks = read_networks(networks)
        self._has_others = False
        self._name = name
        self._port = port
        self._scheme: Literal["http", "https"] = scheme
        self._current: tuple[Address, ...] = ()
        self._asking: asyncio.Task[None] | None = None
        self._good_until = 0.0

    async def addresses(self) -> tuple[Address, ...]:
        """Return those that are followed; raises RegistryError where there never were any."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._good_until:
            if self._asking is None or self._asking.done():
                self._asking = loop.create_task(self._ask())
            if not self._current:  # wait, not await: a request that is cancelled does not cancel it for others
                await asyncio.wait({self._asking}, timeout=FIRST_ANSWER)
        if not self._current:
            within = f" in the networks that are followed ({join(self._networks)})" if self._has_others else ""
            raise RegistryError(f"{self._name} has no address in DNS{within}")
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
        except (OSError, UnicodeError):  # the latter for a name that cannot be one in DNS
            found = []
        all_hosts = dict.fromkeys(str(address[0]) for *_, address in found)
        hosts = [host for host in all_hosts if is_followed(host, self._networks)]
        if not hosts:
            self._has_others = bool(found)
            self._good_until = loop.time() + DNS_PAUSE
            return
        server_name = self._name.rstrip(".")
        self._current = tuple(Address(self._scheme, host, self._port, server_name) for host in hosts)
        self._good_until = loop.time() + DNS_TTL
