"""The command line: `duallisten MODULE:APP [options]`, built by typer from the lists of options.

It is the only part that prints or exits. It takes what typer parsed, adds environment and file (`sources`), makes the
`Config`, and checks or launches. Whatever is refused is one line on standard error: exit code 2 where it cannot be
read, 3 where it cannot be carried out.

typer converts each parameter with pydantic, whose import costs as much as uvicorn's whole start; the options here have
readers of their own, so the parameters are told to pass values on as they are (`_AsGiven`).
"""

from __future__ import annotations

import gc
import inspect
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NoReturn

import typer
import typer.core
import typer.main

from duallisten.errors import DuallistenError, UsageError
from duallisten.options import Option, own_options
from duallisten.sources import Settings, add_environment, add_file
from duallisten.uvicorn_options import private_twins, uvicorn_options

OWN_PANEL = "duallisten"
TWINS_PANEL = "duallisten: what the private listener has of its own"
UVICORN_PANEL = "uvicorn"
HELP_PANEL = "Help"
COMPLETION_VARIABLE = "_DUALLISTEN_COMPLETE"

ACTIONS = {
    "check": "Print what a launch would do, and why, and exit: 0, or as the launch would.",
    "routes": "Print every route of the application, with what each side gets of it, and exit. With --strict-routes "
    "the exit code is 1 if no rule and no mark puts one on a side.",
    "json": "With --check or --routes: print it as JSON.",
}


class Invocation(NamedTuple):
    """What the command line said: options by name, and what to do."""

    given: dict[str, Any]
    check: bool = False
    routes: bool = False
    as_json: bool = False


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


def main() -> None:
    """Run the command line."""
    try:
        _run(sys.argv[1:])
    except DuallistenError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)


def _run(arguments: list[str]) -> None:
    sys.path.insert(0, "")  # as uvicorn's --app-dir does by default
    options = all_options()
    invocation = _parse(options, arguments)
    settings = collect(options, invocation.given, Path())
    values = settings.values
    if values.pop("version", False):
        _print_version()
        return
    if invocation.as_json and not (invocation.check or invocation.routes):
        raise UsageError("--json goes with --check or --routes")
    if invocation.check and invocation.routes:
        raise UsageError("--check and --routes are two questions: ask one of them")
    app = values.pop("app", None)
    if not app:
        raise UsageError("no application given: duallisten MODULE:APP, or app = in the file, or UVICORN_APP")
    if folder := values.pop("app_dir", None):
        sys.path.insert(0, folder)
    from duallisten.config import Config
    from duallisten.launch import check, launch, show_routes

    given = {name: value for name, value in values.items() if value is not None}
    config = Config(app, origins=settings.origins, **given)
    gc.freeze()  # what the imports have made stays, and need not be looked through
    gc.enable()  # `__main__` has turned it off for them
    if invocation.check:
        check(config, as_json=invocation.as_json)
    elif invocation.routes:
        if text := show_routes(config, as_json=invocation.as_json):
            _fail(text, 1)
    else:
        launch(config)


def all_options() -> tuple[Option, ...]:
    """Every option of the command line, in the order of `--help`."""
    theirs = uvicorn_options()
    own = own_options()
    names = {option.name for option in own}
    return (*own, *private_twins(theirs), *(option for option in theirs if option.name not in names))


def collect(options: Iterable[Option], given: dict[str, Any], directory: Path) -> Settings:
    """Put together what was asked for: command line, environment, file; the first that says something wins."""
    options = tuple(options)
    settings = Settings()
    for option in options:
        if option.name in given:
            settings.add(option, given[option.name], option.flag if option.name != "app" else "APP")
    env_file = settings.values.get("env_file") or os.environ.get("UVICORN_ENV_FILE")
    if env_file:
        from dotenv import load_dotenv

        load_dotenv(env_file)
    add_environment(settings, options, os.environ)
    add_file(settings, options, directory)
    return settings


def _parse(options: tuple[Option, ...], arguments: list[str]) -> Invocation:
    try:
        parsed = command_line(_mentioned(options, arguments)).main(
            arguments, prog_name="duallisten", standalone_mode=False
        )
    except Exception as error:
        tell = getattr(error, "format_message", None)
        if tell is None:
            raise
        raise UsageError(f"{' '.join(str(tell()).split())}; see duallisten --help") from None
    if not isinstance(parsed, Invocation):  # --help and the completion have been served
        sys.exit(parsed if isinstance(parsed, int) else 0)
    return parsed


def _mentioned(options: tuple[Option, ...], arguments: list[str]) -> tuple[Option, ...]:
    """Leave out the options that `arguments` do not name: building them all takes typer 10 ms.

    Help, completion and a mistake, which is to be told with what was probably meant, need all of them.
    """
    named = {argument.partition("=")[0] for argument in arguments if argument.startswith("-")}
    flags = {flag for option in options for flag in (option.flag, option.off_flag) if flag}
    if COMPLETION_VARIABLE in os.environ or not named <= flags | {f"--{name}" for name in ACTIONS}:
        return options
    return tuple(option for option in options if option.name == "app" or named & {option.flag, option.off_flag})


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
        actions = {name: bool(given.pop(name, False)) for name in ACTIONS}
        return Invocation(given, check=actions["check"], routes=actions["routes"], as_json=actions["json"])

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


def _print_version() -> None:
    import platform

    import uvicorn

    from duallisten import __version__

    print(
        f"Running duallisten {__version__} on uvicorn {uvicorn.__version__} with "
        f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}"
    )


def _fail(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"duallisten: {' '.join(message.split())}\n")
    sys.exit(code)
