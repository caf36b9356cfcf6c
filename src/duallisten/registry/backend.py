"""What a back end of the registry does, how one is chosen, and how its errors are described.

A back end keeps entries in a database: one for each id of a service, with an owner (random, new at each launch), a
fencing token (the higher of two is the later registration) and the number of the write. Whether a write counts is
decided in `write` alone, which the database carries out in one step, by its own clock.

A further back end is an entry point of the group `duallisten.registry`, named after the URL's scheme: a callable
that takes the URL, connects to nothing yet, and returns a `Backend`. Schemes that are built in cannot be replaced.

Invariants:
    - The later registration of an id wins: one without a token gets a token above the one stored. So a container that
      replaces another under the same id keeps its entry, whichever of the two writes last.
    - A beat brings back an entry that was lost (expired, evicted, a database without its memory), with the token that
      it had. It is refused where a later token is stored.
    - A beat never brings back an entry that was deregistered: a deregistration leaves a tombstone, which refuses its
      owner's writes.
    - Of one owner only a write with a higher number than the one stored counts. A beat that the network has delayed
      changes nothing once `draining` is written.
    - A deregistration changes only the owner's own entry.
    - No message of a database or its library is repeated, for some contain the host, the user or the whole URL.
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
"""Seconds that a deregistration is remembered: longer than any write can be under way."""


class RegistryError(DuallistenError):
    """The registry cannot be asked; the message has no credentials in it."""


class Write(NamedTuple):
    """A registration, a beat, a change of state or a deregistration.

    Attributes:
        service: The name of the service.
        id: Which of its instances it is.
        owner: Who writes; random, new at each launch.
        token: The fencing token that `Backend.write` has returned to this owner; 0 for a registration.
        number: Higher with each write of this owner.
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
        """Seconds until the database may forget it."""
        return self.lasts if self.body else TOMBSTONE


class Stored(NamedTuple):
    """An entry as a database keeps it, whoever has written it.

    Attributes:
        service: The name of the service.
        id: Which of its instances it is.
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
            seconds: The longest wait.
        """

    async def aclose(self) -> None:
        """Stop listening."""


class Backend(Protocol):
    """A database that keeps entries. It may raise anything, and is then closed and replaced by a new one."""

    async def write(self, write: Write) -> int | None:
        """Carry out a write if it counts: in one step, by the clock of the database.

        Args:
            write: A registration, a beat, a change of state or a deregistration.

        Returns:
            The fencing token of the entry; None where the write does not count.
        """

    async def read(self, service: str | None) -> list[Stored]:
        """Read the entries that have not expired and are no tombstones.

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
            The subscription; `Polling` where the database reports no changes.
        """

    async def aclose(self) -> None:
        """Close the connections; may be called while a question is being cancelled, and then waits for that."""


class Polling:
    """A `Wake` for a database that reports no changes: it always waits to the end."""

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
"""By the URL's scheme: the module, whose name is also that of the extra, and the library that it needs."""


def read_url(text: str) -> str:
    """Return the registry's URL that `text` is, or that the environment variable of this name holds.

    Raises:
        UsageError: It is neither. The message does not repeat it, for it may be a secret.
    """
    url = text if "://" in text else os.environ.get(text)
    if not url:
        raise UsageError("this is neither a URL such as redis://… nor a variable that holds one")
    return url


def has_password(url: str) -> bool:
    """Whether a URL has a password: before its host, or in its query, where redis-py and libpq take it, too."""
    parts = urlsplit(url)
    return bool(parts.password) or any("password" in key for key in parse_qs(parts.query))


def check_url(url: str) -> None:
    """Check whether there is a back end for this URL, without importing it.

    Raises:
        UsageError: The URL cannot be read, or there is no back end for its scheme.
        LaunchError: An extra is not installed.
    """
    scheme = _scheme(url)
    if scheme in _BUILT_IN:
        extra, library = _BUILT_IN[scheme]
        if find_spec(library) is None:
            needs = f"a registry at {scheme}:// needs {library}, which is not installed"
            raise LaunchError(f"{needs}: pip install 'duallisten[{extra}]'")
    elif scheme not in (named := _named()):
        known = ", ".join(f"{name}://" for name in sorted({*_BUILT_IN, *named}))
        raise UsageError(f"there is no registry for {scheme}:// (known: {known})")


def make_backend(url: str) -> Backend:
    """Build the back end for this URL; it connects when it is first asked."""
    check_url(url)
    scheme = _scheme(url)
    try:
        if scheme in _BUILT_IN:
            make = import_module(f"duallisten.registry.{_BUILT_IN[scheme][0]}").make
        else:
            make = _named()[scheme].load()
        return cast("Callable[[str], Backend]", make)(url)
    except Exception as error:
        raise UsageError(f"the registry's URL at {scheme}:// cannot be used: {type(error).__name__}") from None


def _scheme(url: str) -> str:
    """Return the scheme of a URL. A text that is no URL may be a secret, and is not repeated in the error."""
    scheme, separator, _ = url.partition("://")
    if not separator or not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*", scheme):
        raise UsageError("the registry's URL does not begin with a scheme such as redis://")
    try:
        for host in urlsplit(url).netloc.rpartition("@")[2].split(","):  # libpq takes several
            urlsplit(f"//{host}").port  # noqa: B018  # parsed when it is read
    except ValueError:
        raise UsageError(f"the registry's URL at {scheme}:// cannot be read: its host or port is malformed") from None
    return scheme.lower()


def _named() -> dict[str, EntryPoint]:
    from importlib.metadata import entry_points  # 10 ms that a launch with what is built in does not need

    return {entry_point.name: entry_point for entry_point in entry_points(group=GROUP)}


_WORDS = (
    ("refused", "the connection was refused"),
    ("name resolution|name or service|translate host|resolve host|gaierror|getaddrinfo", "its host name is not known"),
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
    """Describe an error of a database or its library, without repeating any of its message."""
    text = ""
    cause: BaseException | None = error
    for _ in range(10):
        if cause is None:
            break
        text += f" {type(cause).__name__} {cause}".lower()
        cause = cause.__cause__ or cause.__context__
    return next((meaning for words, meaning in _WORDS if re.search(words, text)), type(error).__name__)
