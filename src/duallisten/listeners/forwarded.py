"""Forwarded headers: which peers a listener believes, and how it reads a request's client and scheme from the headers.

The rules are uvicorn's, for a list of proxies and for `*`:

- X-Forwarded-For is a list. Each proxy appends its peer's address (MDN, X-Forwarded-For). Read from the right, the
  first entry that is not a trusted proxy is the client. The client itself may have written all entries to the left of
  it. Where all entries are proxies, the left-most is the client.
- `*` trusts every peer and every entry, so the left-most entry is the client.
- X-Forwarded-Proto becomes the scheme where it is one of `SCHEMES`.

The user (`--client-ip-header`) or the platform says which header names the client. No other header is read for it: a
proxy writes one header and passes the others on unchanged, so a listener that read several would let the client choose.
X-Forwarded-For and `Forwarded` (RFC 7239) are lists, read by the rules above. Any other header, such as X-Real-IP, has
one address: the proxy replaces what the client sent. It is ignored where it comes twice or is not an address. With
`Forwarded` the scheme is that of the element that names the client.

Three rules are added to uvicorn's:

- An IPv4-mapped address is also looked up as its IPv4 address.
- Some platforms' routers come in on the outer interface, from addresses that the platform does not promise. There the
  connection's own addresses decide: a peer is a router where neither end has a private address (see `admission`).
  X-Forwarded-For is read from the right, past the platform's own proxies. Where all entries are such proxies, the
  right-most is the client.
- At most `MOST_PROXIES` entries are read. A header may have thousands, and its sender must not decide how long reading
  takes.

Whether a peer is believed does not change while it is connected, so the engine calls `believing` once per connection.
For a user's own protocol classes, `rewriting` asks at each request.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from functools import lru_cache
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any, NamedTuple

from duallisten.net import LONGEST_ADDRESS, IPAddress, IPNetwork, canonical, covers, join

if TYPE_CHECKING:
    from duallisten.config import Config
    from duallisten.sides import Application, Receive, Scope, Send, Side

Rewrite = Callable[[MutableMapping[str, Any]], None]
"""Sets `client` and `scheme` of a request's ASGI scope by its forwarded headers."""

SCHEMES = frozenset({"http", "https", "ws", "wss"})
"""The values of X-Forwarded-Proto that are believed."""

CLIENT_HEADER = "X-Forwarded-For"
"""The default for the header that names the client."""

MOST_PROXIES = 64
"""How many trusted entries of a list are read; real chains of proxies have a handful."""

REMEMBERED = 4096
"""Peers, and entries of X-Forwarded-For, whose decision is cached: as many as in uvicorn. An entry longer than an
address is not cached, because a client may have written it."""


class Trust(NamedTuple):
    """The peers whose forwarded headers are believed.

    Attributes:
        hosts: Addresses, networks and literals in uvicorn's form; `*` alone is every peer.
        routers: The known networks of a platform's proxies. Where given, every peer is believed, because only the
            platform's routers connect here, and addresses in these networks are skipped from the right in a list. None
            where `hosts` decides.
        client_header: The header that names the client.
    """

    hosts: tuple[str, ...] = ()
    routers: tuple[IPNetwork, ...] | None = None
    client_header: str = CLIENT_HEADER

    @property
    def has_list(self) -> bool:
        """Whether `client_header` is a list that each proxy appends to."""
        return self.client_header.lower() in ("x-forwarded-for", "forwarded")

    @property
    def peers(self) -> str:
        """The trusted peers, in words."""
        return "any peer" if self.routers is not None else ", ".join(self.hosts) or "none"

    def __str__(self) -> str:
        if self.routers is not None and self.has_list:
            outside = f" outside {join(self.routers)}" if self.routers else ""
            return f"any peer; in {self.client_header} the right-most address{outside}"
        return self.peers


def trust_of(config: Config, side: Side) -> Trust:
    """Return the peers whose forwarded headers `side` believes."""
    return proxies_of(config, side) if config.side(side).proxy_headers else Trust()


def proxies_of(config: Config, side: Side) -> Trust:
    """Return the proxies of `side`, whether their forwarded headers are read or not."""
    asked = config.side(side)
    platform = config.place.platform
    header = asked.client_ip_header or (platform.client_header if side == "public" else "") or CLIENT_HEADER
    if side == "public" and config.place.is_routed and not config.has_own_trust:
        return Trust(routers=platform.routers, client_header=header)
    return read_trust(asked.forwarded_allow_ips)._replace(client_header=header)


def read_trust(forwarded_allow_ips: list[str] | str) -> Trust:
    """Read uvicorn's `forwarded_allow_ips`: a list, or a string with commas."""
    hosts = forwarded_allow_ips.split(",") if isinstance(forwarded_allow_ips, str) else forwarded_allow_ips
    return Trust(hosts=tuple(host.strip() for host in hosts))


def believing(trust: Trust, *, only_listed: bool = False) -> Callable[[str | None], Rewrite | None]:
    """Build the function that decides whether a peer is believed.

    Args:
        trust: The peers whose forwarded headers are believed.
        only_listed: Whether a peer must be a proxy by its own address, also where `trust` believes every peer. Set
            with the PROXY protocol, where the peer's address is that of the client.

    Returns:
        A function of the host part of a peer's socket address (None for a UNIX domain socket). It returns a `Rewrite`,
        or None where the peer is not believed. It caches its decisions.
    """
    peers = TrustedPeers(trust)
    rewrite = peers.rewriter()

    @lru_cache(maxsize=REMEMBERED)
    def rewrite_for(host: str | None) -> Rewrite | None:
        is_believed = peers.lists(host) if only_listed else host in peers
        return rewrite if is_believed else None

    return rewrite_for


def rewriting(app: Application, believe: Callable[[str | None], Rewrite | None]) -> Application:
    """Wrap `app` to apply forwarded headers, for protocol classes other than the engine's."""

    def ask(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        client = scope.get("client")
        rewrite = believe(client[0] if client else None)
        if rewrite is not None:
            rewrite(scope)
        return app(scope, receive, send)

    return ask


class TrustedPeers:
    """A `Trust` with its addresses and networks parsed."""

    def __init__(self, trust: Trust) -> None:
        self._is_anyone = trust.hosts == ("*",)
        self._routers = trust.routers
        self._client_header = trust.client_header.lower().encode()
        self._addresses: set[IPAddress] = set()
        self._networks: set[IPNetwork] = set()
        self._literals: set[str] = set()  # neither addresses nor networks; compared as text
        for host in trust.hosts:
            try:
                if "/" in host:
                    self._networks.add(ip_network(host))
                else:
                    self._addresses.add(ip_address(host))
            except ValueError:
                self._literals.add(host)
        self._find_address = lru_cache(maxsize=REMEMBERED)(self._find)

    def __contains__(self, host: str | None) -> bool:
        if self._is_anyone:
            return True
        if not host:
            return False
        return self._routers is not None or self._is_proxy(host)

    def lists(self, host: str | None) -> bool:
        """Whether a peer is a proxy by its own address, not because every peer is trusted."""
        return host is not None and self._is_proxy(host)

    def rewriter(self) -> Rewrite:
        """Return the `Rewrite` for requests of a believed peer."""
        if self._client_header == b"forwarded":
            return self._rewriter_by_elements()
        return self._rewrite_by_list if self._client_header == b"x-forwarded-for" else self._rewrite_by_address

    def _read(self, scope: MutableMapping[str, Any]) -> list[bytes]:
        """Set the scheme by X-Forwarded-Proto; return the values of the header that names the client."""
        client_header = self._client_header
        scheme: bytes | None = None
        values: list[bytes] = []
        for name, value in scope["headers"]:
            if name == client_header:
                values.append(value)
            elif name == b"x-forwarded-proto":
                scheme = value
        if scheme is not None:
            _set_scheme(scope, scheme.decode("latin-1").strip())
        return values

    def _rewrite_by_list(self, scope: MutableMapping[str, Any]) -> None:
        """Set client and scheme by X-Forwarded-For and X-Forwarded-Proto."""
        if lines := self._read(scope):
            client = self.client_of(lines)
            if client[0]:
                scope["client"] = client

    def _rewrite_by_address(self, scope: MutableMapping[str, Any]) -> None:
        """Set client and scheme by a header with one address, and X-Forwarded-Proto."""
        values = self._read(scope)
        if len(values) == 1:
            client = read_entry(values[0].decode("latin-1").strip())
            if _read_ip(client[0]) is not None and 0 <= client[1] <= 65535:
                scope["client"] = client

    def _rewriter_by_elements(self) -> Rewrite:
        """Return the `Rewrite` that reads `Forwarded`."""
        from duallisten.listeners.forwarded_field import first_element, pick_element, read_element  # few need it

        def rewrite(scope: MutableMapping[str, Any]) -> None:
            lines = [value for name, value in scope["headers"] if name == b"forwarded"]
            if not lines:
                return
            if self._is_anyone:
                said = read_element(first_element(lines))
            else:
                said = pick_element(lines, self._is_proxy, MOST_PROXIES, right_most=self._routers is not None)
            if said is not None:
                _set_scheme(scope, said.proto)
                if said.client is not None:
                    scope["client"] = said.client

        return rewrite

    def client_of(self, lines: Sequence[bytes]) -> tuple[str, int]:
        """Pick the client out of X-Forwarded-For.

        Args:
            lines: The values of the header's lines, as received; at least one.

        Returns:
            The client's address and port. The port is 0 where none is given. An empty entry has an empty address.
        """
        if self._is_anyone:
            return read_entry(lines[0].partition(b",")[0].decode("latin-1").strip())
        client: tuple[str, int] | None = None
        for number, entry in enumerate(entries_from_the_right(lines), 1):
            read = read_entry(entry)
            if not self._is_proxy(read[0]):
                return read
            if client is None or self._routers is None:
                client = read
            if number == MOST_PROXIES:
                break
        assert client is not None  # noqa: S101
        return client

    def _is_proxy(self, host: str) -> bool:
        """Whether `host` is a trusted proxy, so that its entry is skipped."""
        return self._find_address(host) if len(host) <= LONGEST_ADDRESS else self._find(host)

    def _find(self, host: str) -> bool:
        address = _read_ip(host)
        if self._routers is not None:
            return address is not None and covers(self._routers, address)
        if address is None:
            return host != "" and host in self._literals
        return any(
            form in self._addresses or any(form in network for network in self._networks)
            for form in {address, canonical(address)}  # as written, and as IPv4
        )


def _set_scheme(scope: MutableMapping[str, Any], text: str) -> None:
    """Set the scheme of a request, if `text` is one of `SCHEMES`."""
    if text in SCHEMES:
        scope["scheme"] = text.replace("http", "ws") if scope["type"] == "websocket" else text


def _read_ip(host: str) -> IPAddress | None:
    """Parse an IP address as it is written; None where the text is not one."""
    if len(host) > LONGEST_ADDRESS:
        return None
    try:
        return ip_address(host)
    except ValueError:
        return None


def entries_from_the_right(lines: Sequence[bytes]) -> Iterator[str]:
    """Yield the entries of X-Forwarded-For from right to left.

    Args:
        lines: The values of the header's lines. Together they are one list (RFC 9110, 5.3).
    """
    for line in reversed(lines):
        end = len(line)
        while end >= 0:
            comma = line.rfind(b",", 0, end)
            yield line[comma + 1 : end].decode("latin-1").strip()
            end = comma


def read_entry(entry: str) -> tuple[str, int]:
    """Read an entry of X-Forwarded-For: `address`, `address:port` or `[IPv6 address]:port`.

    Returns:
        The host and the port; the port is 0 where none is given. An entry in another form is returned as the host.
    """
    if entry.startswith("["):
        host, bracket, rest = entry[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            return entry, 0
        return host, _read_port(rest[1:]) or 0
    if entry.count(":") == 1:
        host, _, text = entry.partition(":")
        port = _read_port(text)
        return (entry, 0) if port is None else (host, port)
    return entry, 0


def _read_port(text: str) -> int | None:
    """Parse a port; None where it is not a number."""
    try:
        return int(text)
    except ValueError:
        return None
