"""Makes what the documentation has from the options: the page of all options, the schema of the file, the man page.

python -m tests.contracts.reference
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from duallisten.cli.command import ACTIONS
from duallisten.cli.help import GROUPS, default_text, meaning
from duallisten.config import Option, all_options, is_secret

FOLDER = Path(__file__).parents[2] / "docs" / "reference"

HEAD = """\
# Options

<!-- Made by `python -m tests.contracts.reference`, and not to be edited. -->

Each option has one name everywhere: a flag of the command line, a key of the
[configuration file](configuration-file.md), an environment variable, and a keyword of `Config` and `run`. The command
line beats the environment, which beats the file, which beats the platform. A list in a variable is separated by commas
or spaces; uvicorn's own lists by spaces, and `UVICORN_RELOAD_DIRS` by colons.

`duallisten --help` has this in short, `duallisten --help-all` whole.
"""

COUNTED = {"N", "BYTES", "PORT", "INTEGER"}
MEASURED = {"SECONDS", "FLOAT"}


def files() -> dict[Path, str]:
    """Return what each file should be."""
    schema = json.dumps(file_schema(), indent=2, ensure_ascii=False) + "\n"
    return {
        FOLDER / "options.md": options_page(),
        FOLDER / "duallisten.schema.json": schema,
        FOLDER / "duallisten.1": man_page(),
    }


def options_page() -> str:
    known = {option.name: option for option in all_options() if option.name != "app"}
    explained = {name for names in GROUPS.values() for name in names}
    left = [option for option in known.values() if option.name not in explained]
    parts = [HEAD]
    for title, names in GROUPS.items():
        parts += [f"## {title}\n", *(_entry(known[name]) for name in names if name in known)]
    parts += ["## Instead of a launch\n", *(f"### `--{name}`\n\n{text}\n" for name, text in ACTIONS.items())]
    parts += [
        "## For the private listener alone\n",
        "Without them the private listener has the public value, or none: TLS and forwarded headers are off there.\n",
        _table(option for option in left if option.twin_of),
        "## As in uvicorn\n",
        _table(option for option in left if not option.twin_of),
    ]
    return "\n".join(parts)


def _entry(option: Option) -> str:
    flag = option.flag if option.kind == "switch" else f"{option.flag} {_values(option)}"
    facts = [f"default: {default_text(option)}" if default_text(option) else ""]
    facts += [f"variable: `{option.variables[0]}`" if option.variables else "", f"keyword: `{option.name}`"]
    said = "; ".join(filter(None, facts))
    return f"### `{flag}` {{ #{option.key} }}\n\n{meaning(option)}\n\n{said[0].upper()}{said[1:]}.\n"


def _values(option: Option) -> str:
    return option.metavar or "|".join(option.choices) or "VALUE"


def _table(options: Iterable[Option]) -> str:
    rows = ["| option | meaning | default | variable |", "|---|---|---|---|"]
    for one in options:
        flags = f"`{one.flag}`" + (f", `{one.off_flag}`" if one.off_flag else "")
        cells = (flags, meaning(one), default_text(one), f"`{one.variables[0]}`" if one.variables else "")
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows) + "\n"


def file_schema() -> dict[str, Any]:
    return {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "duallisten.toml",
        "description": "Options of a duallisten launch, by their names on the command line without the dashes.",
        "type": "object",
        "additionalProperties": False,
        "properties": dict(_properties()),
    }


def _properties() -> Iterator[tuple[str, dict[str, Any]]]:
    for option in all_options():
        if option.name == "version":
            continue
        described = {"description": option.help or "The application, as MODULE:ATTRIBUTE."}
        yield option.key, _kind(option) | described | ({"writeOnly": True} if is_secret(option.name) else {})


def _kind(option: Option) -> dict[str, Any]:
    if option.kind == "switch":
        return {"type": "boolean"}
    if option.kind == "list":
        one = {"type": "string"}
        return {"anyOf": [{"type": "array", "items": one}, one]}
    if option.choices:
        return {"enum": [int(choice) if choice.isdigit() else choice for choice in option.choices]}
    if option.metavar in COUNTED:
        return {"type": "integer", "minimum": 0}
    if option.metavar in MEASURED:
        return {"type": "number", "minimum": 0}
    return {"type": "string"}


# --- The man page, in the macros of man(7) ---

MAN_HEAD = r""".\" Made by `python -m tests.contracts.reference`, and not to be edited.
.TH DUALLISTEN 1
.nh
.SH NAME
duallisten \- serve an ASGI application on a public and a private listener
.SH SYNOPSIS
.B duallisten
.I MODULE:APP
.RI [ OPTIONS ]
.SH DESCRIPTION
duallisten serves an ASGI application on two listeners from one process: a public one on $PORT, and one with a fixed
port on the private network. The socket on which a connection comes in decides which endpoints it reaches.
.PP
It takes every option of uvicorn. Each option can also be set in the environment, and in duallisten.toml or
[tool.duallisten] of pyproject.toml, by its name without the dashes.
"""

MAN_TAIL = r""".SH EXIT STATUS
0 for a good end, 1 where a shutdown has failed, 2 for what cannot be read, 3 for what cannot be carried out.
.SH FILES
.I duallisten.toml
and
.I pyproject.toml
of the current directory.
.SH SEE ALSO
.BR uvicorn (1)
"""


def man_page() -> str:
    """Return the man page of the command."""
    known = {option.name: option for option in all_options() if option.name != "app"}
    explained = [name for names in GROUPS.values() for name in names]
    groups = dict(GROUPS) | {"Others": tuple(name for name in known if name not in explained)}
    lines = [MAN_HEAD + ".SH OPTIONS\n"]
    for title, names in groups.items():
        lines.append(f'.SS "{title}"\n')
        for option in (known[name] for name in names if name in known):
            value = "" if option.kind == "switch" else f" \\fI{_roff(_values(option))}\\fR"
            default = f" Default: {_roff(default_text(option))}." if default_text(option) else ""
            variable = f" Variable: {_roff(option.variables[0])}." if option.variables else ""
            lines.append(f".TP\n\\fB{_roff(option.flag)}\\fR{value}\n{_roff(meaning(option))}{default}{variable}\n")
    lines.append('.SS "Instead of a launch"\n')
    lines += [f".TP\n\\fB{_roff(f'--{name}')}\\fR\n{_roff(text)}\n" for name, text in ACTIONS.items()]
    return "".join(lines) + MAN_TAIL


def _roff(text: str) -> str:
    """Return text with backslashes and dashes escaped, and a dot or a quote at its beginning."""
    escaped = text.replace("\\", r"\e").replace("-", r"\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped


if __name__ == "__main__":
    for path, text in files().items():
        path.write_text(text, encoding="utf-8")
