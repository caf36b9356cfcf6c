"""What a registry takes: finding 1, 100 and 1,000 instances, a beat, and the way of a change to one who watches.

Each is timed in turns with a bare round trip to the same database (PING; `select 1`) over the same client library, and
divided by it. The databases are Debian's, started for this on loopback as the tests start them.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent))

from support.measuring import HERE
from support.reporting import circumstances, publish, ratios, read_options, spread, table_row
from tests.registry.databases import postgres_server, redis_server

from duallisten.registry import Backend, Instance, Registry, Write
from duallisten.registry.backend import make_backend
from duallisten.registry.entry import to_json

RESULTS = HERE / "results" / "registry.md"

SIZES = (1, 100, 1000)
TURNS = 20
"""Calls of which a round takes the median."""


class Timed(NamedTuple):
    """What was timed: milliseconds in each round, and those of a bare round trip in the same round."""

    name: str
    taken: list[float]
    bare: list[float]


def main() -> None:
    options = read_options("Measure what a registry takes.", RESULTS)
    tables = []
    for name, server in (("Redis", redis_server), ("PostgreSQL", postgres_server)):
        with server() as database:
            tables.append((name, asyncio.run(measure(database.url, options.rounds))))
    publish(describe(tables, options.rounds), RESULTS, write=options.write)


async def measure(url: str, rounds: int) -> list[Timed]:
    """Measure one database."""
    backend = make_backend(url)
    for size in SIZES:
        for number in range(size):
            await put(backend, f"of-{size}", f"web-{number}")
    async with Registry(url) as registry:
        questions: dict[str, Callable[[], Awaitable[Any]]] = {
            f"`instances`, {size:,} there": lambda size=size: registry.instances(f"of-{size}")  # type: ignore[misc]
            for size in SIZES
        }
        questions["a beat, 1,000 there"] = Beat(backend)
        timed = {name: Timed(name, [], []) for name in questions}
        await registry.instances()  # an entry that was read before is not checked again
        for _ in range(rounds):
            for name, question in questions.items():
                timed[name].bare.append(await milliseconds(lambda: bare(backend)))
                timed[name].taken.append(await milliseconds(question))
        seen = Timed("a change, until who watches has it", [], [])
        for number in range(rounds):
            seen.bare.append(await milliseconds(lambda: bare(backend)))
            seen.taken.append(await change_seen(registry, backend, number))
    await backend.aclose()
    return [*timed.values(), seen]


class Beat:
    """A write that changes nothing but when its entry expires."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._number = 1

    async def __call__(self) -> None:
        """Write once more."""
        self._number += 1
        await put(self._backend, "of-1000", "web-0", self._number)


async def put(backend: Backend, service: str, name: str, number: int = 1) -> None:
    """Write an entry as large as those of a launch on Scalingo."""
    host = f"1.web.ap-{'0' * 32}.pn-{'0' * 32}.private-network.internal"
    one = Instance(
        service, name, "10.240.0.5", 9240, 30123, "http", host, "web-1", "0" * 40, "2026-11-25T08:00:00+00:00"
    )
    if await backend.write(Write(service, name, name, 1, number, 3600.0, to_json(one))) is None:
        raise SystemExit("a write was refused")


async def bare(backend: Any) -> None:
    """Go to the database and back."""
    if hasattr(backend, "_client"):
        await backend._client.ping()
    else:
        await backend._execute("select 1", {})


async def milliseconds(question: Callable[[], Awaitable[Any]]) -> float:
    """Give the median of some calls."""
    taken = []
    for _ in range(TURNS):
        begin = time.perf_counter()
        await question()
        taken.append((time.perf_counter() - begin) * 1e3)
    return median(taken)


async def change_seen(registry: Registry, backend: Backend, number: int) -> float:
    """Time from before a write until `watch` gives it."""
    service = f"watched-{number}"
    async with aclosing(registry.watch(service)) as changes:
        await anext(changes)
        begin = time.perf_counter()
        coming = asyncio.ensure_future(anext(changes))
        await put(backend, service, "web-0")
        await coming
        return (time.perf_counter() - begin) * 1e3


def describe(tables: list[tuple[str, list[Timed]]], rounds: int) -> str:
    """Write the results down."""
    parts = [
        f"""\
# What a registry takes

Written by `python benchmarks/registry.py --rounds {rounds} --write`.
What it measures and how to read it: [benchmarks/README.md](../README.md).

{circumstances("redis", "hiredis", "psycopg")}
- {rounds} rounds, in each the median of {TURNS} calls beside that of as many bare round trips; of changes one in each
"""
    ]
    for name, timed in tables:
        rows = [table_row(["what", "median ms", "min", "max", "times a bare round trip", "min", "max"])]
        rows.append("|---|---|---|---|---|---|---|")
        rows += [table_row([one.name, *spread(one.taken, 2), *spread(ratios(one.taken, one.bare), 1)]) for one in timed]
        parts.append(f"\n## {name}\n\n" + "\n".join(rows) + "\n")
    return "".join(parts)


if __name__ == "__main__":
    main()
