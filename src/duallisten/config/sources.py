"""The sources of option values: command line, environment, file; the first that has a value wins.

Other options are left to `Config`, which knows the platform and the defaults. Every value keeps its origin, in the
user's words (`--private-port`, `$DUALLISTEN_PRIVATE_PORT`, `pyproject.toml`), for messages and for `--check`. The file
is `duallisten.toml`, or `[tool.duallisten]` in `pyproject.toml`, in the current directory.

Invariants:
    - An unknown key or variable is an error: a misspelt rule that was silently ignored would be dangerous.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from duallisten.config.option import NOT_SHOWN, Option, is_secret, nearest
from duallisten.config.uvicorn_options import CONFIG_VARIABLES
from duallisten.errors import UsageError

OWN_PREFIX = "DUALLISTEN_"
UVICORN_PRIVATE = "UVICORN_PRIVATE_"
"""Prefixes of variables that set our options, and of variables that look like it."""

EXPORTED = CONFIG_VARIABLES["forwarded_allow_ips"]
"""A variable that some platforms set in every container: it is weaker than the file, which the user has written."""

OF_SERVICE = re.compile(r"DUALLISTEN_(?:SERVICE_(?:HOST|PORT(?:_\w+)?)|PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)")
"""Variables that Kubernetes sets for a service with the name `duallisten`."""


@dataclass(slots=True)
class Settings:
    """The options that were given: `values` by option name, and their `origins`."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def add(self, option: Option, raw: Any, origin: str) -> None:
        """Add a raw value of an option, unless a stronger source has set it; raises UsageError for an invalid value."""
        if option.name in self.values:
            return
        try:
            self.values[option.name] = option.read(raw)
        except ValueError as error:
            shown = " ".join(map(str, raw)) if isinstance(raw, list | tuple) else raw
            raise UsageError(f"{origin} {NOT_SHOWN if is_secret(option.name) else shown}: {error}") from None
        self.origins[option.name] = origin


def collect(options: Sequence[Option], said: Mapping[str, Any], directory: Path) -> Settings:
    """Collect the options from all sources.

    Args:
        options: All options.
        said: The values from the command line, by option name.
        directory: The directory of the file.

    Raises:
        UsageError: A value cannot be read, or a name is unknown.
    """
    settings = Settings()
    for option in options:
        if option.name in said:
            settings.add(option, said[option.name], option.flag if option.name != "app" else "APP")
    if env_file := settings.values.get("env_file") or os.environ.get("UVICORN_ENV_FILE"):
        from dotenv import load_dotenv

        load_dotenv(env_file)
    _add_environment(settings, options, {name: text for name, text in os.environ.items() if name != EXPORTED})
    _add_file(settings, options, directory)
    _add_environment(settings, options, {EXPORTED: os.environ.get(EXPORTED, "")})
    return settings


OF_THE_LAUNCH = frozenset(
    (
        *("app_dir", "env_file", "platform", "register", "service"),
        *("host", "port", "uds", "fd", "listeners", "fence", "side_door"),
        *("private_host", "private_port", "private_network", "private_allow", "private_missing", "private_wait"),
        *("workers", "private_workers", "preload", "private_health", "public_health", "private_metrics", "control"),
        *("reload", "reload_delay", "reload_dirs", "reload_excludes", "reload_includes"),
    )
)
"""Options that cannot change while a launch runs: addresses and admission, number and kind of processes, own pages,
control socket and registry entry."""


def collect_again(
    options: Sequence[Option], said: Mapping[str, Any], directory: Path, first: Settings
) -> tuple[Settings, tuple[str, ...]]:
    """Collect the options again for a running launch.

    Args:
        options: As for `collect`.
        said: As for `collect`.
        directory: As for `collect`.
        first: The options at the start of the launch.

    Returns:
        The new options, with the first values of those that cannot change; and the flags of options that cannot change
        but have a new value.

    Raises:
        UsageError: A value cannot be read, or a name is unknown.
    """
    settings = collect(options, said, directory)
    kept = [option for option in options if option.name in OF_THE_LAUNCH]
    changed = [option for option in kept if settings.values.get(option.name) != first.values.get(option.name)]
    for option in changed:
        for new, old in ((settings.values, first.values), (settings.origins, first.origins)):
            new.pop(option.name, None)
            if option.name in old:
                new[option.name] = old[option.name]
    return settings, tuple(option.flag for option in changed)


def _add_environment(settings: Settings, options: Iterable[Option], environ: Mapping[str, str]) -> None:
    """Add the values of environment variables. An empty variable counts as unset, as in a shell's `VAR= command`."""
    _refuse_unknown(options, environ)
    for option in options:
        said = [variable for variable in option.variables if environ.get(variable)]
        if len(ours := [variable for variable in said if variable.startswith(OWN_PREFIX)]) > 1:
            raise UsageError(f"${ours[0]} and ${ours[1]} are one option: keep one of them")
        for variable in said:
            text = environ[variable]
            settings.add(option, option.split(text) if option.kind == "list" else text, f"${variable}")


def _refuse_unknown(options: Iterable[Option], environ: Mapping[str, str]) -> None:
    known = {variable for option in options for variable in option.variables}
    for variable in sorted(set(environ) - known):
        text = environ[variable]
        is_kubernetes = OF_SERVICE.fullmatch(variable) or (variable == "DUALLISTEN_PORT" and "://" in text)
        if text and variable.startswith((OWN_PREFIX, UVICORN_PRIVATE)) and not is_kubernetes:
            meant = variable.replace(UVICORN_PRIVATE, f"{OWN_PREFIX}PRIVATE_", 1)
            hint = f": did you mean {meant!r}?" if meant in known else nearest(meant, known)
            raise UsageError(f"${variable} is the variable of no option{hint}")


def _add_file(settings: Settings, options: Iterable[Option], directory: Path) -> None:
    """Add the values of the configuration file in `directory`, if there is one."""
    place, table = find_table(directory)
    named = [option for option in options if option.name != "version"]
    by_key = {option.name.replace("_", "-"): option for option in named} | {option.key: option for option in named}
    taken: dict[str, str] = {}
    for key, value in table.items():
        option = by_key.get(key.replace("_", "-"))
        if option is None:
            raise UsageError(f"{place} has the unknown key {key!r}{nearest(key.replace('_', '-'), by_key)}")
        if other := taken.get(option.name):
            raise UsageError(f"{place} has {other!r} and {key!r}, which are one option: keep one of them")
        taken[option.name] = key
        settings.add(option, value, f"{place}, {key}")


def find_table(directory: Path) -> tuple[str, dict[str, Any]]:
    """Find the table of options in `directory`; return its name for messages, and the table, which may be empty."""
    own, project = directory / "duallisten.toml", directory / "pyproject.toml"
    has_own = own.is_file()
    table = _load(project).get("tool", {}).get("duallisten") if project.is_file() else None
    if has_own and table is not None:
        raise UsageError("both duallisten.toml and [tool.duallisten] in pyproject.toml have options: keep one of them")
    if has_own:
        return _own_table(own)
    if not isinstance(table, dict | None):
        raise UsageError("tool.duallisten in pyproject.toml must be a table: [tool.duallisten]")
    return "[tool.duallisten] in pyproject.toml", table or {}


def _own_table(path: Path) -> tuple[str, dict[str, Any]]:
    """Find the table in duallisten.toml: the whole file, or `[tool.duallisten]` in it, as in pyproject.toml."""
    whole = _load(path)
    if "tool" not in whole:
        return path.name, whole
    tools = whole["tool"]
    if not isinstance(tools, dict) or not isinstance(table := tools.get("duallisten"), dict):
        raise UsageError(f"{path.name} has the table tool, but no [tool.duallisten]: write options at its top")
    if beside := [key for key in whole if key != "tool"]:
        raise UsageError(f"{path.name} has {beside[0]!r} and [tool.duallisten]: keep all options in one of the places")
    return f"[tool.duallisten] in {path.name}", table


def _load(path: Path) -> dict[str, Any]:
    import tomllib  # imported here because many launches have no file

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path.name} cannot be read: {error}") from None
