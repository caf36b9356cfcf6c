"""What it costs to be observed: CPU of a request with health, metrics, request ids and lines of JSON.

All of it is compared with a launch by default, which has uvicorn's access log. What costs least is seen best where
neither server writes a line.

Ratios of duallisten with something to duallisten without it, both loaded at the same time on one core (`measuring`),
the median of all rounds; a second duallisten without anything is the control.
"""

from __future__ import annotations

import argparse

from support.measuring import CONNECTIONS, HERE, WARM_UP_SECONDS, check_machine, duallisten, free_ports, measure_cpu
from support.reporting import Row, circumstances, in_turn, publish, read_options, tell

RESULTS = HERE / "results" / "observing.md"

ON = ("--private-health", "/-", "--private-metrics", "/metrics", "--request-id-header", "X-Request-ID")
SILENT = ("--no-access-log",)
TEXT: tuple[str, ...] = ()
JSON = ("--log-format", "json")

COMPARISONS = {
    "control: nothing on, no access log, both": ("public", SILENT, SILENT, None),
    "health and metrics, no access log, public": ("public", SILENT, (*SILENT, *ON[:4]), 1.03),
    "the same and request ids, no access log, public": ("public", SILENT, (*SILENT, *ON), 1.03),
    "the same and request ids, no access log, private": ("private", SILENT, (*SILENT, *ON), 1.03),
    "lines of JSON, with request ids, beside lines of text": ("public", TEXT, JSON, 1.08),
    "everything, beside a launch by default, public": ("public", TEXT, (*JSON, *ON[:4]), 1.03),
    "everything, beside a launch by default, private": ("private", TEXT, (*JSON, *ON[:4]), 1.03),
}
"""By what they are called: the side that is loaded, the options of the one and the other, the target."""


def main() -> None:
    options = read_options("Measure what it costs to be observed.", RESULTS)
    cores = check_machine()
    rows = [Row(name, [], target, "µs") for name, (_, _, _, target) in COMPARISONS.items()]
    for number in range(options.rounds):
        for row, (side, without, with_it, _) in zip(rows, COMPARISONS.values(), strict=True):
            ports = free_ports(4)
            pair = duallisten(ports[:2], *without, side=side), duallisten(ports[2:], *with_it, side=side)
            commands = in_turn(pair, number)
            row.pairs.append(in_turn(measure_cpu(commands, cores, options.seconds), number))
            tell(row, options.rounds)
    publish(describe(rows, options), RESULTS, write=options.write)


def describe(rows: list[Row], options: argparse.Namespace) -> str:
    """Write the results as Markdown."""
    table = "".join(f"{row}\n" for row in rows)
    return f"""\
# What it costs to be observed

Written by `python benchmarks/observing.py --rounds {options.rounds} --seconds {options.seconds} --write`.
What it measures and how to read it: [benchmarks/README.md](../README.md).

{circumstances()}
- CPU per request, {options.rounds} times: {options.seconds} s of load on two servers at the same time, which share
  one core, by {CONNECTIONS} keep-alive connections each, after {WARM_UP_SECONDS} s to warm up

A ratio is duallisten with what the line names, divided by duallisten without it, in one round. The last two columns are
medians, for orientation.

| measured | median ratio | min | max | target | result | without | with it |
|---|---|---|---|---|---|---|---|
{table}"""


if __name__ == "__main__":
    main()
