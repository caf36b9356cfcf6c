"""The texts of `--help` and `--help-all`.

`--help` fits on a few screens: it has duallisten's own options in groups, each with the first sentence of its help and
its default, and the names of all other options. `--help-all` has the whole help of every option, with its environment
variables. Both are plain text of at most `MOST_COLUMNS`, and break no name, so that they can be searched.

Invariants:
    - Both contain every option, under its full name.
"""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Iterable, Mapping

from duallisten.config import Option

MOST_COLUMNS = 100
NAME_COLUMNS = 34
"""The column at which the texts begin."""

GROUPS: dict[str, tuple[str, ...]] = {
    "Listeners": (
        "host",
        "port",
        "private_host",
        "private_port",
        "private_network",
        "private_allow",
        "private_missing",
        "private_wait",
        "fence",
        "side_door",
        "listeners",
        "platform",
    ),
    "Endpoints": (
        "private_paths",
        "public_paths",
        "hidden_status",
        "private_app",
        "strict_routes",
        "private_hostnames",
    ),
    "Proxies": ("forwarded_allow_ips", "client_ip_header", "proxy_protocol"),
    "Processes": (
        "workers",
        "private_workers",
        "preload",
        "timeout_worker_stall",
        "limit_worker_memory",
        "limit_worker_age",
        "private_linger",
        "public_linger",
        "timeout_graceful_shutdown",
    ),
    "Limits": (
        "timeout_request_header",
        "timeout_request_body",
        "timeout_send",
        "max_head_size",
        "max_head_fields",
        "max_body_size",
        "limit_connections",
        "limit_connections_per_peer",
    ),
    "Observability": (
        "private_health",
        "public_health",
        "health_stall",
        "private_metrics",
        "log_format",
        "log_slow_requests",
        "request_id_header",
        "control",
    ),
    "Discovery": ("register", "service"),
}
"""The names of the options that `--help` explains, in its order."""

SAID_DEFAULT = re.compile(r"\s*\[default: (.*)\]$")
"""How the help of an option ends if its default is not a plain value."""

DEFAULTS = {
    "host": "0.0.0.0 where $PORT is set, else 127.0.0.1",
    "port": "$PORT, else 8000",
    "workers": "$WEB_CONCURRENCY, else 1",
    "forwarded_allow_ips": "$FORWARDED_ALLOW_IPS, else the platform's, else this host",
    "timeout_graceful_shutdown": "30, or the platform's",
    "timeout_keep_alive": "5, or the platform's",
}
"""Defaults of uvicorn's options that differ here, or depend on the environment."""

ZERO = re.compile(r"\b0: (no limit|never)\.")
"""How an option's help says that 0 turns it off."""

INSTEAD = "Instead of a launch"
FOR_ONE_LISTENER = "For the private listener alone; without them it has the public value, or none"
AS_IN_UVICORN = "As in uvicorn"

INTRODUCTION = """\
Usage: duallisten MODULE:APP [OPTIONS]

Serve an ASGI application on two listeners from one process: a public one on $PORT, and one on the private network.

  duallisten shop:app --private-path /internal
  duallisten shop:app --private-path /internal --check
"""

SOURCES = """\
Every option can also be set in the environment, as DUALLISTEN_PRIVATE_PORT (uvicorn's as UVICORN_WORKERS), and in
duallisten.toml or [tool.duallisten] of pyproject.toml, by its name without the dashes. The command line beats the
environment, which beats the file. A list in a variable is separated by commas or spaces, not by colons; uvicorn's own
lists by spaces, and UVICORN_RELOAD_DIRS by colons.
"""


def short_help(options: Iterable[Option], actions: Mapping[str, str]) -> str:
    """Return the text of `--help`.

    Args:
        options: Every option of the command line.
        actions: The flags for another action than a launch, with their help.
    """
    known = {option.name: option for option in options}
    width = _width()
    parts = [_filled(INTRODUCTION, width)]
    for title, names in GROUPS.items():
        rows = [(_face(known[name]), _brief(known[name])) for name in names if name in known]
        parts.append(_section(title, rows, width))
    explained = {name for names in GROUPS.values() for name in names}
    left = [option for option in known.values() if option.name not in explained and option.name != "app"]
    twins = [option for option in left if option.twin_of]
    parts.append(_section(INSTEAD, [(f"--{name}", _first(text)) for name, text in actions.items()], width))
    parts.append(_names(FOR_ONE_LISTENER, twins, width))
    parts.append(_names(AS_IN_UVICORN, [option for option in left if not option.twin_of], width))
    parts.append(_filled(SOURCES, width))
    return "\n".join(parts)


def full_help(options: Iterable[Option], actions: Mapping[str, str]) -> str:
    """Return the text of `--help-all`; the arguments are those of `short_help`."""
    known = {option.name: option for option in options if option.name != "app"}
    groups = {title: [known[name] for name in names if name in known] for title, names in GROUPS.items()}
    explained = {option.name for group in groups.values() for option in group}
    left = [option for option in known.values() if option.name not in explained]
    groups[FOR_ONE_LISTENER] = [option for option in left if option.twin_of]
    groups[AS_IN_UVICORN] = [option for option in left if not option.twin_of]
    width = _width()
    parts = [_filled(INTRODUCTION, width), _filled(SOURCES, width)]
    for title, group in groups.items():
        parts.append(f"{title}:\n")
        for option in group:
            variables = f" Variables: {', '.join(option.variables)}." if option.variables else ""
            parts.append(_entry(_face(option), _with_default(meaning(option), option) + variables, width))
    parts += [f"{INSTEAD}:\n", *(_entry(f"--{name}", text, width) for name, text in actions.items())]
    return "\n".join(parts)


def _width() -> int:
    return min(MOST_COLUMNS, shutil.get_terminal_size((MOST_COLUMNS, 24)).columns)


def _filled(text: str, width: int) -> str:
    """Return text with its paragraphs filled, except indented ones."""
    paragraphs = text.strip("\n").split("\n\n")
    return (
        "".join(
            f"{one}\n\n" if one.startswith(" ") else f"{textwrap.fill(one, width, break_on_hyphens=False)}\n\n"
            for one in paragraphs
        ).rstrip("\n")
        + "\n"
    )


def _section(title: str, rows: list[tuple[str, str]], width: int) -> str:
    return f"{title}:\n" + "".join(_row(name, text, width) for name, text in rows)


def _row(name: str, text: str, width: int) -> str:
    """Return a name with its text beside it, or below it if the name is long."""
    indent = " " * NAME_COLUMNS
    lines = textwrap.wrap(text, width - NAME_COLUMNS, break_on_hyphens=False, break_long_words=False)
    head = f"  {name}"
    if len(head) + 2 > NAME_COLUMNS:
        return "\n".join([head, *(indent + line for line in lines)]) + "\n"
    return "\n".join([head.ljust(NAME_COLUMNS) + lines[0], *(indent + line for line in lines[1:])]) + "\n"


def _entry(name: str, text: str, width: int) -> str:
    body = textwrap.fill(
        text.strip(),
        width,
        initial_indent=" " * 6,
        subsequent_indent=" " * 6,
        break_on_hyphens=False,
        break_long_words=False,
    )
    return f"  {name}\n{body}\n"


def _names(title: str, options: Iterable[Option], width: int) -> str:
    """Return a title with the names of options below it."""
    flags = ", ".join(_flags(option) for option in options)
    body = textwrap.fill(flags, width, initial_indent="  ", subsequent_indent="  ", break_on_hyphens=False)
    return f"{title}:\n{body}\n"


def _face(option: Option) -> str:
    """Return the flag of an option and the placeholder of its value."""
    if option.kind == "switch":
        return _flags(option)
    return f"{option.flag} {option.metavar or '|'.join(option.choices) or 'VALUE'}"


def _flags(option: Option) -> str:
    """Return the flag of an option; both flags if it is a switch that can be turned off."""
    return f"{option.flag}/{option.off_flag}" if option.off_flag and option.default is not False else option.flag


def _brief(option: Option) -> str:
    """Return the first sentence of an option's help, with its default unless that is "off"."""
    text = _first(meaning(option))
    return text if default_text(option) == "off" else _with_default(text, option)


def _first(text: str) -> str:
    """Return the first sentence of a text."""
    return re.split(r"(?<=[.])(?<!e\.g\.)\s+", text, maxsplit=1)[0]


def _with_default(text: str, option: Option) -> str:
    default = default_text(option)
    return f"{text} [default: {default}]" if default else text


def meaning(option: Option) -> str:
    """Return the help of an option without its default."""
    return SAID_DEFAULT.sub("", option.help)


def default_text(option: Option) -> str:
    """Return the default of an option in words; empty if it has none."""
    if option.name in DEFAULTS:
        return DEFAULTS[option.name]
    if said := SAID_DEFAULT.search(option.help):
        return said.group(1)
    if option.kind == "switch":
        return "on" if option.default and option.off_flag else ""
    if option.default in (None, "", ()) or isinstance(option.default, list | tuple):
        return ""
    if not option.default and (off := ZERO.search(option.help)):
        return off.group(1)
    return f"{option.default:g}" if isinstance(option.default, float) else str(option.default)
