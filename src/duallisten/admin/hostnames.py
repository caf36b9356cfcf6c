"""The host names that the private side answers to, so that a browser cannot be used to attack it.

A browser inside the private network, or a developer's own, runs the scripts of any site, and its connections come from
an admitted peer. An attacker can use it in two ways:

- *DNS rebinding*: a site makes its own name resolve to a private address. The browser then treats our response as the
  site's, and the site's script reads it. `Host` reveals this: it has the site's name, and no script can change it
  (Fetch standard, 2.2.2, forbidden request headers).
- *Cross-site requests*: a page requests our address. Its script cannot read the response, but the request is carried
  out. The browser sends `Sec-Fetch-Site: cross-site` (W3C, Fetch Metadata Request Headers) if it considers the address
  trustworthy: over HTTPS, and at loopback.

So our own pages answer only if `Host` is an IP address, which cannot be rebound, `localhost` or a name below it, which
are loopback everywhere (RFC 6761, 6.3), or one of this host's names. Other names get 421 (RFC 9110, 7.4 and 15.5.20),
and cross-site requests 403. With `--private-hostname` the names are checked on the whole private side. A request
without `Host` is served: HTTP/1.0 does not require it, and browsers always send it. The engine has put the authority of
an absolute target into `Host` (RFC 9112, 3.2.2).

Invariants:
- Names are never resolved, because an attacker controls the answer of DNS.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Awaitable, Iterable
from functools import lru_cache
from socket import gethostname

from duallisten.config import Config
from duallisten.endpoints import refusal
from duallisten.logs import RateLimiter
from duallisten.net import read_address
from duallisten.sides import Application, Receive, Scope, Send

logger = logging.getLogger("uvicorn.error")

HOST = re.compile(rb"(?:\[([^\[\]]*)\]|([^\[\]:]*))(?::[0-9]*)?")
"""An IPv6 address in brackets or a name or IPv4 address, and a port (RFC 3986, 3.2.2)."""


class Hostnames:
    """A set of host names.

    Args:
        names: The known names. Case and a trailing dot are ignored.
        domains: All names below these are known, too.

    Attributes:
        knows: Whether a value of `Host`, with or without a port, is an IP address or a known name.
    """

    def __init__(self, names: Iterable[str], domains: Iterable[str] = ()) -> None:
        self._names = frozenset(map(_plain, names)) | {"localhost", ""}
        self._domains = tuple(f".{_plain(domain)}" for domain in ("localhost", *domains))
        self.knows = lru_cache(maxsize=256)(self._knows)
        self._throttle = RateLimiter()

    def _knows(self, host: bytes) -> bool:
        match = HOST.fullmatch(host)
        if match is None:
            return False
        if match[1] is not None:
            return b":" in match[1] and read_address(match[1].decode("latin-1")) is not None
        name = _plain(match[2].decode("latin-1"))
        return name in self._names or name.endswith(self._domains) or read_address(name) is not None

    def admit(self, headers: Iterable[tuple[bytes, bytes]]) -> bool:
        """Whether a request with these headers is meant for this host; logs a rate-limited warning if not."""
        for name, value in headers:
            if name == b"host" and not self.knows(value):
                if self._throttle.lets_through(time.monotonic()):
                    shown = value[:200].decode("latin-1")
                    logger.warning(
                        "Answered 421 to a private request for the host %r, which is not a known name of this host; "
                        "to allow it, add it with --private-hostname",
                        shown,
                    )
                return False
        return True

    def in_front_of(self, app: Application) -> Application:
        """Build an application that refuses requests and WebSocket handshakes for other hosts with 421."""
        admit, refuse = self.admit, refusal(421)

        def known_hosts(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
            return (app if admit(scope["headers"]) else refuse)(scope, receive, send)

        return known_hosts


def hostnames_of(config: Config) -> Hostnames:
    """Return the names of this host: its own, the platform's, and the configured ones."""
    place, options = config.place, config.options
    own = gethostname()
    names = [own, own.partition(".")[0], place.private_hostname or "", *options.private_hostnames]
    names += [name for name in options.private_host if name != "auto"]
    # Clients of the registry call a service by its name (`registry.http`).
    names.append(options.service or "-".join(part for part in (place.application, place.process_type) if part))
    domain = place.platform.private_domain
    return Hostnames(names, (domain,) if domain else ())


def _plain(name: str) -> str:
    """Return a name in lower case, without a trailing dot."""
    return name.lower().removesuffix(".")
