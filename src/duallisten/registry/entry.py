"""`Instance`: the entry of one instance of a service in a registry, and its JSON form.

Any client of the database may write anything as an entry. So each field is checked when it is read: a text has no
control characters (it is printed to terminals), an address is an IP address, a host name can be used in a TLS
handshake. Unknown keys are ignored, because a newer version may write more. `finding` decides which addresses are
followed.

Invariants:
    - An entry that cannot be read raises only `BadEntry`; its message repeats nothing of the entry.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Callable
from functools import lru_cache
from ipaddress import ip_address
from typing import Any, Literal, NamedTuple

State = Literal["starting", "ready", "draining"]

STATES: tuple[State, ...] = ("starting", "ready", "draining")

LARGEST = 4096
"""The most characters of an entry; ours have some 300."""
LONGEST = 255
"""The most characters of a text in an entry; a host name has at most 253 (RFC 1035, section 2.3.4)."""

_SERVICE = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?", re.ASCII)
_LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*)?", re.ASCII)
"""Labels of 1 to 63 characters (RFC 1035, 2.3.4): Python's ssl raises UnicodeError for others."""


class BadEntry(ValueError):  # noqa: N818
    """An entry that cannot be read; the message says which part."""


class Instance(NamedTuple):
    """The registry entry of one instance of a service.

    Attributes:
        service: The name of the service: letters, digits, `.`, `_` and `-`, so that it can be the host of a URL.
        id: Its name among the instances of the service.
        address: Its private IP address, or the public one if it has only a public listener.
        private_port: The port of its private listener; None without one.
        public_port: The port of its public listener; None without one.
        scheme: `http` or `https`, of the private listener.
        host: Its private host name; empty if it has none.
        container: The platform's name for its container, such as `web-1`.
        version: The version of the application, such as a commit.
        started_at: When it was started, by its own clock (ISO 8601, with a time zone).
        state: `draining` after a stop signal: new requests should go to other instances.
    """

    service: str
    id: str
    address: str
    private_port: int | None = None
    public_port: int | None = None
    scheme: Literal["http", "https"] = "http"
    host: str = ""
    container: str = ""
    version: str = ""
    started_at: str = ""
    state: State = "ready"

    @property
    def url(self) -> str:
        """The base URL of the private side, without a trailing slash; empty without a private listener."""
        if self.private_port is None:
            return ""
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"{self.scheme}://{host}:{self.private_port}"


def to_json(instance: Instance) -> str:
    """Return an instance as JSON; equal instances give the same text."""
    return json.dumps(instance._asdict(), separators=(",", ":"))


@lru_cache(4096)  # a beat does not change the text, so most texts have been read before
def from_json(text: str) -> Instance:
    """Read an instance; raises BadEntry for any other text."""
    if len(text) > LARGEST:
        raise BadEntry(f"the entry has more than {LARGEST} characters")
    try:
        given = json.loads(text)
    except (ValueError, RecursionError):
        raise BadEntry("the entry is not JSON") from None
    if not isinstance(given, dict):
        raise BadEntry("the entry is not a JSON object")
    values = {field: given[field] for field in Instance._fields if field in given}
    if not {"service", "id", "address"} <= values.keys():
        raise BadEntry("the entry lacks service, id or address")
    for field, value in values.items():
        if not _CHECKS[field](value):
            raise BadEntry(f"the entry's {field} is invalid")
    return Instance(**values)


def is_service(value: Any) -> bool:
    """Whether `value` can be the name of a service."""
    return isinstance(value, str) and _SERVICE.fullmatch(value) is not None


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST and value.isprintable()


def _is_address(value: Any) -> bool:
    try:
        return isinstance(value, str) and "%" not in value and not ip_address(value).is_unspecified
    except ValueError:
        return False


def _is_port(value: Any) -> bool:
    return value is None or (type(value) is int and 0 < value < 65536)


def _is_time(value: Any) -> bool:
    if value == "":
        return True
    try:
        return _is_text(value) and datetime.datetime.fromisoformat(value).tzinfo is not None
    except ValueError:
        return False


_CHECKS: dict[str, Callable[[Any], bool]] = {
    "service": is_service,
    "id": lambda value: _is_text(value) and value != "",
    "address": _is_address,
    "private_port": _is_port,
    "public_port": _is_port,
    "scheme": lambda value: value in ("http", "https"),
    "host": lambda value: _is_text(value) and _HOST.fullmatch(value) is not None,
    "container": _is_text,
    "version": _is_text,
    "started_at": _is_time,
    "state": lambda value: value in STATES,
}
