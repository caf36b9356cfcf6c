"""An httpx client for a service of many instances: it spreads the requests, and goes round those that are gone.

    async with client("billing", "redis://…") as http:      # whom the registry knows
        await http.get("/invoices")
    client("web.ap-1234.pn-1234.private-network.internal")  # whom DNS knows

What may be sent again, and what not (RFC 9110, section 9.2.2): a connection that was not made has carried nothing, so
any request goes to the next instance. A connection that ends before the answer may have carried a request to its end,
so only an idempotent method is sent again, once. Nothing is sent again after the first of an answer, or after a timeout
in waiting for it.

What goes to other hosts than the service (a redirect, say) goes there as with any client of httpx. What is asked for
with https:// never goes to an instance without TLS; its certificate must be for its private host name. The Host header
stays what the URL says. An address that failed is asked last for `ASIDE` seconds. A client belongs to one event loop
(asyncio).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from typing import Any, Literal

import httpx

from duallisten.errors import LaunchError
from duallisten.registry.backend import RegistryError
from duallisten.registry.finding import Registry
from duallisten.registry.resolver import PRIVATE_PORT, Address, DNSSource, RegistrySource, Source

ASIDE = 5.0
"""Seconds after which a failed address is taken for any other again."""
PATIENCE = 2
"""So many addresses may let a request wait for a connection until it times out."""
IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"})
LOST = (httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


def client(
    service: str,
    registry: Registry | str | None = None,
    *,
    port: int = PRIVATE_PORT,
    scheme: Literal["http", "https"] = "http",
    **options: Any,
) -> httpx.AsyncClient:
    """Build a client whose base URL is the service.

    service: its name in the registry; without a registry, its host name
    registry: or the registry's URL
    port, scheme: without a registry, which knows them
    options: as of `httpx.AsyncClient`
    """
    source: Source = DNSSource(service, port, scheme) if registry is None else RegistrySource(registry, service)
    own = {name: options[name] for name in ("limits", "verify", "cert", "trust_env", "http2") if name in options}
    mounts = {**options.pop("mounts", {}), f"all://{service.rstrip('.').lower()}": Transport(source, **own)}
    return httpx.AsyncClient(mounts=mounts, **{"base_url": f"{scheme}://{service.rstrip('.')}", **options})


class Transport(httpx.AsyncBaseTransport):
    """Sends each request to one of the addresses that a source knows, whatever the host of its URL.

    source: is closed with the transport
    options: as of `httpx.AsyncHTTPTransport`
    """

    def __init__(self, source: Source, **options: Any) -> None:
        self._source = source
        self._inner = httpx.AsyncHTTPTransport(**options)
        self._turn = random.randrange(1 << 16)  # noqa: S311  # so that clients do not begin with the same instance
        self._aside: dict[Address, float] = {}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request; raises httpx.ConnectError where no instance is known or none takes a connection."""
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
        except (RegistryError, LaunchError) as error:
            raise httpx.ConnectError(str(error)) from None

    def _in_turn(self, addresses: tuple[Address, ...]) -> Iterator[Address]:
        """Begin with the next one at each request; those that have failed lately come last."""
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
