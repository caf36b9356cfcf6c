"""Readers of option values: from what a command line, the environment, a file or code says to the value.

Each takes what was said and returns the value, or raises ValueError with the reason, in words that follow the option's
name: "--private-port http: must be a port". A value that has been read can be read again. Pure; none knows which option
it reads for.
"""

import re
from collections.abc import Callable, Iterable
from typing import Any

from duallisten.endpoints import read_prefix
from duallisten.net import IPNetwork, parse_network

HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A token (RFC 9110, 5.6.2)."""

OWN_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)+")
"""Paths that have one spelling alone."""

LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
HOSTNAME = re.compile(rf"(?:{LABEL}\.)*{LABEL}\.?")
"""A host name (RFC 1123, 2.1), and underscores, which some platforms' names have."""

SWITCHES = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def one_of(choices: tuple[str, ...]) -> Callable[[Any], str]:
    """Build the reader of one of `choices`."""

    def read(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return str(value)

    return read


def text(value: Any) -> str:
    """Read a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    return value.strip()


def text_or_none(value: Any) -> str | None:
    """Read a text that is not empty, or None."""
    return None if value is None else text(value)


def switch(value: Any) -> bool:
    """Read what is on or off."""
    read = SWITCHES.get(str(value).lower())
    if read is None:
        raise ValueError("must be true or false")
    return read


def port(value: Any) -> int:
    """Read a port number."""
    try:
        read = int(value) if not isinstance(value, bool | float) else -1
    except (TypeError, ValueError):
        read = -1
    if not 0 <= read <= 65535:
        raise ValueError("must be a port, a number from 0 to 65535")
    return read


def count(value: Any) -> int:
    """Read how many there are to be."""
    try:
        read = int(value) if not isinstance(value, bool | float) else -1
    except (TypeError, ValueError):
        read = -1
    if read < 0:
        raise ValueError("must be a number, 0 or more")
    return read


def seconds(value: Any) -> float | None:
    """Read a duration in seconds, or None."""
    if value is None:
        return None
    try:
        read = float(value) if not isinstance(value, bool) else -1.0
    except (TypeError, ValueError):
        read = -1.0
    if not 0 <= read < float("inf"):
        raise ValueError("must be a number of seconds, 0 or more")
    return read


def duration(value: Any) -> float:
    """Read a duration in seconds that is more than nothing."""
    read = seconds(value)
    if not read:
        raise ValueError("must be a number of seconds, more than 0")
    return read


def networks(value: Any) -> tuple[IPNetwork, ...]:
    """Read a list of networks."""
    items: Iterable[Any] = split_list(value) if isinstance(value, str) else value
    try:
        read = tuple(parse_network(item) for item in items)
    except TypeError:
        raise ValueError("must be a list of networks") from None
    if not read:
        raise ValueError("must name at least one network")
    return read


def private_networks(value: Any) -> tuple[IPNetwork, ...]:
    """Read a list of networks, none of which is all there is."""
    read = networks(value)
    for network in read:
        if network.prefixlen == 0:
            raise ValueError(f"{network} would make every address a private one")
    return read


def networks_or_none(value: Any) -> tuple[IPNetwork, ...] | None:
    """Read a list of networks, or None."""
    return None if value is None else networks(value)


def prefixes(value: Any) -> tuple[str, ...]:
    """Read a list of path prefixes, each once."""
    try:
        return tuple(dict.fromkeys(read_prefix(item) for item in ([value] if isinstance(value, str) else value)))
    except TypeError:
        raise ValueError("must be a list of paths") from None


def hostnames(value: Any) -> tuple[str, ...]:
    """Read a list of host names, each once."""
    try:
        names = tuple(dict.fromkeys([value] if isinstance(value, str) else value))
    except TypeError:
        raise ValueError("must be a list of host names") from None
    for name in names:
        if not isinstance(name, str) or not HOSTNAME.fullmatch(name):
            raise ValueError(f"{name!r} must be a host name, without scheme and port")
    return names


def prefix_or_none(value: Any) -> str | None:
    """Read a path prefix, or None."""
    if value is None:
        return None
    read = read_prefix(value)
    if not OWN_PATH.fullmatch(read):
        raise ValueError("must be a path of letters, digits and - . _ ~ /, such as /-")
    return read


def header_or_none(value: Any) -> str | None:
    """Read the name of a header field (RFC 9110, 5.1), or None."""
    if value is None:
        return None
    if not isinstance(value, str) or not HEADER_NAME.fullmatch(value):
        raise ValueError("must be the name of a header, such as X-Request-ID")
    return value


def application(value: Any) -> Any:
    """Read an application, an import string, or None."""
    return value if value is None or callable(value) else text(value)


def hidden_status(value: Any) -> int:
    """Read the status of what is hidden."""
    if str(value) not in ("404", "403"):
        raise ValueError("must be 404 or 403")
    return int(value)


def split_list(value: str) -> list[str]:
    """Split a list in an environment variable: by commas, white space or both."""
    return value.replace(",", " ").split()
