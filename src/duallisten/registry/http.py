"""An httpx2 client for a service with many instances: it spreads the requests, and avoids instances that are down.

    async with client("billing", "redis://…") as http:      # instances from a registry
        await http.get("/invoices")
    client("web.ap-1234.pn-1234.private-network.internal")  # instances from DNS

httpx has had no release since 2024. httpx2 continues it, with the same names. If only httpx is installed, the client is
an `httpx.AsyncClient`. `httpx` in this module is the library in use: `except httpx.ConnectError`.

Retries (RFC 9110, section 9.2.2): if a connection cannot be made, nothing has been sent, so any request goes to the
next instance. If a connection breaks before the response, the instance may have carried out the request. A request is
never repeated once a response has begun, or after a timeout in waiting for one.

Requests to other hosts than the service (after a redirect, say) are sent as by any client of the library. The
certificate of an instance must be for its private host name. The Host header remains that of the URL. An address that
failed is tried last for `ASIDE` seconds. A client belongs to one event loop (asyncio).

From a registry, the ready instances are used; if none is ready, the draining ones, because they still answer. If all
instances vanish at once without draining, more often the registry has lost its data than the whole service has died.
So the last instances are used for `HOLD` more seconds, in which every instance writes its entry again. If the registry
cannot be reached, the known instances remain in use. From DNS, all addresses of a private name are used. An answer is
kept for 5 s, the TTL on Scalingo, because getaddrinfo reports no TTL. While the name cannot be resolved, the last
answer is used. In both cases only addresses in `networks` are followed (`finding`).

Invariants:
    - A request that may have reached an instance is repeated at most once, and only if its method is idempotent.
    - A request to an https:// URL is never sent without TLS.
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

if TYPE_CHECKING:  # if only httpx is installed, a type checker treats these types as Any
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
"""Seconds for which an address that failed is tried last."""
PATIENCE = 2
"""The most connect timeouts that a request may suffer before it fails."""
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
LOST = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)

HOLD = 30.0
"""Seconds; the default time to live of an entry."""
DNS_TTL = 5.0
DNS_PAUSE = 1.0
"""Seconds before a name that could not be resolved is queried again."""
FIRST_ANSWER = 5.0
"""The most seconds that a request waits for the first answer; later answers are fetched in the background."""
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
        registry: The registry, or its URL; None to use only DNS.
        port: The private port of all instances (9240), used only without a registry; registry entries have their own.
        scheme: `http` or `https`, used in the same way. With a registry, `https` excludes instances without TLS.
        networks: The networks in which instances are followed, such as `[*PRIVATE_NETWORKS, "127.0.0.0/8"]`; None for
            `PRIVATE_NETWORKS`, or those of the given `Registry`. Link-local addresses are never followed.
        options: As for `httpx2.AsyncClient`.

    Returns:
        An `httpx2.AsyncClient`, or an `httpx.AsyncClient` if only httpx is installed.

    Raises:
        UsageError: `service` cannot be the name of a service, the registry's URL or a network cannot be read, or
            `networks` are given together with a `Registry`.
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
    """Sends each request to one of the addresses of a source; the host of the request's URL is ignored.

    Args:
        source: The source of the addresses; closed with the transport.
        options: As for `httpx2.AsyncHTTPTransport`.
    """

    def __init__(self, source: Source, **options: Any) -> None:
        self._source = source
        self._inner = httpx.AsyncHTTPTransport(**options)
        self._turn = random.randrange(1 << 16)  # noqa: S311  # so that clients do not begin with the same instance
        self._aside: dict[Address, float] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to an instance, and on failure to further ones as long as that is safe.

        Raises:
            httpx.ConnectError: No instance is known, or none accepts a connection.
            httpx.TransportError: As raised by httpx2's own transport.
        """
        failure: httpx.TransportError = httpx.ConnectError(f"no instance of {request.url.host} is registered")
        patience, may_repeat = PATIENCE, request.method in IDEMPOTENT and isinstance(request.stream, httpx.ByteStream)
        for address in self._in_turn(await self._addresses()):
            if request.url.scheme == "https" != address.scheme:
                failure = httpx.ConnectError(f"an instance of {request.url.host} does not serve TLS")
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
        """Yield the addresses, beginning with another one at each request; those that failed lately come last."""
        if self._aside:
            now = asyncio.get_running_loop().time()
            self._aside = {address: until for address, until in self._aside.items() if until > now}
        good = [address for address in addresses if address not in self._aside]
        self._turn += 1
        for group in (good, [address for address in addresses if address in self._aside]):
            for number in range(len(group)):
                yield group[(self._turn + number) % len(group)]


def _to(address: Address, request: httpx.Request) -> httpx.Request:
    """Readdress a request to an instance; its headers, including `Host`, do not change."""
    url = request.url.copy_with(scheme=address.scheme, host=address.host, port=address.port)
    extensions = dict(request.extensions)
    if address.scheme == "https":
        extensions.setdefault("sni_hostname", address.server_name)
    return httpx.Request(request.method, url, headers=request.headers, stream=request.stream, extensions=extensions)


class Address(NamedTuple):
    """The address of one instance.

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
    """A source of the addresses of one service."""

    async def addresses(self) -> tuple[Address, ...]:
        """Return the addresses to use now, possibly none; raises RegistryError if they have never been known."""

    async def aclose(self) -> None:
        """Stop looking up addresses."""


class RegistrySource:
    """The addresses of the instances in a registry, which is watched in the background from the first request on.

    Args:
        registry: The registry, or its URL. If it is a URL, the registry is closed with this source.
        service: The name of the service.
        networks: As for `client`.

    Raises:
        UsageError: As for `client`.
        LaunchError: An extra is not installed.
    """

    def __init__(self, registry: Registry | str, service: str, networks: Networks = None) -> None:
        check_service(service)
        self._is_owned = isinstance(registry, str)
        if isinstance(registry, str):
            registry = Registry(registry, networks=networks)
        elif networks is not None:
            raise UsageError("networks: pass them to the Registry, which has its own")
        self._registry = registry
        self._service = service
        self._task: asyncio.Task[None] | None = None
        self._known = asyncio.Event()
        self._current: tuple[Instance, ...] = ()
        self._held_until = 0.0

    async def addresses(self) -> tuple[Address, ...]:
        """Return the ready instances, or else the draining ones; raises RegistryError if none were ever read."""
        if self._task is None:
            self._task = asyncio.create_task(self._look())
        if not self._known.is_set():
            try:
                await asyncio.wait_for(self._known.wait(), FIRST_ANSWER)
            except TimeoutError:
                text = f"the registry did not answer within {FIRST_ANSWER:g} s: no instance of {self._service} is known"
                raise RegistryError(text) from None
        if self._held_until and asyncio.get_running_loop().time() > self._held_until:
            self._current, self._held_until = (), 0.0
        return to_use(self._current)

    async def aclose(self) -> None:
        """Stop watching, and close the registry if it was given as a URL."""
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
        networks: As for `client`.

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
        """Return the addresses that are followed; raises RegistryError if there have never been any."""
        loop = asyncio.get_running_loop()
        if loop.time() >= self._good_until:
            if self._asking is None or self._asking.done():
                self._asking = loop.create_task(self._ask())
            if not self._current:  # `wait`, because awaiting the task would let a cancelled request cancel it
                await asyncio.wait({self._asking}, timeout=FIRST_ANSWER)
        if not self._current:
            within = f" in the allowed networks ({join(self._networks)})" if self._has_others else ""
            raise RegistryError(f"{self._name} has no address in DNS{within}")
        return self._current

    async def aclose(self) -> None:
        """Stop querying DNS."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.wait({self._asking})

    async def _ask(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            found = await loop.getaddrinfo(self._name, self._port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):  # UnicodeError: the name is not valid in DNS
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
