"""The command line: `duallisten MODULE:APP [options]`.

It is the only part that prints or exits. It takes what the arguments say (`arguments`, or typer where they are not
plain), adds environment and file (`sources`), makes the `Config`, and checks or launches. Whatever is refused is one
line on standard error: exit code 2 where it cannot be read, 3 where it cannot be carried out.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn

from duallisten.cli.arguments import Invocation, read_plain
from duallisten.config import Option, Settings, add_environment, add_file, all_options
from duallisten.errors import DuallistenError, UsageError

COMPLETION_VARIABLE = "_DUALLISTEN_COMPLETE"


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
        raise UsageError("--check and --routes cannot be combined")
    app = values.pop("app", None)
    if not app:
        raise UsageError("no application given: duallisten MODULE:APP, or app = in the file, or UVICORN_APP")
    if folder := values.pop("app_dir", None):
        sys.path.insert(0, folder)
    from duallisten.config import Config
    from duallisten.processes.launch import check, launch, show_routes

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
    plain = None if COMPLETION_VARIABLE in os.environ else read_plain(options, arguments)
    if plain is not None:
        return plain
    from duallisten.cli.typer_command import parse

    return parse(options, arguments)


def _print_version() -> None:
    import platform
    from importlib.metadata import version

    import uvicorn

    print(
        f"Running duallisten {version('duallisten')} on uvicorn {uvicorn.__version__} with "
        f"{platform.python_implementation()} {platform.python_version()} on {platform.system()}"
    )


def _fail(message: str, code: int) -> NoReturn:
    sys.stderr.write(f"duallisten: {' '.join(message.split())}\n")
    sys.exit(code)
