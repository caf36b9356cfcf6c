"""Where an option's value comes from: command line, environment, file; the first that says something wins.

What none of them says is left to `Config`, which knows the platform and the defaults. Every value keeps its origin, in
the words a user would look for (`--private-port`, `$DUALLISTEN_PRIVATE_PORT`, `pyproject.toml`), for messages and
for `--check`. The file is `duallisten.toml`, or `[tool.duallisten]` in `pyproject.toml`, in the current directory.

Invariants:
    - A key or a variable that no option has is an error: a misspelt rule that is silently ignored is the worst kind.
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
"""Beginnings of variables that set an option of ours, and of those that look as if they did."""

EXPORTED = CONFIG_VARIABLES["forwarded_allow_ips"]
"""The variable that some platforms set in every container: it is weaker than the file, which is a user's word."""

OF_SERVICE = re.compile(r"DUALLISTEN_(?:SERVICE_(?:HOST|PORT(?:_\w+)?)|PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)")
"""Variables of a Kubernetes service that is called `duallisten`."""


@dataclass(slots=True)
class Settings:
    """What was asked for: `values` by option name, and the `origins` they came from."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)

    def add(self, option: Option, raw: Any, origin: str) -> None:
        """Take `raw` for `option`, unless a stronger source has spoken; raises UsageError where it cannot be read."""
        if option.name in self.values:
            return
        try:
            self.values[option.name] = option.read(raw)
        except ValueError as error:
            shown = " ".join(map(str, raw)) if isinstance(raw, list | tuple) else raw
            raise UsageError(f"{origin} {NOT_SHOWN if is_secret(option.name) else shown}: {error}") from None
        self.origins[option.name] = origin


def collect(options: Sequence[Option], said: Mapping[str, Any], directory: Path) -> Settings:
    """Put together what was asked for.

    Args:
        options: Every option there is.
        said: What the command line says, by option name.
        directory: Where the file may be.

    Raises:
        UsageError: A value cannot be read, or nothing has this name.
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
"""Options that a launch carries out once: addresses and who is admitted there, the number and the kind of processes,
its pages, its control socket and its entry in a registry."""


def collect_again(
    options: Sequence[Option], said: Mapping[str, Any], directory: Path, first: Settings
) -> tuple[Settings, tuple[str, ...]]:
    """Put together what is asked for now, for a launch that goes on.

    Args:
        options: As for `collect`.
        said: As for `collect`.
        directory: As for `collect`.
        first: What was asked for when it was launched.

    Returns:
        What is asked for, with the first values of what cannot change; and the flags of what was to change.

    Raises:
        UsageError: A value cannot be read, or nothing has this name.
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
    """Add what environment variables say. An empty variable says nothing, as in a shell's `VAR= command`."""
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
    """Add what the configuration file in `directory` says, if there is one."""
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
    """Find the table of options in `directory`: the name of its place, and the table, which may be empty."""
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
    """Find the table of duallisten's own file: the file itself, or as in pyproject.toml `[tool.duallisten]` in it."""
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
    import tomllib  # many launches have no file

    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path.name} cannot be read: {error}") from None
