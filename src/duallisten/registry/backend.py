"""The interface of a registry back end, how a back end is chosen, and how its errors are described.

A back end keeps entries in a database: one for each id of a service, with an owner (random, new at each launch), a
fencing token (of two registrations, the later has the higher token) and the number of the write. Only `write` decides
whether a write counts. The database carries it out in one step, by its own clock.

Other back ends are entry points of the group `duallisten.registry`, named after the URL's scheme. An entry point is a
callable that takes the URL and returns a `Backend` without connecting. Built-in schemes cannot be replaced.

Invariants:
    - The later registration of an id wins: a registration gets a token above the stored one. So a container that
      replaces another under the same id keeps its entry, whichever of the two writes last.
    - A beat restores an entry that was lost (expired, evicted, a database that lost its data), with the token that the
      entry had. The beat is refused if a later token is stored.
    - A beat never restores an entry that was deregistered: a deregistration leaves a tombstone, which refuses its
      owner's writes.
    - A write counts only if its number is higher than the stored number of the same owner. A beat that the network has
      delayed changes nothing once `draining` is written.
    - A deregistration changes only the owner's own entry.
    - No message of a database or its library is repeated, because some contain the host, the user or the whole URL.
      `reason` looks for known words in them.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple, Protocol, cast
from urllib.parse import parse_qs, urlsplit

from duallisten.errors import DuallistenError, LaunchError, UsageError

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "duallisten.registry"

TOMBSTONE = 300.0
"""Seconds that a deregistration is remembered: longer than any write can be in flight."""


class RegistryError(DuallistenError):
    """The registry cannot be reached or used; the message contains no credentials."""


class Write(NamedTuple):
    """A registration, a beat, a change of state or a deregistration.

    Attributes:
        service: The name of the service.
        id: The id of the instance.
        owner: The writing process; random, new at each launch.
        token: The fencing token that `Backend.write` returned to this owner; 0 for a registration.
        number: Increases with each write of this owner.
        lasts: Seconds until the entry expires.
        body: The entry as JSON; empty for a deregistration.
    """

    service: str
    id: str
    owner: str
    token: int
    number: int
    lasts: float
    body: str

    @property
    def kept(self) -> float:
        """Seconds until the database may delete the entry or tombstone."""
        return self.lasts if self.body else TOMBSTONE


class Stored(NamedTuple):
    """An entry as the database has it; any client of the database may have written it.

    Attributes:
        service: The name of the service.
        id: The id of the instance.
        body: The entry, as in `Write`; not checked.
    """

    service: str
    id: str
    body: str


class Wake(Protocol):
    """A subscription to changes."""

    async def wait(self, seconds: float) -> None:
        """Wait for a change; may return without one.

        Args:
            seconds: The most seconds to wait.
        """

    async def aclose(self) -> None:
        """Stop listening."""


class Backend(Protocol):
    """A database that keeps entries. Its methods may raise anything; it is then closed and replaced by a new one."""

    async def write(self, write: Write) -> int | None:
        """Carry out a write if it counts, in one step and by the clock of the database.

        Args:
            write: A registration, a beat, a change of state or a deregistration.

        Returns:
            The fencing token of the entry; None if the write does not count.
        """

    async def read(self, service: str | None) -> list[Stored]:
        """Read the entries that have not expired and are not tombstones.

        Args:
            service: The name of the service; None for all services.

        Returns:
            The entries, in any order.
        """

    async def listen(self, service: str | None) -> Wake:
        """Subscribe to changes.

        Args:
            service: The name of the service; None for all services.

        Returns:
            The subscription; `Polling` if the database reports no changes.
        """

    async def aclose(self) -> None:
        """Close the connections; if a call is being cancelled meanwhile, wait for that."""


class Polling:
    """A `Wake` for a database that reports no changes: it always waits the whole time."""

    async def wait(self, seconds: float) -> None:
        """Wait `seconds`."""
        await asyncio.sleep(seconds)

    async def aclose(self) -> None:
        """Do nothing."""


_BUILT_IN = {
    "postgres": ("postgres", "psycopg"),
    "postgresql": ("postgres", "psycopg"),
    "redis": ("redis", "redis"),
    "rediss": ("redis", "redis"),
}
"""For each URL scheme: the module (also the name of the extra), and the library that it needs."""


def read_url(text: str) -> str:
    """Return `text` if it is a URL, otherwise the value of the environment variable of this name.

    Raises:
        UsageError: `text` is neither. The message does not repeat it, because it may be a secret.
    """
    url = text if "://" in text else os.environ.get(text)
    if not url:
        raise UsageError("neither a URL such as redis://… nor the name of an environment variable that holds one")
    return url


def has_password(url: str) -> bool:
    """Whether a URL has a password, before the host or in the query; redis-py and libpq accept both."""
    parts = urlsplit(url)
    return bool(parts.password) or any("password" in key for key in parse_qs(parts.query))


def check_url(url: str) -> None:
    """Check that there is a back end for this URL, without importing it.

    Raises:
        UsageError: The URL cannot be read, or there is no back end for its scheme.
        LaunchError: An extra is not installed.
    """
    scheme = _scheme(url)
    if scheme in _BUILT_IN:
        extra, library = _BUILT_IN[scheme]
        if find_spec(library) is None:
            needs = f"registry URL {scheme}://…: needs {library}, which is not installed"
            raise LaunchError(f"{needs}: pip install 'duallisten[{extra}]'")
    elif scheme not in (named := _named()):
        known = ", ".join(f"{name}://" for name in sorted({*_BUILT_IN, *named}))
        raise UsageError(f"registry URL {scheme}://…: unknown scheme; use one of {known}")


def make_backend(url: str) -> Backend:
    """Build the back end for this URL; it connects when it is first used."""
    check_url(url)
    scheme = _scheme(url)
    try:
        if scheme in _BUILT_IN:
            make = import_module(f"duallisten.registry.{_BUILT_IN[scheme][0]}").make
        else:
            make = _named()[scheme].load()
        return cast("Callable[[str], Backend]", make)(url)
    except Exception as error:
        raise UsageError(f"registry URL {scheme}://…: cannot be used ({type(error).__name__})") from None


def _scheme(url: str) -> str:
    """Return the scheme of a URL. The error does not repeat a text that is not a URL: it may be a secret."""
    scheme, separator, _ = url.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise UsageError("the registry URL does not begin with a scheme such as redis://")
    try:
        for host in urlsplit(url).netloc.rpartition("@")[2].split(","):  # libpq accepts several hosts
            urlsplit(f"//{host}").port  # noqa: B018  # `port` parses, and may raise
    except ValueError:
        raise UsageError(f"registry URL {scheme}://…: malformed host or port") from None
    return scheme.lower()


def _named() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # takes 10 ms, not needed for built-in back ends

    return {entry_point.name: entry_point for entry_point in entry_points(group=GROUP)}


_WORDS = (
    ("refused", "the connection was refused"),
    (
        "name resolution|name or service|translate host|resolve host|gaierror|getaddrinfo",
        "the host name does not resolve",
    ),
    ("wrongpass|noauth|password|authentication|pg_hba", "authentication failed: wrong user or password"),
    ("readonly|read-only|read only", "the server is read-only"),
    (r"\boom\b|maxmemory|no space|disk full|out of memory|misconf", "the server is out of memory or disk space"),
    ("too many|max number of clients|remaining connection slots", "the server has too many connections"),
    ("loading|starting up|shutting down|recovery mode", "the server is starting up or shutting down"),
    ("noperm|permission|not allowed|must be owner", "permission denied"),
    ("certificate|ssl|tls", "the TLS handshake failed"),
    ("does not exist", "the database, role or table does not exist"),
    ("wrongtype", "the keys are of a wrong type: another program uses them"),
    ("timeout|timed out", "timed out"),
    ("closed|reset|broken pipe|terminating|connection lost", "the connection was lost"),
)


def reason(error: BaseException) -> str:
    """Describe an error of a database or its library, without repeating its message."""
    text = ""
    cause: BaseException | None = error
    for _ in range(10):
        if cause is None:
            break
        text += f" {type(cause).__name__} {cause}".lower()
        cause = cause.__cause__ or cause.__context__
    return next((meaning for words, meaning in _WORDS if re.search(words, text)), type(error).__name__)
