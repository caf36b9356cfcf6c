"""What duallisten costs beside uvicorn: CPU time of a request, and time from process start to the first answer.

Both are ratios, duallisten divided by uvicorn, from one run on one machine. Every round gives one ratio, rounds swap
the order, and the median is the figure: a slow or busy machine makes both slow and leaves the ratio.

CPU of a request: both servers loaded at the same time, on one core (`measuring`). A second uvicorn beside uvicorn is
measured in the same way, as the control: as far as that ratio is from 1, the method errs.

Start: from just before the process is made until every listener has answered a GET, asked every millisecond; that is
uvicorn's one listener, and both of duallisten's. One server at a time, in turns.
"""

from __future__ import annotations

import argparse
import time

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
    running,
)
from support.reporting import Row, circumstances, in_turn, publish, read_options, tell

RESULTS = HERE / "results" / "launch.md"

CPU_TARGETS = {("public", False): 0.70, ("private", False): 0.68, ("public", True): 0.30, ("private", True): 0.30}
"""The ratios that are promised, by the listener and whether there is an access log."""

START_TARGET = 1.15

STARTS_PER_ROUND = 3
WARM_UP_STARTS = 2
LEAST_STARTS = 15


def main() -> None:
    options = read_options("Measure what duallisten costs beside uvicorn.", RESULTS)
    cores = check_machine()
    rows = [
        *compare_cpu(cores, options.rounds, options.seconds, access_log=False),
        *compare_cpu(cores, options.rounds, options.seconds, access_log=True),
        compare_starts(cores, max(LEAST_STARTS, STARTS_PER_ROUND * options.rounds)),
    ]
    publish(describe(rows, options), RESULTS, write=options.write)


def compare_cpu(cores: Cores, rounds: int, seconds: int, *, access_log: bool) -> list[Row]:
    """Compare a second uvicorn and both of duallisten's listeners with uvicorn."""
    flags = () if access_log else ("--no-access-log",)
    log = "access log" if access_log else "no access log"
    rows = {
        "control": Row(f"CPU per request, control, {log}", [], None, "µs"),
        "public": Row(f"CPU per request, public listener, {log}", [], CPU_TARGETS["public", access_log], "µs"),
        "private": Row(f"CPU per request, private listener, {log}", [], CPU_TARGETS["private", access_log], "µs"),
    }
    for number in range(rounds):
        for name, row in rows.items():
            costs = measure_cpu(in_turn(servers(name, *flags), number), cores, seconds)
            row.pairs.append(in_turn(costs, number))
            tell(row, rounds)
    return list(rows.values())


def compare_starts(cores: Cores, rounds: int) -> Row:
    """Compare the times from process start until every listener has answered."""
    row = Row("start to first answer, both listeners", [], START_TARGET, "ms")
    for number in range(-WARM_UP_STARTS, rounds):
        first, second = in_turn(servers("public"), number)
        took = measure_start(first, cores), measure_start(second, cores)
        if number >= 0:
            row.pairs.append(in_turn(took, number))
            tell(row, rounds)
    return row


def measure_start(command: Command, cores: Cores) -> float:
    """Milliseconds from just before the process is made until each listener has answered."""
    begin = time.perf_counter()
    with running(command, cores):
        return (time.perf_counter() - begin) * 1e3


def servers(compared: str, *flags: str) -> tuple[Command, Command]:
    """Give uvicorn and what is compared with it, with the same flags, on ports that are free now.

    compared: `control` for a second uvicorn; `public` or `private` for duallisten, with that listener to be loaded
    """
    port, public, private = free_ports(3)
    uvicorn = ("uvicorn", "apps.hello:app", *flags, "--port")
    base = Command((*uvicorn, str(port)), (port,), loaded=port)
    if compared == "control":
        return base, Command((*uvicorn, str(public)), (public,), loaded=public)
    return base, duallisten((public, private), *flags, side=compared)


def describe(rows: list[Row], options: argparse.Namespace) -> str:
    """Write the results as Markdown: where, with what and how they were measured, and the table."""
    table = "".join(f"{row}\n" for row in rows)
    return f"""\
# duallisten beside uvicorn

Written by `python benchmarks/launch.py --rounds {options.rounds} --seconds {options.seconds} --write`.
What it measures and how to read it: [benchmarks/README.md](../README.md).

{circumstances()}
- CPU per request, {options.rounds} times: {options.seconds} s of load on two servers at the same time, which share
  one core, by {CONNECTIONS} keep-alive connections each, after {WARM_UP_SECONDS} s to warm up
- start, {len(rows[-1].pairs)} times: after {WARM_UP_STARTS} to warm up

A ratio is duallisten divided by uvicorn (in the control, uvicorn divided by uvicorn) in one round. The last two columns
are medians, for orientation.

| measured | median ratio | min | max | target | result | uvicorn | compared with it |
|---|---|---|---|---|---|---|---|
{table}"""


if __name__ == "__main__":
    main()
