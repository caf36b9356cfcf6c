"""What a comparison with the peers has found, and how it is written: tables, and a part of the page on performance."""

from __future__ import annotations

import argparse
import re
from dataclasses import dataclass, field
from statistics import median
from typing import NamedTuple

from support.isolation import largest_share
from support.measuring import HERE
from support.reporting import circumstances, spread, table_row
from support.throughput import Throughput, describe_load, rate_ratios

RESULTS = HERE / "results" / "peers.md"
CHART = HERE.parent / "docs" / "images" / "peers.svg"
PAGES = HERE.parent / "docs" / "explanation"
PAGE = PAGES / "performance.md"
PAGE_PART = re.compile(r"(?<=<!-- benchmark -->\n).*?(?=<!-- end -->)", re.DOTALL)

PACKAGES = ("hypercorn", "granian", "gunicorn", "uvicorn-worker", "daphne", "fastapi", "pydantic")


class Target(NamedTuple):
    """What was promised, and what was found: a value for each round, of which the median counts."""

    promise: str
    values: list[float]
    at_least: float | None = None
    at_most: float | None = None

    @property
    def found(self) -> float:
        """The figure."""
        return median(self.values)

    @property
    def bound(self) -> str:
        """The target, as text."""
        if self.at_least is not None:
            return f"at least {self.at_least:.2f}"
        return "" if self.at_most is None else f"at most {self.at_most:.2f}"

    @property
    def result(self) -> str:
        """Whether it was met."""
        if not self.bound:
            return ""
        low = self.at_least is not None and self.found < self.at_least
        high = self.at_most is not None and self.found > self.at_most
        return "missed" if low or high else "met"

    def __str__(self) -> str:
        return table_row([self.promise, *spread(self.values, 2), self.bound, self.result])


@dataclass
class Findings:
    """Everything that one run has found.

    throughput: by work
    shares: the sorted shares of the workers, a list for each round, by server
    busy, blocked: milliseconds of the private probe, by server
    memory: MiB, by server
    starts: milliseconds to the first answer of all listeners, by server
    """

    options: argparse.Namespace
    targets: list[Target] = field(default_factory=list)
    throughput: dict[str, Throughput] = field(default_factory=dict)
    shares: dict[str, list[list[int]]] = field(default_factory=dict)
    busy: dict[str, list[float]] = field(default_factory=dict)
    blocked: dict[str, list[float]] = field(default_factory=dict)
    memory: dict[str, list[float]] = field(default_factory=dict)
    starts: dict[str, list[float]] = field(default_factory=dict)


def table(header: str, rows: list[str]) -> str:
    """Write a table; `header` is its first line, without the outer bars."""
    bars = "|" + "---|" * (header.count("|") + 1)
    return "\n".join([f"| {header} |", bars, *rows])


def throughput_table(found: Throughput) -> str:
    """Write what each server did beside the first of them."""
    first = next(iter(found))
    rows = []
    for name, measured in found.items():
        cells = [name, f"{measured.rate:,.0f}", *spread(rate_ratios(found, name, first), 2)]
        memory = f"{median(measured.memory):.0f}"
        rows.append(table_row([*cells, f"{measured.cost:.1f}", f"{measured.cost / found[first].cost:.2f}", memory]))
    header = f"server | requests/s | beside {first} | min | max | CPU µs | beside {first} | memory MiB"
    return table(header, rows)


def plain_table(header: str, found: dict[str, list[float]], digits: int) -> str:
    """Write the median, the smallest and the largest value of each server."""
    return table(f"server | {header} | min | max", [table_row([name, *spread(v, digits)]) for name, v in found.items()])


def shares_table(found: dict[str, list[list[int]]]) -> str:
    """Write what part of the connections the workers of each server have had."""
    rows = []
    for name, rounds in found.items():
        largest = [largest_share(counts) for counts in rounds]
        typical = sorted(rounds, key=lambda counts: counts[0])[len(rounds) // 2]
        rows.append(table_row([name, *spread(largest, 2), ", ".join(map(str, typical))]))
    return table("server | largest share by the mean | min | max | a round in the middle", rows)


def describe(findings: Findings) -> str:
    """Write everything that was found, as Markdown."""
    options = findings.options
    works = "\n\n".join(f"## {title}\n\n{throughput_table(found)}" for title, found in findings.throughput.items())
    targets = table("measured | median | min | max | target | result", [str(target) for target in findings.targets])
    return f"""\
# duallisten beside its peers

Written by `python benchmarks/peers.py --rounds {options.rounds} --seconds {options.seconds} --write`.
What it measures and how to read it: [benchmarks/README.md](../README.md#beside-the-peers).

{circumstances(*PACKAGES)}
- load: {describe_load(options.rounds, options.seconds)}; the servers on one core, wrk on another

![Requests a second beside uvicorn](../../docs/images/peers.svg)

## Targets

{targets}

{works}

## 200 connections over 4 workers

{shares_table(findings.shares)}

## The private side while the public one is busy

The 99th percentile of a probe's answers, in milliseconds, while 64 clients ask for 2 ms of CPU each, all on one core.

{plain_table("p99 ms", findings.busy, 1)}

The slowest answer to a probe while a public handler blocks its event loop for 5 s.

{plain_table("ms", findings.blocked, 1)}

## Memory of 4 workers of a FastAPI application

{plain_table("MiB", findings.memory, 1)}

## Start until every listener answers

{plain_table("ms", findings.starts, 0)}
"""


def page_part(findings: Findings) -> str:
    """Write what the page on performance shows."""
    log, bare = list(findings.throughput.values())[:2]
    rows = []
    for name, measured in log.items():
        beside = (f"{median(rate_ratios(found, name, 'uvicorn')):.2f}" for found in (log, bare))
        start = findings.starts.get(name)
        rows.append(
            table_row(
                [
                    name,
                    *beside,
                    f"{median(measured.memory):.0f} MiB",
                    f"{median(start):.0f} ms" if start else "the same",
                ]
            )
        )
    header = "server | requests/s, default flags | without access log | memory | start"
    return f"""\
![Requests a second beside uvicorn](../images/peers.svg)

{table(header, rows)}

Requests a second are multiples of uvicorn's in the same run, with the access log of each server on and with all off.
"""


def write(findings: Findings, chart: str) -> None:
    """Print the results, and write them down where that is asked for."""
    text = describe(findings)
    print(text, end="")
    if findings.options.write:
        RESULTS.write_text(text, encoding="utf-8")
        CHART.write_text(chart, encoding="utf-8")
        PAGE.write_text(PAGE_PART.sub(lambda _: page_part(findings), PAGE.read_text()), encoding="utf-8")
