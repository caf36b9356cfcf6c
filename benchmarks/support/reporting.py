"""What the benchmarks have in common beside measuring: their options, their rounds, and how results are written down.

A comparison is made in rounds. Each gives one ratio, every second one swaps the order, and the median of the ratios is
the figure, beside the smallest and the largest: a slow or busy machine makes both sides slow and leaves the ratio.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import NamedTuple, TypeVar

T = TypeVar("T")


class Row(NamedTuple):
    """One line of a comparison.

    pairs: what the one took, and what was compared with it, in each round
    target: the ratio that is promised; none for a control
    """

    name: str
    pairs: list[tuple[float, ...]]
    target: float | None
    unit: str

    def __str__(self) -> str:
        ratios = [other / base for base, other in self.pairs]
        cells = [self.name, *spread(ratios, 3), *verdict(ratios, self.target)]
        return table_row([*cells, *(f"{median(values):.1f} {self.unit}" for values in zip(*self.pairs, strict=True))])


def read_options(description: str, results: Path) -> argparse.Namespace:
    """Read the command line of a benchmark."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--rounds", type=int, default=15, help="rounds of each comparison [default: 15]")
    parser.add_argument("--seconds", type=int, default=3, help="seconds of load per measurement [default: 3]")
    parser.add_argument("--write", action="store_true", help=f"write the results to results/{results.name}")
    options = parser.parse_args()
    if options.rounds < 1 or options.seconds < 1:
        parser.error("--rounds and --seconds must be at least 1")
    return options


def ratios(values: Iterable[float], others: Iterable[float]) -> list[float]:
    """Divide what was measured in each round by what was compared with it in the same round."""
    return [one / other for one, other in zip(values, others, strict=True)]


def in_turn(values: Sequence[T], number: int) -> tuple[T, ...]:
    """Give things as they are in one round and turned round in the next, so that none always goes first."""
    return tuple(values if number % 2 == 0 else reversed(values))


def tell(row: Row, rounds: int) -> None:
    """Say on standard error how far it has come."""
    base, other = row.pairs[-1]
    print(f"{row.name}, {len(row.pairs)} of {rounds}: {base:.1f} {row.unit}, {other:.1f} {row.unit}", file=sys.stderr)


def spread(values: Sequence[float], digits: int) -> list[str]:
    """Give the cells for the median, the smallest and the largest of some values."""
    return [f"{value:.{digits}f}" for value in (median(values), min(values), max(values))]


def verdict(values: Sequence[float], target: float | None) -> list[str]:
    """Give the cells for a target and whether the median keeps it; empty ones where there is none."""
    if target is None:
        return ["", ""]
    return [f"{target:.2f}", "met" if median(values) <= target else "missed"]


def table_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def circumstances(*others: str) -> str:
    """Tell when, on what and with what was measured, as items of a list.

    others: packages whose versions count beside those that always do
    """
    packages = ", ".join(
        f"{name} {version(name)}" for name in ("duallisten", "uvicorn", "uvloop", "httptools", *others)
    )
    wrk = subprocess.run(("wrk", "-v"), capture_output=True, text=True, check=False).stdout.split()[1]
    return f"""\
- date: {datetime.now(UTC):%Y-%m-%d}
- processor: {processor()}, {len(os.sched_getaffinity(0))} cores
- kernel: {platform.system()} {platform.release()}
- versions: {platform.python_implementation()} {platform.python_version()}, {packages}, wrk {wrk}"""


def processor() -> str:
    """The name of the processor, as the kernel gives it."""
    found = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def publish(text: str, results: Path, *, write: bool) -> None:
    """Print the results, and write them down where that is asked for."""
    print(text, end="")
    if write:
        results.parent.mkdir(exist_ok=True)
        results.write_text(text, encoding="utf-8")
