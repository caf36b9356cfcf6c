"""Whose forwarded headers a listener believes, and which entry of X-Forwarded-For is the client.

uvicorn's middleware reads the headers; this module only gives it another answer to "is this peer trusted?":

- An IPv4-mapped address is looked up as its IPv4 address.
- On a platform whose routers come in on the outer interface from addresses that it does not promise, the connection's
  own addresses are the evidence: whoever comes in there with no private address at either end (`admission` sees to
  that) is a router. Its X-Forwarded-For is still read from the right, past the platform's own proxies, for all
  further to the left was written by the client.

The left-most entry is taken only where uvicorn takes it: when the user trusts `*`, or each listed proxy in turn.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple, Protocol

from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from duallisten.network import IPNetwork, covers, join, read_address


class TrustedHosts(Protocol):
    """What uvicorn's middleware asks of its `trusted_hosts`."""

    always_trust: bool

    def __contains__(self, host: str | None) -> bool: ...

    def get_trusted_client_address(self, x_forwarded_for: str) -> tuple[str, int]: ...  # noqa: D102


class Trust(NamedTuple):
    """Whose forwarded headers are believed.

    hosts: addresses, networks and literals in uvicorn's form
    routers: a platform's proxies; where given, every peer is believed, for only the platform's routers come in here,
        and these are skipped from the right in X-Forwarded-For
    """

    hosts: tuple[str, ...] = ()
    routers: tuple[IPNetwork, ...] = ()

    def __str__(self) -> str:
        if self.routers:
            return f"any peer; in X-Forwarded-For the right-most address outside {join(self.routers)}"
        return ", ".join(self.hosts) or "none"


def read_trust(forwarded_allow_ips: list[str] | str) -> Trust:
    """Read uvicorn's `forwarded_allow_ips`: a list, or a text with commas."""
    hosts = forwarded_allow_ips.split(",") if isinstance(forwarded_allow_ips, str) else forwarded_allow_ips
    return Trust(hosts=tuple(host.strip() for host in hosts))


class TrustedPeers:
    """A `Trust` in the form that uvicorn's middleware asks, built on uvicorn's own `trusted_hosts`."""

    def __init__(self, trust: Trust, listed: TrustedHosts) -> None:
        self.always_trust = listed.always_trust
        self._routers = trust.routers
        self._listed = listed

    def __contains__(self, host: str | None) -> bool:
        if not host:
            return False
        return bool(self._routers) or self._is_proxy(host)

    def get_trusted_client_address(self, x_forwarded_for: str) -> tuple[str, int]:
        """Pick the client out of X-Forwarded-For: (address, port), port 0 where none is given."""
        if self.always_trust:
            return self._listed.get_trusted_client_address(x_forwarded_for)
        # uvicorn reads one entry as (address, port); which of several entries counts is decided here.
        entries = [self._listed.get_trusted_client_address(entry) for entry in x_forwarded_for.split(",")]
        for host, port in reversed(entries):
            if not self._is_proxy(host):
                return host, port
        return entries[-1] if self._routers else entries[0]

    def _is_proxy(self, host: str) -> bool:
        address = read_address(host)
        if self._routers:
            return address is not None and covers(self._routers, address)
        return host in self._listed or (address is not None and str(address) in self._listed)


def believe(middleware: ProxyHeadersMiddleware, trust: Trust) -> None:
    """Make uvicorn's middleware believe exactly whom `trust` names.

    The middleware asks once a request, of a socket's address, with `in`, which Python looks up in the class: a class of
    its own answers from the cache without a step of Python.
    """
    listed: TrustedHosts = middleware.trusted_hosts
    cached = lru_cache(maxsize=4096)(TrustedPeers(trust, listed).__contains__)
    answering = type("CachedTrustedPeers", (TrustedPeers,), {"__contains__": staticmethod(cached)})
    middleware.trusted_hosts = answering(trust, listed)
