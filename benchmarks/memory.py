"""What the processes of a launch take up in memory, beside uvicorn's: four workers of a FastAPI application.

Memory is PSS: what processes share is divided among them (proc_pid_smaps(5)), so the sum over all processes of a server
is what it takes up. It is read when every worker has been under load. A round gives one ratio for each server, of its
sum and of uvicorn's in the same round; every second round goes the other way round, and the median counts.

What the library files share with processes that are not of the launch (another Python that runs meanwhile) lowers the
figures of all alike.
"""

from __future__ import annotations

import argparse
import sys
import time
from statistics import median
from typing import NamedTuple

from support.contenders import Contender, duallisten, granian, gunicorn_asgi, gunicorn_uvicorn, hypercorn, serving
from support.contenders import uvicorn as plain_uvicorn
from support.findings import table
from support.isolation import WORKERS
from support.measuring import HERE, Cores, check_machine, family, load, memory_of
from support.reporting import circumstances, in_turn, publish, ratios, read_options, spread, table_row, verdict

RESULTS = HERE / "results" / "memory.md"

ITEM = "/items/7?size=l"
SETTLE = 1.0
"""Seconds until every worker accepts."""

UVICORN = "uvicorn"
TARGETS = {"duallisten": 1.0, "duallisten, --preload": 0.55}


class Process(NamedTuple):
    """One process of a server: MiB of PSS, and of what it shares with no other."""

    pss: float
    private: float


Found = dict[str, list[list[Process]]]
"""The processes of each server in each round, the first that was started first."""


def main() -> None:
    options = read_options("Measure what the processes of a launch take up in memory.", RESULTS)
    cores = check_machine("gunicorn", "granian", "hypercorn").shared
    found: Found = {}
    for number in range(options.rounds):
        for contender in in_turn(contenders(), number):
            found.setdefault(contender.name, []).append(measure(contender, cores, options.seconds))
        told = ", ".join(f"{name} {total(rounds[-1]):.0f}" for name, rounds in found.items())
        print(f"memory, {number + 1} of {options.rounds}: {told}", file=sys.stderr)
    publish(describe({one.name: found[one.name] for one in contenders()}, options), RESULTS, write=options.write)


def contenders() -> list[Contender]:
    """Give the servers, uvicorn first, each with as many workers and without an access log."""
    app, count = "apps.shop:app", ("--workers", str(WORKERS))
    preloading = gunicorn_uvicorn(app, *count, "--preload", log=False)
    return [
        plain_uvicorn(app, *count, log=False),
        duallisten(app, *count, log=False, name="duallisten"),
        duallisten(app, *count, "--preload", log=False, name="duallisten, --preload"),
        gunicorn_uvicorn(app, *count, log=False),
        preloading._replace(name=f"{preloading.name}, --preload"),
        gunicorn_asgi(app, *count, log=False),
        granian(app, *count, log=False),
        hypercorn(app, *count, log=False),
    ]


def measure(contender: Contender, cores: Cores, seconds: int) -> list[Process]:
    """Run a server and load it; what each of its processes takes up then."""
    with serving(contender, cores) as processes:
        time.sleep(SETTLE)
        load([contender.commands[0]._replace(loaded=contender.loaded, path=ITEM)], cores, seconds)
        return [Process(*memory_of(pid)) for process in processes for pid in family(process)]


def total(processes: list[Process]) -> float:
    """What a server takes up, in MiB."""
    return sum(process.pss for process in processes)


def describe(found: Found, options: argparse.Namespace) -> str:
    """Write the results as Markdown."""
    sums = {name: [total(processes) for processes in rounds] for name, rounds in found.items()}
    rows = []
    for name, values in sums.items():
        beside = ratios(values, sums[UVICORN])
        cells = [name, f"{median(values):.1f}", *spread(beside, 3), *verdict(beside, TARGETS.get(name))]
        rows.append(table_row([*cells, str(len(found[name][-1]))]))
    parts = []
    for name, rounds in found.items():
        last = rounds[-1]
        parts.append(table_row([name, *(", ".join(f"{one[at]:.1f}" for one in last) for at in (0, 1))]))
    return f"""\
# Memory of {WORKERS} workers

Written by `python benchmarks/memory.py --rounds {options.rounds} --seconds {options.seconds} --write`.
What it measures and how to read it: [benchmarks/README.md](../README.md#memory).

{circumstances("fastapi", "pydantic", "gunicorn", "uvicorn-worker", "granian", "hypercorn")}
- {options.rounds} rounds: {options.seconds} s of load on {WORKERS} workers of [shop.py](../apps/shop.py), then the PSS
  of all processes

{table("server | MiB | beside uvicorn | min | max | target | result | processes", rows)}

## Process by process

MiB in the last round, in the order in which the processes were started below one another.

{table("server | PSS of each process | of it private", parts)}
"""


if __name__ == "__main__":
    main()
