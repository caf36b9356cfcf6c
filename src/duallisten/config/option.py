"""What an option is: one description with all its faces, from which everything that a user meets is made.

The command line, the environment, the configuration file, the keyword arguments of the API and the README's table are
made from `Option`s. Ours are declared in `options`, uvicorn's are read from it in `uvicorn_options`.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from duallisten.config import converters as values


class Option(NamedTuple):
    """One option with all its faces.

    name: the keyword of the API
    flag: what it is called on the command line, and without the dashes in the file
    off_flag: the flag that turns it off, for a switch that has one
    kind: `switch` (on or off), `value` (one), `list` (may be repeated)
    read: makes the value of what the command line, the environment or the file holds; raises ValueError(reason)
    variables: the environment variables that set it, the strongest first
    split: makes a list of the text of an environment variable
    twin_of: the option whose value for the private listener this one is
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
    twin_of: str | None = None

    @property
    def key(self) -> str:
        """Its name in the configuration file."""
        return self.flag.lstrip("-")


NOT_SHOWN = "(not shown)"
"""Stands for a secret in a message or a report."""


def is_secret(name: str) -> bool:
    """Whether the value of the option `name` must not be repeated anywhere."""
    return "password" in name or name == "register"


class OptionSpec(NamedTuple):
    """What stands beside an option's type and default: how it is read, and what it looks like.

    flag: its name on the command line, where that is not the field's: a list that is given one at a time
    per_listener: whether the private listener may have a value of its own, by an option `--private-<x>`
    """

    read: Callable[[Any], Any]
    help: str
    metavar: str | None = None
    choices: tuple[str, ...] = ()
    kind: Literal["switch", "value", "list"] = "value"
    flag: str | None = None
    per_listener: bool = False


def private_twin(option: Option, default: str = "the public value") -> Option:
    """Build the option by which the private listener has its own value of `option`, and otherwise `default`."""
    return option._replace(
        name=f"private_{option.name}",
        flag=f"--private-{option.key}",
        off_flag=f"--no-private-{option.key}" if option.kind == "switch" else None,
        variables=_variables(f"private-{option.key}", f"private_{option.name}"),
        default=None,
        help=f"{option.key} of the private listener. [default: {default}]",
        twin_of=option.name,
    )


def _variables(key: str, name: str) -> tuple[str, ...]:
    """Return the variables of an option: by its flag, and by its name in the API, which is a plural for a list."""
    return tuple(dict.fromkeys(f"DUALLISTEN_{one.replace('-', '_').upper()}" for one in (key, name)))


def as_option(name: str, face: OptionSpec, default: Any) -> Option:
    """Build the option that a field with this name, face and default declares."""
    key = face.flag.lstrip("-") if face.flag else name.replace("_", "-")
    return Option(
        name=name,
        flag=f"--{key}",
        off_flag=f"--no-{key}" if face.kind == "switch" else None,
        kind=face.kind,
        read=face.read,
        variables=_variables(key, name),
        default=default,
        help=face.help,
        metavar=face.metavar,
        choices=face.choices,
        split=values.split_list,
    )
