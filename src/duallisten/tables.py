"""Tables and lines on standard output, for a person: the answers of `--check`, `--routes` and the registry's command.

Invariants:
    - Nothing that was asked for is cut. A terminal folds what is too wide for it; where standard output is none (a
      pipe, the log of a CI), lines are as long as they have to be.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

NOTHING = ("", "-")
"""Cells that say nothing: a column with no others is left out."""

UNLIMITED = 1_000_000
"""Characters in a line where there is no terminal; no table comes near."""


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print rows under the names of their columns, without empty columns; nothing without rows."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = list(rows)
    shown = [index for index in range(len(columns)) if any(row[index] not in NOTHING for row in cells)]
    if not shown:
        return
    table = Table()
    for index in shown:
        table.add_column(columns[index], overflow="fold")
    for row in cells:
        table.add_row(*(Text(row[index], overflow="fold") for index in shown))
    Console(width=None if sys.stdout.isatty() else UNLIMITED).print(table)


def print_line(text: str) -> None:
    """Print a line, which a terminal breaks where it has to."""
    sys.stdout.write(f"{text}\n")
