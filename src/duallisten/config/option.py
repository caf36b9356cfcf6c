"""The `Option` type, and the readers of option values.

One `Option` defines all forms of an option: command line, environment variable, key in the file, keyword of the API,
and the README's table. duallisten's are declared in `options`, uvicorn's are read from uvicorn in `uvicorn_options`.

A reader takes the raw value from the command line, the environment, the file or code, and returns the value. It raises
ValueError with the reason, in words that follow the option's name: "--private-port http: must be a port".

Invariants:
    - A reader also accepts its own result.
    - A reader does not know which option it reads for.
"""

import re
from collections.abc import Callable, Iterable
from pathlib import PurePath
from typing import Any, Literal, NamedTuple

from duallisten.endpoints import read_prefix
from duallisten.net import IPNetwork, parse_network

Kind = Literal["switch", "value", "list"]
Reader = Callable[[Any], Any]


class Option(NamedTuple):
    """One option.

    Attributes:
        name: The keyword of the API.
        flag: The name on the command line, and without the dashes in the file.
        kind: `switch` (on or off), `value` (one), `list` (may be repeated).
        read: The reader of its values.
        variables: The environment variables that set it, the strongest first.
        off_flag: The flag that turns a switch off, if there is one.
        split: Splits the text of an environment variable into a list.
        twin_of: For an option of the private listener: the name of the public option.
    """

    name: str
    flag: str
    kind: Kind
    read: Reader
    variables: tuple[str, ...]
    default: Any = None
    help: str = ""
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    off_flag: str | None = None
    split: Callable[[str], list[str]] = str.split
    twin_of: str | None = None

    @property
    def key(self) -> str:
        """The name in the configuration file."""
        return self.flag.lstrip("-")


NOT_SHOWN = "(not shown)"
"""Shown in place of a secret in messages and reports."""


def is_secret(name: str) -> bool:
    """Whether the value of the option `name` is secret and must never be shown."""
    return "password" in name or name == "register"


def own_variables(*names: str) -> tuple[str, ...]:
    """Return the variables of our own option: named after its flag, and after its keyword (plural for a list)."""
    return tuple(dict.fromkeys(f"DUALLISTEN_{name.replace('-', '_').upper()}" for name in names))


def private_twin(option: Option, default: str = "the public value") -> Option:
    """Build the private listener's twin of `option`; `default` is the text for its help."""
    return option._replace(
        name=f"private_{option.name}",
        flag=f"--private-{option.key}",
        off_flag=f"--no-private-{option.key}" if option.kind == "switch" else None,
        variables=own_variables(f"private-{option.key}", f"private_{option.name}"),
        default=None,
        help=f"{option.key} of the private listener. [default: {default}]",
        twin_of=option.name,
    )


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint for a message which known name was probably meant; empty where no name is similar."""
    from duallisten.config.other_servers import hint  # needed only for an unknown name

    if theirs := hint(name):
        return f": {theirs}"
    return similar(name, known)


def similar(name: str, known: Iterable[str]) -> str:
    """Say in a message which of the `known` words `name` is a slip for; nothing where none is near."""
    likeness, close = max(((_likeness(name, one), one) for one in known), default=(0.0, ""))
    return f": did you mean {close!r}?" if likeness >= NEAR else ""


NEAR = 0.7
"""The similarity from which on a known name is suggested."""


def _likeness(name: str, other: str) -> float:
    """Return the similarity of two names, without the words that both begin with."""
    from difflib import SequenceMatcher

    words, others = _words(name), _words(other)
    while len(words) > 1 and len(others) > 1 and words[0] == others[0]:
        words, others = words[1:], others[1:]
    return SequenceMatcher(None, "-".join(words), "-".join(others)).ratio()


def _words(name: str) -> list[str]:
    name = name.lower().lstrip("-").replace("_", "-")
    return name.removeprefix("duallisten-").removeprefix("uvicorn-").split("-")


def or_none(read: Reader) -> Reader:
    """Build a reader like `read` that also accepts None."""
    return lambda value: None if value is None else read(value)


def one_of(choices: tuple[str | int, ...]) -> Reader:
    """Build the reader of one of `choices`."""
    known = {str(choice): choice for choice in choices}
    *others, last = known

    def read(value: Any) -> str | int:
        if str(value) not in known:
            raise ValueError(f"must be {', '.join(others)} or {last}{similar(str(value), known)}")
        return known[str(value)]

    return read


def number(make: type[int | float], reason: str, is_in_range: Callable[[float], bool]) -> Reader:
    """Build the reader of a number. It rejects a bool, and a float where an int is required."""
    wrong = (bool, float) if make is int else bool

    def read(value: Any) -> int | float:
        try:
            found = None if isinstance(value, wrong) else make(value)
        except (TypeError, ValueError):
            found = None
        if found is None or not is_in_range(found):
            raise ValueError(reason)
        return found

    return read


port = number(int, "must be a port, a number from 0 to 65535", lambda number: 0 <= number <= 65535)
count = number(int, "must be a number, 0 or more", lambda number: number >= 0)
seconds = number(float, "must be a number of seconds, 0 or more", lambda number: 0 <= number < float("inf"))
duration = number(float, "must be a number of seconds, more than 0", lambda number: 0 < number < float("inf"))

LABEL = "[A-Za-z0-9_](?:[A-Za-z0-9_-]*[A-Za-z0-9_])?"
HOSTNAME = re.compile(rf"(?:{LABEL}\.)*{LABEL}\.?")
"""A host name (RFC 1123, 2.1); underscores are allowed, because some platforms' names have them."""

SWITCHES = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}


def switch(value: Any) -> bool:
    """Read a switch: true or false, yes or no, on or off, 1 or 0."""
    read = SWITCHES.get(str(value).lower())
    if read is None:
        raise ValueError("must be true or false")
    return read


def text(value: Any) -> str:
    """Read a text that is not empty."""
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    return value.strip()


def socket_path(value: Any) -> str:
    """Read the path of a UNIX socket; Linux's abstract names are refused, because they have no permissions."""
    path = text(str(value) if isinstance(value, PurePath) else value)
    if "\0" in path:
        raise ValueError("must be the path of a file")
    return path


def application(value: Any) -> Any:
    """Read an application, or an import string."""
    return value if callable(value) else text(value)


def header(value: Any) -> str:
    """Read the name of a header field: a token (RFC 9110, 5.1 and 5.6.2)."""
    if not isinstance(value, str) or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", value):
        raise ValueError("must be the name of a header, such as X-Request-ID")
    return value


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


def hosts(value: Any) -> str | list[str]:
    """Read the hosts to bind to; one host is returned as a string, several as a list."""
    names = [value] if isinstance(value, str) else _texts(value)
    return names[0] if len(names) == 1 else names


def private_hosts(value: Any) -> tuple[str, ...]:
    """Read a list of hosts to bind to, each once."""
    names = [name.strip() for name in _texts(split_list(value) if isinstance(value, str) else value)]
    if not all(names):
        raise ValueError("must be a text that is not empty")
    if any("," in name for name in names):
        raise ValueError("is several hosts: give each by itself")
    return tuple(dict.fromkeys(names))


def _texts(value: Any) -> list[str]:
    try:
        names = list(value)
    except TypeError:
        names = []
    if not names or not all(isinstance(name, str) for name in names):
        raise ValueError("must be a text, or a list of texts that is not empty")
    return names


def own_path(value: Any) -> str:
    """Read the path of duallisten's own endpoint; it may contain only characters that have a single spelling."""
    read = read_prefix(value)
    if not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", read):
        raise ValueError("must be a path of letters, digits and - . _ ~ /, such as /-")
    return read


def split_list(value: str) -> list[str]:
    """Split a list in an environment variable: by commas, white space or both."""
    return value.replace(",", " ").split()


def networks(value: Any) -> tuple[IPNetwork, ...]:
    """Read a list of networks."""
    try:
        read = tuple(map(parse_network, split_list(value) if isinstance(value, str) else value))
    except TypeError:
        raise ValueError("must be a list of networks") from None
    if not read:
        raise ValueError("must name at least one network")
    return read


def private_networks(value: Any) -> tuple[IPNetwork, ...]:
    """Read a list of networks, none of which contains every address."""
    read = networks(value)
    for network in read:
        if network.prefixlen == 0:
            raise ValueError(f"{network} would make every address a private one")
    return read
