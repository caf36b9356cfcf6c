"""The options that duallisten adds to uvicorn's: the only list of them.

A field of `Options` is one option, with its type, its default and its `Face`: help, and the function that reads it.
The command line, the environment, the configuration file, the keyword arguments of the API and the README's table are
made from these fields; `Option` is what they all share. uvicorn's own options become `Option`s in `uvicorn_options`.

A default of None means: decided from the platform, in `Config`.
"""

from collections.abc import Callable, Iterable
from ipaddress import IPv4Network
from typing import Annotated, Any, Literal, NamedTuple, get_args

from duallisten.network import IPNetwork, parse_network
from duallisten.platforms import PLATFORMS

Listeners = Literal["auto", "both", "public", "private"]
PrivateMissing = Literal["auto", "fail", "loopback"]
SideDoor = Literal["serve", "refuse"]


class Option(NamedTuple):
    """One option with all its faces.

    name: the keyword of the API
    flag: what it is called on the command line, and without the dashes in the file
    off_flag: the flag that turns it off, for a switch that has one
    kind: `switch` (on or off), `value` (one), `list` (may be repeated)
    read: makes the value of what the command line, the environment or the file holds; raises ValueError(reason)
    variables: the environment variables that set it, the strongest first
    split: makes a list of the text of an environment variable
    """

    name: str
    flag: str
    kind: Literal["switch", "value", "list"]
    read: Callable[[Any], Any]
    variables: tuple[str, ...]
    default: Any = None
    help: str = ""
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    off_flag: str | None = None
    split: Callable[[str], list[str]] = str.split

    @property
    def key(self) -> str:
        """Its name in the configuration file."""
        return self.flag.lstrip("-")


NOT_SHOWN = "(not shown)"
"""Stands for a secret in a message or a report."""


def is_secret(name: str) -> bool:
    """Tell whether the value of the option `name` must not be repeated anywhere."""
    return "password" in name


def _choice(choices: tuple[str, ...]) -> Callable[[Any], str]:
    def read(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return str(value)

    return read


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("must be a text that is not empty")
    return value.strip()


def _port(value: Any) -> int:
    try:
        port = int(value) if not isinstance(value, bool | float) else -1
    except (TypeError, ValueError):
        port = -1
    if not 0 <= port <= 65535:
        raise ValueError("must be a port, a number from 0 to 65535")
    return port


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    try:
        seconds = float(value) if not isinstance(value, bool) else -1.0
    except (TypeError, ValueError):
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError("must be a number of seconds, 0 or more")
    return seconds


def _networks(value: Any) -> tuple[IPNetwork, ...]:
    values: Iterable[Any] = split_networks(value) if isinstance(value, str) else value
    try:
        networks = tuple(parse_network(item) for item in values)
    except TypeError:
        raise ValueError("must be a list of networks") from None
    if not networks:
        raise ValueError("must name at least one network")
    return networks


def _private_networks(value: Any) -> tuple[IPNetwork, ...]:
    networks = _networks(value)
    for network in networks:
        if network.prefixlen == 0:
            raise ValueError(f"{network} would make every address a private one")
    return networks


def _networks_or_none(value: Any) -> tuple[IPNetwork, ...] | None:
    return None if value is None else _networks(value)


def split_networks(text: str) -> list[str]:
    """Split a list of networks in an environment variable: by commas, white space or both."""
    return text.replace(",", " ").split()


class Face(NamedTuple):
    """What stands beside an option's type and default: how it is read, and what it looks like."""

    read: Callable[[Any], Any]
    help: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    repeat: bool = False


PLATFORM_CHOICES = ("auto", *(platform.name for platform in PLATFORMS))


class Options(NamedTuple):
    """What a user can ask of duallisten beside uvicorn's own options. Each field is an option; see its help."""

    listeners: Annotated[
        Listeners,
        Face(
            _choice(get_args(Listeners)),
            "Which listeners to open. auto: both, except where the platform says otherwise.",
            choices=get_args(Listeners),
        ),
    ] = "auto"
    private_host: Annotated[
        str,
        Face(
            _text,
            "Where the private listener binds: an IP address, the name of an interface, a host name of this host, or "
            "auto: the host's address inside a private network.",
            metavar="ADDRESS|INTERFACE|NAME|auto",
        ),
    ] = "auto"
    private_port: Annotated[
        int, Face(_port, "The fixed private port. 0 picks a free one and logs it.", metavar="PORT")
    ] = 9240
    private_network: Annotated[
        tuple[IPNetwork, ...],
        Face(_private_networks, "What counts as private, IPv4 or IPv6. May be repeated.", metavar="CIDR", repeat=True),
    ] = (IPv4Network("10.240.0.0/22"),)
    private_allow: Annotated[
        tuple[IPNetwork, ...] | None,
        Face(
            _networks_or_none,
            "Which peers the private listener admits. May be repeated. [default: the private network of its address, "
            "and loopback]",
            metavar="CIDR",
            repeat=True,
        ),
    ] = None
    private_missing: Annotated[
        PrivateMissing,
        Face(
            _choice(get_args(PrivateMissing)),
            "Without an address in a private network: fail, or bind to 127.0.0.1. auto: fail on a platform and where "
            "PORT is set, else loopback.",
            choices=get_args(PrivateMissing),
        ),
    ] = "auto"
    private_wait: Annotated[
        float | None,
        Face(
            _seconds,
            "How long to wait for the private address to appear. [default: 10 on a platform, else 0]",
            metavar="SECONDS",
        ),
    ] = None
    side_door: Annotated[
        SideDoor,
        Face(
            _choice(get_args(SideDoor)),
            "What a peer gets that reaches the public listener on a private address: the public side, or a closed "
            "connection. Its forwarded headers are never believed.",
            choices=get_args(SideDoor),
        ),
    ] = "serve"
    platform: Annotated[
        str,
        Face(
            _choice(PLATFORM_CHOICES),
            "Whose conventions hold. auto: told by the platform's own variables.",
            choices=PLATFORM_CHOICES,
        ),
    ] = "auto"


def own_options() -> tuple[Option, ...]:
    """Every field of `Options` as an `Option`."""
    return tuple(
        _as_option(name, get_args(annotation)[1], Options._field_defaults[name])
        for name, annotation in Options.__annotations__.items()
    )


def _as_option(name: str, face: Face, default: Any) -> Option:
    return Option(
        name=name,
        flag="--" + name.replace("_", "-"),
        kind="list" if face.repeat else "value",
        read=face.read,
        variables=(f"DUALLISTEN_{name.upper()}",),
        default=default,
        help=face.help,
        metavar=face.metavar,
        choices=face.choices,
        split=split_networks,
    )
