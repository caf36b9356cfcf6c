"""What a command line says: options by name, and whether to check, to list routes, or to launch.

A launch's command line is nearly always plain: the application, and options that each stand under their full name with
a value that begins with no dash. Such a line has one reading, and reading it here (`read_plain`) saves a launch the
import of typer, which costs a sixth of uvicorn's whole start. Whatever is not plain (help, completion, a short form, a
mistake and the message about it) is left to typer (`read_all`), and `tests/cli/test_command.py` holds the two to one
reading. A value stays the text that it is; `config.sources` reads it.

typer converts each parameter with pydantic, whose import costs as much as uvicorn's whole start; the options here have
readers of their own, so typer's parameters are told to pass values on as they are.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from duallisten.config import NOT_SHOWN, Option, is_secret, nearest, own_options
from duallisten.errors import UsageError

if TYPE_CHECKING:
    import typer.core

ACTIONS = {
    "check": "Print what a launch would do, and why, and exit: 0, or as the launch would.",
    "routes": "Print every route of the application, with what each side gets of it, and exit. With --strict-routes "
    "the exit code is 1 if no rule and no mark puts one on a side.",
    "json": "With --check or --routes: print it as JSON.",
}
"""The flags that ask for something else than a launch, with their help."""


def read_plain(options: Iterable[Option], arguments: Sequence[str]) -> dict[str, Any] | None:
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
    return given


def _take_value(argument: str, left: Iterator[str], valued: dict[str, Option], given: dict[str, Any]) -> bool:
    """Take an option and its value, `--flag=value` or `--flag value`; False where that is not plain."""
    flag, equals, text = argument.partition("=")
    option = valued.get(flag)
    if option is None:
        return False
    if not equals:
        text = next(left, "-")
        if text.startswith("-"):
            return False
    if option.kind == "list":
        given.setdefault(option.name, []).append(text)
    else:
        given[option.name] = text
    return True


def refuse_twice(options: Iterable[Option], arguments: Sequence[str]) -> None:
    """Raise UsageError where an option that may stand once is given twice; the arguments must have been read."""
    by_flag = {flag: option for option in options for flag in (option.flag, option.off_flag) if flag}
    given: dict[str, str] = {}
    left = iter(arguments)
    for argument in left:
        if argument == "--":
            return
        flag, equals, text = argument.partition("=")
        option = by_flag.get(flag) if flag.startswith("-") else None
        if option is None or option.kind == "list":
            if option is not None and not equals:
                next(left, None)
            continue
        if option.kind == "switch":
            text = flag
        elif not equals:
            text = next(left, "")
        text = NOT_SHOWN if is_secret(option.name) else text
        if option.name in given:
            raise UsageError(f"{option.flag} is given twice, as {given[option.name]} and as {text}: keep one of them")
        given[option.name] = text


def read_all(options: tuple[Option, ...], arguments: list[str]) -> dict[str, Any]:
    """Read any command line; raises UsageError, and exits where help or the completion has been served."""
    try:
        parsed = typer_command(options).main(arguments, prog_name="duallisten", standalone_mode=False)
    except Exception as error:
        tell = getattr(error, "format_message", None)
        if tell is None:
            raise
        message = " ".join(str(tell()).split())
        if hasattr(error, "possibilities"):  # no such option; its own proposals are alike by their dashes alone
            name = str(getattr(error, "option_name", ""))
            flags = [flag for option in options for flag in (option.flag, option.off_flag) if flag]
            message = f"there is no option {name}{nearest(name, flags)}"
        raise UsageError(f"{message}; see duallisten --help") from None
    if not isinstance(parsed, dict):
        sys.exit(parsed if isinstance(parsed, int) else 0)
    return parsed


def typer_command(options: tuple[Option, ...]) -> typer.core.TyperCommand:
    """Build typer's command from the options."""
    import typer.core
    import typer.main

    class Command(typer.core.TyperCommand):
        """typer's command, with parameters that do not convert, and a panel for its own options."""

        def get_params(self, ctx: Any) -> list[Any]:
            params = super().get_params(ctx)
            for param in params:  # `_runtime_param` is typer's slot for a made converter
                param._runtime_param = SimpleNamespace(coerce=lambda value, param, ctx: value)  # type: ignore[attr-defined]
                if isinstance(param, typer.core.TyperOption) and param.rich_help_panel is None:
                    param.rich_help_panel = "Help"
            return params

    def serve(context: typer.Context, **values: Any) -> dict[str, Any]:
        r"""Serve an ASGI application on a public and a private listener, from one process.

        APP is uvicorn's: MODULE:ATTRIBUTE. Every option can also be set in the environment, and in
        \[tool.duallisten] of pyproject.toml or in duallisten.toml, by its name without the dashes. A list in a
        variable is separated by commas or spaces, not by colons; uvicorn's own lists by spaces, and
        UVICORN_RELOAD_DIRS by colons.
        """
        sources = ((name, context.get_parameter_source(name)) for name in values)
        return {name: values[name] for name, source in sources if getattr(source, "name", "") == "COMMANDLINE"}

    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    parameters += [_parameter(option, panel) for option, panel in _panels(options)]
    serve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    serve.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(rich_markup_mode="rich")
    app.command(name="duallisten", cls=Command)(serve)
    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperCommand)  # noqa: S101
    return command


def _panels(options: tuple[Option, ...]) -> Iterator[tuple[Option, str]]:
    """Return every option, the actions after ours, with the panel of the help that it stands in."""
    own = own_options()
    for option in own:
        yield option, "duallisten"
    for name, text in ACTIONS.items():
        yield Option(name, f"--{name}", "switch", bool, (), default=False, help=text), "duallisten"
    for option in options:
        if option not in own:
            is_twin = option.name.startswith("private_")
            yield option, "duallisten: what the private listener has of its own" if is_twin else "uvicorn"


def _parameter(option: Option, panel: str) -> inspect.Parameter:
    """Describe one option to typer."""
    import typer

    kinds: dict[str, Any] = {"switch": bool, "list": list[str]}
    annotation = kinds.get(option.kind) or (Literal[option.choices] if option.choices else str)
    default = option.default if option.default != "" else None
    if option.kind == "list" and isinstance(default, str):
        default = (default,)
    if isinstance(default, tuple | list):
        default = [str(item) for item in default] or None
    faces: dict[str, Any] = {
        "help": option.help.replace("[", r"\["),
        "metavar": None if option.kind == "switch" else option.metavar,
        "envvar": list(option.variables) or None,
        "show_default": option.kind != "switch",
    }
    if option.name == "app":
        info: Any = typer.Argument(**faces | {"metavar": "[APP]", "show_default": False})
    else:
        flags = f"{option.flag}/{option.off_flag}" if option.off_flag else option.flag
        info = typer.Option(flags, rich_help_panel=panel, **faces)
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[annotation | None, info]
    )
