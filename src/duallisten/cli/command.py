"""Parses the command line: options by name, and whether to check, to list routes, or to launch.

The command line of a launch is nearly always plain: the application, and options by their full names with values that
do not begin with a dash. `read_plain` parses such a line without typer, whose import costs a sixth of uvicorn's whole
start. Any other line (help, completion, a short form, a mistake and its message) is left to typer (`read_all`).
`tests/cli/test_command.py` checks that both parse a line alike. Values stay text; `config.sources` converts them.

typer converts each parameter with pydantic, whose import costs as much as uvicorn's whole start. The options here have
their own converters, so typer's parameters pass values on unchanged.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Any, Literal

from duallisten.config import NOT_SHOWN, Option, is_secret, nearest
from duallisten.errors import UsageError

if TYPE_CHECKING:
    import typer.core

ACTIONS = {
    "check": "Print what a launch would do, and why. The exit code is 0, or that of the launch.",
    "routes": "Print every route with what each side gets of it. With --strict-routes the exit code is 1 if no rule "
    "and no mark puts one on a side.",
    "json": "With --check or --routes: print it as JSON.",
    "help-all": "Print all of this help. It says everything of every option, with its environment variables.",
}
"""The flags for another action than a launch, with their help."""

HELP_FLAGS = ["--help", "-h"]


def read_plain(options: Iterable[Option], arguments: Sequence[str]) -> dict[str, Any] | None:
    """Parse a plain command line; None if it is not plain.

    arguments: without the name of the program
    """
    switches: dict[str, tuple[str, bool]] = {f"--{name}": (_keyword(name), True) for name in ACTIONS}
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


def _keyword(name: str) -> str:
    return name.replace("-", "_")


def _take_value(argument: str, left: Iterator[str], valued: dict[str, Option], given: dict[str, Any]) -> bool:
    """Parse an option with its value, `--flag=value` or `--flag value`; False if that is not plain."""
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
    """Raise UsageError if an option other than a list is given twice. The arguments must be valid."""
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
    """Parse any command line; raises UsageError, and exits after help or completion."""
    try:
        parsed = typer_command(options).main(arguments, prog_name="duallisten", standalone_mode=False)
    except Exception as error:
        tell = getattr(error, "format_message", None)
        if tell is None:
            raise
        message = " ".join(str(tell()).split()).removesuffix(".")
        if more := re.match(r"Got unexpected extra arguments? ?(?:\(s\))? ?\((.*)\)", message):
            message = f"only one application can be served; unexpected: {more[1]}"
        if hasattr(error, "possibilities"):  # no such option; typer's proposals resemble it only by their dashes
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
        """typer's command, with parameters that do not convert, and our own help."""

        def get_params(self, ctx: Any) -> list[Any]:
            params = super().get_params(ctx)
            for param in params:  # `_runtime_param` is typer's attribute for the converter
                param._runtime_param = SimpleNamespace(coerce=lambda value, param, ctx: value)  # type: ignore[attr-defined]
            return params

        def format_help(self, ctx: Any, formatter: Any) -> None:
            from duallisten.cli.help import short_help

            formatter.write(short_help(options, ACTIONS))

    def serve(context: typer.Context, **values: Any) -> dict[str, Any]:
        sources = ((name, context.get_parameter_source(name)) for name in values)
        return {name: values[name] for name, source in sources if getattr(source, "name", "") == "COMMANDLINE"}

    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    parameters += [_parameter(option) for option in (*options, *_actions())]
    serve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    serve.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(context_settings={"help_option_names": HELP_FLAGS})
    app.command(name="duallisten", cls=Command)(serve)
    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperCommand)  # noqa: S101
    return command


def _actions() -> Iterator[Option]:
    for name, text in ACTIONS.items():
        yield Option(_keyword(name), f"--{name}", "switch", bool, (), default=False, help=text)


def _parameter(option: Option) -> inspect.Parameter:
    """Describe one option to typer."""
    import typer

    kinds: dict[str, Any] = {"switch": bool, "list": list[str]}
    annotation = kinds.get(option.kind) or (Literal[option.choices] if option.choices else str)
    if option.name == "app":
        info: Any = typer.Argument(metavar="[APP]")
    else:
        flags = f"{option.flag}/{option.off_flag}" if option.off_flag else option.flag
        info = typer.Option(flags, help=option.help)
    return inspect.Parameter(
        option.name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=Annotated[annotation | None, info]
    )
