"""What a back end of the registry does, how one is chosen, and what is said of its errors.

A back end keeps entries in a database: one for each id of a service, with an owner (drawn by lot at each launch), a
claim (which of two owners of one id is the later one) and the number of the write. All that decides is `put`, which
the database carries out in one step, by its own clock:

- **The later registration of an id wins.** One without a claim gets a claim above the one stored. So a container that
  takes the place of another under the same id is not thrown out by it, whichever writes last.
- **A beat brings back what was lost** (expired, evicted, a database that has lost its memory), with the claim that it
  had; where a later claim has come meanwhile, it is refused.
- **A beat never brings back what was deregistered.** A deregistration leaves a tombstone, which refuses its owner's
  writes.
- **Writes that overtake each other do no harm**: of one owner only one with a higher number than the one stored counts.
  A beat that the network held up changes nothing once `draining` has been written.
- **Only the owner deregisters.** To others' entries a deregistration does nothing.

A back end of one's own is an entry point of the group `duallisten.registry`, named after the URL's scheme: a callable
that takes the URL, connects to nothing yet, and gives a `Backend`. Schemes that are built in cannot be replaced.

Messages of databases and their libraries are never repeated: some contain the host, the user or the whole URL. `reason`
looks for known words in them, and says what they mean in words of its own.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast
from urllib.parse import urlsplit

from duallisten.errors import DuallistenError, LaunchError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "duallisten.registry"

TOMBSTONE = 300.0
"""Seconds that a deregistration is remembered: longer than any write can be under way."""


class RegistryError(DuallistenError):
    """The registry cannot be asked; the message has no credentials in it."""


class Write(NamedTuple):
    """A registration, a beat, a change of state or a deregistration.

    owner: drawn by lot at each launch
    claim: what `put` has given this owner; 0 for a registration
    number: higher with each write of this owner
    lasts: seconds until the entry expires
    body: the entry; empty for a deregistration
    """

    service: str
    id: str
    owner: str
    claim: int
    number: int
    lasts: float
    body: str


class Stored(NamedTuple):
    """An entry as it is kept, whoever has written it."""

    service: str
    id: str
    body: str


class Wake(Protocol):
    """Tells that something may have changed."""

    async def wait(self, seconds: float) -> None:
        """Wait for a change, for `seconds` at most; may come back for nothing."""

    async def aclose(self) -> None:
        """Stop listening."""


class Backend(Protocol):
    """A database that keeps entries. It may raise anything, and is then closed and made anew."""

    async def put(self, write: Write) -> int | None:
        """Write if it counts, and give the claim; None where it does not. See the module's rules."""

    async def read(self, service: str | None) -> list[Stored]:
        """Return what has not expired of one service, or of all."""

    async def listen(self, service: str | None) -> Wake:
        """Begin to listen for changes of one service, or of all; `Polling` for a database that tells of none."""

    async def aclose(self) -> None:
        """Close the connections; may be called while a question is being cancelled, and then waits for that."""


class Polling:
    """A wake-up that never comes early."""

    async def wait(self, seconds: float) -> None:
        """Wait `seconds`."""
        await asyncio.sleep(seconds)

    async def aclose(self) -> None:
        """Do nothing."""


class _Kind(NamedTuple):
    module: str
    package: str
    extra: str


_REDIS = _Kind("duallisten.registry.redis", "redis", "redis")
_POSTGRES = _Kind("duallisten.registry.postgres", "psycopg", "postgres")
_BUILT_IN = {"redis": _REDIS, "rediss": _REDIS, "postgres": _POSTGRES, "postgresql": _POSTGRES}


def check_url(url: str) -> None:
    """Check whether there is a back end for this URL, without importing it.

    Raises UsageError for a URL that cannot be read, LaunchError where an extra is not installed.
    """
    scheme = _scheme(url)
    kind = _BUILT_IN.get(scheme)
    if kind is not None and find_spec(kind.package) is None:
        raise LaunchError(
            f"a registry at {scheme}:// needs {kind.package}, which is not installed: install duallisten[{kind.extra}]"
        )
    if kind is None and scheme not in _named():
        known = ", ".join(f"{name}://" for name in sorted({*_BUILT_IN, *_named()}))
        raise UsageError(f"there is no registry for {scheme}:// (known: {known})")


def make_backend(url: str) -> Backend:
    """Build the back end for this URL; it connects when it is first asked."""
    check_url(url)
    scheme = _scheme(url)
    kind = _BUILT_IN.get(scheme)
    try:
        make = import_module(kind.module).make if kind is not None else _named()[scheme].load()
        return cast("Callable[[str], Backend]", make)(url)
    except Exception as error:
        raise UsageError(f"the registry's URL at {scheme}:// cannot be used: {type(error).__name__}") from None


def _scheme(url: str) -> str:
    """Return the scheme of a URL; what is not one may be a secret, and is not shown."""
    scheme, separator, _ = url.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise UsageError("the registry's URL does not begin with a scheme such as redis://")
    try:
        urlsplit(url).port  # noqa: B018  # parsed when it is read
    except ValueError:
        raise UsageError(f"the registry's URL at {scheme}:// cannot be read: its host or port is malformed") from None
    return scheme.lower()


def _named() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # 10 ms that a launch with what is built in does not need

    return {entry_point.name: entry_point for entry_point in entry_points(group=GROUP)}


_KINDS: tuple[tuple[type[BaseException], str], ...] = (
    (ConnectionRefusedError, "the connection was refused"),
    (socket.gaierror, "its host name is not known"),
    (ssl.SSLError, "the TLS handshake failed"),
    (TimeoutError, "it did not answer in time"),
    (ConnectionResetError, "the connection was lost"),
)
_WORDS = (
    ("refused", "the connection was refused"),
    ("name resolution|name or service|translate host|resolve host|getaddrinfo", "its host name is not known"),
    ("wrongpass|noauth|password|authentication|pg_hba", "it refused the user or the password"),
    ("readonly|read-only|read only", "it is read-only"),
    (r"\boom\b|maxmemory|no space|disk full|out of memory|misconf", "it is full"),
    ("too many|max number of clients|remaining connection slots", "it takes no more connections"),
    ("loading|starting up|shutting down|recovery mode", "it is starting or ending"),
    ("noperm|permission|not allowed|must be owner", "it does not allow that"),
    ("certificate|ssl|tls", "the TLS handshake failed"),
    ("does not exist", "its database, role or table does not exist"),
    ("wrongtype", "the keys there are somebody else's"),
    ("timeout|timed out", "it did not answer in time"),
    ("closed|reset|broken pipe|terminating|connection lost", "the connection was lost"),
)


def reason(error: BaseException) -> str:
    """Say what an error of a database or its library means, in words that hold nothing of its own."""
    chain = list(_chain(error))
    for kind, meaning in _KINDS:
        if any(isinstance(one, kind) for one in chain):
            return meaning
    text = " ".join(f"{type(one).__name__} {one}" for one in chain).lower()
    for words, meaning in _WORDS:
        if re.search(words, text):
            return meaning
    return type(error).__name__


def _chain(error: BaseException) -> Iterable[BaseException]:
    one: BaseException | None = error
    for _ in range(10):
        if one is None:
            return
        yield one
        one = one.__cause__ or one.__context__
