"""The command line: `duallisten MODULE:APP [options]`.

It parses the arguments (`command`), adds environment and file (`config.sources`), builds the `Config`, and checks or
launches. An error is one line on standard error. The exit code is 2 if an option cannot be read, 3 if the launch fails.

Invariants:
    - The library raises errors. In the launched process only the command line prints them and exits.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn

from duallisten.cli.command import ACTIONS, read_all, read_plain, refuse_twice
from duallisten.config import Config, Option, Settings, all_options, collect, collect_again
from duallisten.errors import DuallistenError, UsageError


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
    said = None if "_DUALLISTEN_COMPLETE" in os.environ else read_plain(options, arguments)
    if said is None:
        said = read_all(options, arguments)
    if said.get("help_all"):
        from duallisten.cli.help import full_help

        print(full_help(options, ACTIONS), end="")
        return
    refuse_twice(options, arguments)
    settings = collect(options, said, Path())
    if settings.values.get("version"):
        _print_version()
        return
    is_check, is_routes, as_json = _read_actions(said)
    if folder := settings.values.get("app_dir"):
        if not Path(folder).is_dir():
            raise UsageError(f"{settings.origins['app_dir']} {folder}: there is no such folder")
        sys.path.insert(0, folder)
    config = _make_config(settings)
    from duallisten.processes.launch import check, launch, show_routes
    from duallisten.processes.process_signals import release

    gc.freeze()  # the objects of the imports stay, so the collector need not visit them
    gc.enable()  # `__main__` has turned it off for the imports
    if is_check or is_routes or config.should_reload:
        release()  # these have no handlers for the signals that are held back
    if is_check:
        check(config, as_json=as_json)
    elif is_routes:
        if text := show_routes(config, as_json=as_json):
            _fail(text, 1)
    else:
        launch(config, lambda: _read_again(options, said, settings), owns_process=True)


def _make_config(settings: Settings) -> Config:
    values = {name: value for name, value in settings.values.items() if value is not None}
    for name in ("version", "app_dir"):
        values.pop(name, None)
    app = values.pop("app", None)
    if not app:
        raise UsageError("no application given: duallisten MODULE:APP, or app = in the file, or UVICORN_APP")
    return Config.from_sources(app, values, settings.origins)


def _read_again(options: tuple[Option, ...], said: dict[str, Any], first: Settings) -> tuple[Config, tuple[str, ...]]:
    """Read the configuration file of a launch again; returns also the options that cannot change."""
    settings, fixed = collect_again(options, said, Path(), first)
    return _make_config(settings), fixed


def _read_actions(said: Mapping[str, Any]) -> tuple[bool, bool, bool]:
    """Return whether to check, whether to list routes, and whether as JSON; raises UsageError if they conflict."""
    is_check, is_routes, as_json = (bool(said.get(name)) for name in ("check", "routes", "json"))
    if as_json and not (is_check or is_routes):
        raise UsageError("--json needs --check or --routes")
    if is_check and is_routes:
        raise UsageError("--check and --routes cannot be combined")
    return is_check, is_routes, as_json


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
