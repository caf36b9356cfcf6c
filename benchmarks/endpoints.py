"""What path rules cost a request: the CPU time of deciding, as a share of the CPU time of a request of uvicorn.

Deciding takes some hundred nanoseconds and a request some ten thousand: the difference between two loaded servers
drowns in their noise. So the two are measured apart, in one run, on one core, and divided.

Deciding: the function between uvicorn and the application, with rules and without, called in turns (`deciding`). In
each round by a new process, for the seed of the hashes and the layout of the memory can change the figure.

A request: uvicorn alone, under load, in the same round (`measuring`), so that a share is of what the processor did
within the same seconds. The median of the rounds is the figure.

As a check that nothing else is paid, duallisten with ten rules is compared with duallisten without, both loaded at the
same time, as `launch` does; and duallisten without rules with itself, as the control.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from statistics import median
from typing import NamedTuple

from support.deciding import BATCH, PATHS, RULE_SETS, TURNS, measure_deciding
from support.measuring import (
    CONNECTIONS,
    HERE,
    WARM_UP_SECONDS,
    Command,
    Cores,
    check_machine,
    duallisten,
    free_ports,
    measure_cpu,
    pinned,
)
from support.reporting import Row, circumstances, in_turn, publish, read_options, spread, table_row, tell, verdict

from duallisten.endpoints.path_rules import REMEMBERED

RESULTS = HERE / "results" / "endpoints.md"

SHARE_TARGET = 1.0
"""Per cent of a request: what ten rules may cost it whose path has been seen before."""
FLAT_TARGET = 1.1
"""A hundred rules cost at most so many times what one does: 1, and what the measurement may err."""
TEN = ("10 rules", "allow-list of 10")

ASKED = PATHS["plain, seen before"]


class Round(NamedTuple):
    """What one round has measured.

    deciding: nanoseconds of CPU that rules add to a request, by the names of the path and of the rules
    request: microseconds of CPU of a request of uvicorn alone
    """

    deciding: dict[tuple[str, str], float]
    request: float

    def share(self, case: tuple[str, str]) -> float:
        """Per cent that deciding adds to a request."""
        return self.deciding[case] / (self.request * 1e3) * 100

    def growth(self, path: str) -> float:
        """What a hundred rules cost, divided by what one costs."""
        return self.deciding[path, "100 rules"] / self.deciding[path, "1 rule"]


def main() -> None:
    options = read_options("Measure what path rules cost a request.", RESULTS)
    cores = check_machine()
    whole = {
        "control": Row("CPU per request, control: no rules in both", [], None, "µs"),
        "rules": Row("CPU per request, 10 rules", [], None, "µs"),
    }
    rounds = []
    for number in range(options.rounds):
        rounds.append(measure_round(cores, options.seconds))
        say(rounds, options.rounds)
        for name, row in whole.items():
            costs = measure_cpu(in_turn(servers(with_rules=name == "rules"), number), cores, options.seconds)
            row.pairs.append(in_turn(costs, number))
            tell(row, options.rounds)
    publish(describe(rounds, list(whole.values()), options), RESULTS, write=options.write)


def measure_round(cores: Cores, seconds: int) -> Round:
    """Measure what deciding costs, in a new process, and what a request of uvicorn costs, on the same core."""
    with pinned(cores.servers), ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
        deciding = process.submit(measure_deciding).result()
    (port,) = free_ports(1)
    uvicorn = ("uvicorn", "apps.hello:app", "--no-access-log", "--port", str(port))
    (request,) = measure_cpu([Command(uvicorn, (port,), loaded=port, path=ASKED)], cores, seconds)
    return Round(deciding, request)


def servers(*, with_rules: bool) -> tuple[Command, Command]:
    """Give duallisten without rules, and what is compared with it: with ten rules, or again without."""
    rules = [f"--private-path={prefix}" for prefix in RULE_SETS["10 rules"].private] if with_rules else []
    ports, silent = free_ports(4), "--no-access-log"
    return duallisten(ports[:2], silent, path=ASKED), duallisten(ports[2:], silent, *rules, path=ASKED)


def say(rounds: list[Round], count: int) -> None:
    """Say on standard error how far it has come."""
    deciding, request = rounds[-1].deciding["plain, seen before", "10 rules"], rounds[-1].request
    print(f"deciding, {len(rounds)} of {count}: {deciding:.0f} ns, {request:.1f} µs a request", file=sys.stderr)


# --- Results ---


def share_rows(rounds: list[Round]) -> str:
    """Write what deciding costs, in nanoseconds and as a share of a request, for each path and each set of rules."""
    rows = []
    for path, rules in rounds[0].deciding:
        shares = [one.share((path, rules)) for one in rounds]
        target = SHARE_TARGET if rules in TEN and path.endswith("seen before") else None
        nanoseconds = spread([one.deciding[path, rules] for one in rounds], 0)
        rows.append(table_row([path, rules, *nanoseconds, *spread(shares, 2), *verdict(shares, target)]))
    return "\n".join(rows)


def growth_rows(rounds: list[Round]) -> str:
    """Write what a hundred rules cost, divided by what one costs, for each path."""
    growths = {path: [one.growth(path) for one in rounds] for path in PATHS}
    return "\n".join(
        table_row([path, *spread(growth, 3), *verdict(growth, FLAT_TARGET)]) for path, growth in growths.items()
    )


def describe(rounds: list[Round], whole: list[Row], options: argparse.Namespace) -> str:
    """Write the results as Markdown: where, with what and how they were measured, and the tables."""
    requests = [one.request for one in rounds]
    compared = "\n".join(map(str, whole))
    return f"""\
# What path rules cost a request

Written by `python benchmarks/endpoints.py --rounds {options.rounds} --seconds {options.seconds} --write`.
What it measures and how to read it: [benchmarks/README.md](../README.md).

{circumstances()}
- deciding, {options.rounds} times: a call with rules minus one without, {TURNS} turns of {BATCH} calls each, in a new
  process, which begins with the verdicts of {REMEMBERED} paths in its memory
- a request, {options.rounds} times: uvicorn alone on the same core, no access log, {options.seconds} s of load by
  {CONNECTIONS} keep-alive connections, after {WARM_UP_SECONDS} s to warm up

A request of uvicorn took {median(requests):.1f} µs of CPU (median; {min(requests):.1f} to {max(requests):.1f}).

## Deciding

Nanoseconds of CPU that rules add to a request, and the same in per cent of a request of uvicorn in the same round.

| path | rules | median ns | min | max | median % | min | max | target | result |
|---|---|---|---|---|---|---|---|---|---|
{share_rows(rounds)}

## A hundred rules and one

What deciding costs with 100 rules, divided by what it costs with 1.

| path | median ratio | min | max | target | result |
|---|---|---|---|---|---|
{growth_rows(rounds)}

## Whole requests

duallisten with 10 rules divided by duallisten without, both loaded at the same time; in the control, without divided
by without. The last two columns are medians, for orientation.

| measured | median ratio | min | max | target | result | no rules | compared with it |
|---|---|---|---|---|---|---|---|
{compared}
"""


if __name__ == "__main__":
    main()
