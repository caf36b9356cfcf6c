"""Plain command lines, read without typer.

A launch's command line is nearly always plain: the application, and options that each stand under their full name with
a value that begins with no dash. Such a line has one reading, and reading it here saves a launch the import of typer,
which costs a sixth of uvicorn's whole start. Whatever is not plain (help, completion, a short form, a mistake and the
message about it) is left to typer (`typer_command`), and `tests/cli/test_arguments.py` holds the two to one reading.

Pure; a value stays the text that it is (`sources` reads it).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from duallisten.config import Option

ACTIONS = {
    "check": "Print what a launch would do, and why, and exit: 0, or as the launch would.",
    "routes": "Print every route of the application, with what each side gets of it, and exit. With --strict-routes "
    "the exit code is 1 if no rule and no mark puts one on a side.",
    "json": "With --check or --routes: print it as JSON.",
}
"""The flags that ask for something else than a launch, with their help."""


class Invocation(NamedTuple):
    """What the command line said: options by name, and what to do."""

    given: dict[str, Any]
    check: bool = False
    routes: bool = False
    as_json: bool = False


def invocation(values: dict[str, Any]) -> Invocation:
    """Return what to do from what was given."""
    actions = {name: bool(values.pop(name, False)) for name in ACTIONS}
    return Invocation(values, check=actions["check"], routes=actions["routes"], as_json=actions["json"])


def read_plain(options: Iterable[Option], arguments: Sequence[str]) -> Invocation | None:
    """Read a command line without the name of the program; None where it is not plain."""
    switches: dict[str, tuple[str, bool]] = {f"--{name}": (name, True) for name in ACTIONS}
    valued: dict[str, Option] = {}
    for option in options:
        if option.kind == "switch":
            switches[option.flag] = (option.name, True)
            if option.off_flag:
                switches[option.off_flag] = (option.name, False)
        elif option.name != "app":
            valued[option.flag] = option
    given: dict[str, Any] = {}
    left = iter(arguments)
    for argument in left:
        if argument in switches:
            name, value = switches[argument]
            given[name] = value
        elif not argument.startswith("-"):
            if not argument or "app" in given:
                return None
            given["app"] = argument
        elif not _take_value(argument, left, valued, given):
            return None
    return invocation(given)


def _take_value(argument: str, left: Iterable[str], valued: dict[str, Option], given: dict[str, Any]) -> bool:
    """Take an option and its value, `--flag=value` or `--flag value`; False where that is not plain."""
    flag, equals, text = argument.partition("=")
    option = valued.get(flag)
    if option is None:
        return False
    if not equals:
        following = next(iter(left), None)
        if following is None or following.startswith("-"):
            return False
        text = following
    if option.kind == "list":
        given.setdefault(option.name, []).append(text)
    else:
        given[option.name] = text
    return True
