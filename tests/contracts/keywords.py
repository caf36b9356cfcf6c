"""Makes `duallisten/config/keywords.py` from the newest supported uvicorn and from `Options`.

python -m tests.contracts.keywords
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import uvicorn
import uvicorn.config

import duallisten
from duallisten.config.options import Options, OptionSpec, own_options, uvicorn_twins

MODULE = Path(duallisten.__file__).parent / "config" / "keywords.py"

HEAD = '''"""The keywords of `Config` and `run`, for type checkers.

Made by `python -m tests.contracts.keywords`, and not to be edited: uvicorn's first, then those of `Options`, then the
private listener's own values of uvicorn's. A launch does not import it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Iterable
from configparser import RawConfigParser
from typing import IO, Any, Literal, TypedDict

from uvicorn import Config

from duallisten.net import IPNetwork


class Keywords(TypedDict, total=False):
    """What can be asked for by keyword."""

'''


def text() -> str:
    """Return what the module should be."""
    return HEAD + "".join(_line(name, kind) for name, kind in kinds())


def _line(name: str, kind: str) -> str:
    """Write one keyword as the formatter does: a list of values that is too long has a line for each."""
    line = f"    {name}: {kind}\n"
    if len(line) <= 121:
        return line
    values = "".join(f"        {value},\n" for value in kind.removeprefix("Literal[").removesuffix("]").split(", "))
    return f"    {name}: Literal[\n{values}    ]\n"


def kinds() -> Iterator[tuple[str, str]]:
    theirs = {name: _uvicorn_kind(one.annotation) for name, one in signature(uvicorn.Config).parameters.items()}
    theirs.pop("app")
    theirs["host"] += " | Iterable[str]"  # a launch has any number
    yield from theirs.items()
    for option in own_options():
        kind = _own_kind(option.twin_of or option.name)
        yield option.name, kind if not option.twin_of or kind.endswith("None") else f"{kind} | None"
    for twin, name in uvicorn_twins().items():
        yield twin, theirs[name] if theirs[name].endswith("None") else f"{theirs[name]} | None"


def _uvicorn_kind(annotation: str) -> str:
    """Write out uvicorn's own names of a few strings."""

    def written(found: re.Match[str]) -> str:
        values = getattr(uvicorn.config, found[0], None)
        return _literal(get_args(values)) if get_origin(values) is Literal else found[0]

    return re.sub(r"\b[A-Z]\w+Type\b", written, annotation)


def _own_kind(name: str) -> str:
    """What a field of `Options` takes, which reads more than it holds."""
    kind, *marks = get_args(Options.__annotations__[name])
    spec = marks[0] if isinstance(marks[0], OptionSpec) else None
    if spec is not None and spec.choices:
        return _literal(spec.choices)
    if spec is not None and spec.kind == "list":
        items = "Iterable[str]" if kind == tuple[str, ...] else "Iterable[str | IPNetwork]"
        return f"{items} | None" if Options._field_defaults[name] is None and "None" in str(kind) else items
    if get_origin(kind) is Literal:
        return _literal(get_args(kind))
    return kind.__name__ if isinstance(kind, type) else str(kind).removeprefix("typing.")


def _literal(values: tuple[Any, ...]) -> str:
    return "Literal[" + ", ".join(f'"{value}"' if isinstance(value, str) else str(value) for value in values) + "]"


if __name__ == "__main__":
    MODULE.write_text(text())
