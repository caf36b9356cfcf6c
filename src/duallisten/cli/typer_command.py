"""The command line as typer builds it from the lists of options: help, completion, and messages about mistakes.

It is imported only for a command line that is not plain (`arguments`).

typer converts each parameter with pydantic, whose import costs as much as uvicorn's whole start; the options here have
readers of their own, so the parameters are told to pass values on as they are (`_AsGiven`).
"""

from __future__ import annotations

import inspect
import sys
from typing import Annotated, Any, Literal

import typer
import typer.core
import typer.main

from duallisten.cli.arguments import ACTIONS, Invocation, invocation
from duallisten.config import Option, own_options
from duallisten.errors import UsageError

OWN_PANEL = "duallisten"
TWINS_PANEL = "duallisten: what the private listener has of its own"
UVICORN_PANEL = "uvicorn"
HELP_PANEL = "Help"


class _AsGiven:
    """Stands where typer would convert a value, and leaves it as it is."""

    def coerce(self, value: Any, param: Any, ctx: Any) -> Any:
        return value


class _Command(typer.core.TyperCommand):
    """typer's command, with parameters that do not convert, and a panel for its own options."""

    def get_params(self, ctx: Any) -> list[Any]:
        params = super().get_params(ctx)
        for param in params:
            param._runtime_param = _AsGiven()  # type: ignore[attr-defined]  # typer's slot for a made converter
            if isinstance(param, typer.core.TyperOption) and param.rich_help_panel is None:
                param.rich_help_panel = HELP_PANEL
        return params


def parse(options: tuple[Option, ...], arguments: list[str]) -> Invocation:
    """Read a command line; raises UsageError, and exits where help or the completion has been served."""
    try:
        parsed = command_line(options).main(arguments, prog_name="duallisten", standalone_mode=False)
    except Exception as error:
        tell = getattr(error, "format_message", None)
        if tell is None:
            raise
        raise UsageError(f"{' '.join(str(tell()).split())}; see duallisten --help") from None
    if not isinstance(parsed, Invocation):
        sys.exit(parsed if isinstance(parsed, int) else 0)
    return parsed


def command_line(options: tuple[Option, ...]) -> typer.core.TyperCommand:
    """Build typer's command from the options."""

    def serve(context: typer.Context, **values: Any) -> Invocation:
        r"""Serve an ASGI application on a public and a private listener, from one process.

        APP is uvicorn's: MODULE:ATTRIBUTE. Every option can also be set in the environment, and in
        \[tool.duallisten] of pyproject.toml or in duallisten.toml, by its name without the dashes.
        """
        given = {
            name: value
            for name, value in values.items()
            if getattr(context.get_parameter_source(name), "name", "") == "COMMANDLINE"
        }
        return invocation(given)

    own = {option.name for option in own_options()}
    parameters = [inspect.Parameter("context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)]
    parameters += [_parameter(option, _panel(option, own)) for option in options]
    actions = [_parameter(_action(name, help_text), OWN_PANEL) for name, help_text in ACTIONS.items()]
    position = 1 + sum(option.name in own for option in options)
    parameters[position:position] = actions
    serve.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    serve.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    app = typer.Typer(rich_markup_mode="rich")
    app.command(name="duallisten", cls=_Command)(serve)
    command = typer.main.get_command(app)
    assert isinstance(command, typer.core.TyperCommand)  # noqa: S101
    return command


def _action(name: str, help_text: str) -> Option:
    return Option(name=name, flag=f"--{name}", kind="switch", read=bool, variables=(), help=help_text, default=False)


def _panel(option: Option, own: set[str]) -> str:
    if option.name in own:
        return OWN_PANEL
    return TWINS_PANEL if option.name.startswith("private_") else UVICORN_PANEL


def _parameter(option: Option, panel: str) -> inspect.Parameter:
    """Describe one option to typer."""
    kinds: dict[str, Any] = {"switch": bool, "list": list[str]}
    annotation = kinds.get(option.kind) or (Literal[option.choices] if option.choices else str)
    default = option.default if option.default != "" else None
    if isinstance(default, tuple | list):
        default = [str(item) for item in default] or None
    faces: dict[str, Any] = {
        "help": option.help.replace("[", r"\["),
        "metavar": None if option.choices or option.kind == "switch" else option.metavar,
        "envvar": list(option.variables) or None,
        "show_default": option.kind != "switch",
    }
    if option.name == "app":
        info: Any = typer.Argument(**faces | {"metavar": "[APP]", "show_default": False})
    else:
        flags = f"{option.flag}/{option.off_flag}" if option.off_flag else option.flag
        info = typer.Option(flags, rich_help_panel=panel, **faces)
    return inspect.Parameter(
        option.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[annotation | None, info],
    )
