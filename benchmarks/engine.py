"""The HTTP engine beside uvicorn's: CPU of a request, of a WebSocket message and of a gigabyte; latency under floods.

CPU: ratios of duallisten to uvicorn with the same flags, both loaded at the same time on one core (`measuring`).
Floods: the longest time that a private request takes on a new connection while one public connection sends what makes
much work; in milliseconds, of duallisten alone, for uvicorn has no private side.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from contextlib import ExitStack
from statistics import median

from support.measuring import (
    HERE,
    WARM_UP_SECONDS,
    Command,
    Cores,
    check_machine,
    cpu_seconds,
    duallisten,
    free_ports,
    measure_cpu,
    memory,
    pinned,
    running,
    stop,
)
from support.reporting import Row, circumstances, in_turn, publish, read_options, table_row, tell

RESULTS = HERE / "results" / "engine.md"
SILENT = ("--no-access-log",)

REQUESTS = {
    "hello, no access log, public": ("public", "apps.hello:app", SILENT, 0.70),
    "hello, no access log, private": ("private", "apps.hello:app", SILENT, 0.68),
    "hello, default flags, public": ("public", "apps.hello:app", (), 0.30),
    "hello, --http h11, no access log, public": ("public", "apps.hello:app", (*SILENT, "--http", "h11"), 0.85),
    "FastAPI with a pydantic model, no access log, public": ("public", "apps.shop:app", SILENT, 0.90),
}
"""By what they are called: the side that is loaded, the application, the flags of both, the target."""

LOADS = {
    "a WebSocket message of 32 bytes, 64 clients": ("websocket", 1e6, "µs", 1.0),
    "1 GiB up": ("up", 1e3 * (1 << 30), "ms", 1.0),
    "1 GiB down": ("down", 1e3 * (1 << 30), "ms", 1.0),
}
"""By what they are called: the kind of load, the factor from CPU seconds of one thing to the unit, and the target."""

FLOODS = {"chunks of one byte (row 20)": "chunks", "pongs without a payload (row 21)": "pongs"}
FLOOD_TARGET = 20.0
"""Milliseconds."""


def main() -> None:
    options = read_options("Measure the HTTP engine beside uvicorn's.", RESULTS)
    cores = check_machine()
    rows = [Row(name, [], target, "µs") for name, (*_, target) in REQUESTS.items()]
    others = [Row(name, [], target, unit) for name, (_, _, unit, target) in LOADS.items()]
    grown: dict[str, list[float]] = {"1 GiB up": [], "1 GiB down": []}
    for number in range(options.rounds):
        for row, (side, app, flags, _) in zip(rows, REQUESTS.values(), strict=True):
            commands = in_turn(servers(side, app, *flags), number)
            row.pairs.append(in_turn(measure_cpu(commands, cores, options.seconds), number))
            tell(row, options.rounds)
        for row, (kind, factor, _, _) in zip(others, LOADS.values(), strict=True):
            pair = in_turn(servers("public", "apps.engine:app", *SILENT), number)
            costs, growth = measure_load(pair, kind, cores, options.seconds)
            row.pairs.append(in_turn(tuple(cost * factor for cost in costs), number))
            if row.name in grown:
                grown[row.name].append(in_turn(growth, number)[1])
            tell(row, options.rounds)
    floods = {
        name: [flood(kind, cores, options.seconds) for _ in range(options.rounds)] for name, kind in FLOODS.items()
    }
    publish(describe([*rows, *others], grown, floods, options), RESULTS, write=options.write)


def servers(side: str, app: str, *flags: str) -> tuple[Command, Command]:
    """Give uvicorn and duallisten with one application and the same flags."""
    port, public, private = free_ports(3)
    path = "/items/7" if app == "apps.shop:app" else "/"
    base = Command(("uvicorn", app, *flags, "--port", str(port)), (port,), loaded=port, path=path)
    ours = duallisten((public, private), *flags, side=side, path=path)
    return base, ours._replace(arguments=tuple(app if one == "apps.hello:app" else one for one in ours.arguments))


def measure_load(
    commands: tuple[Command, ...], kind: str, cores: Cores, seconds: int
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Run servers under a load of `engine_load`; CPU seconds of one thing, and MiB by which each has grown."""
    with ExitStack() as stack:
        processes = [stack.enter_context(running(command, cores)) for command in commands]
        if kind == "websocket":
            load(commands, kind, cores, WARM_UP_SECONDS)
        before = [(cpu_seconds(process.pid), memory(process.pid)) for process in processes]
        done = load(commands, kind, cores, seconds)
        after = [(cpu_seconds(process.pid), memory(process.pid)) for process in processes]
    return (
        tuple((end[0] - begin[0]) / count for begin, end, count in zip(before, after, done, strict=True)),
        tuple(end[1] - begin[1] for begin, end in zip(before, after, strict=True)),
    )


def load(commands: tuple[Command, ...], kind: str, cores: Cores, seconds: float) -> list[float]:
    """Load servers at the same time, and give what each has done."""
    with pinned(cores.clients):
        clients = [client(kind, command.loaded, seconds) for command in commands]
    return [result(one) for one in clients]


def client(kind: str, port: int, seconds: float) -> subprocess.Popen[str]:
    arguments = (sys.executable, str(HERE / "support" / "engine_load.py"), kind, str(port), str(seconds))
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen[str]) -> float:
    told = process.communicate()[0]
    if process.returncode != 0:
        stop("a client got something else than answers")
    return float(told)


def flood(kind: str, cores: Cores, seconds: int) -> float:
    """The longest private request, in milliseconds, while a public connection floods."""
    _, ours = servers("private", "apps.engine:app", *SILENT)
    with running(ours, cores), pinned(cores.clients):
        flooding = client(kind, ours.ports[0], seconds + 1.0)
        waited = result(client("latency", ours.ports[1], seconds))
        result(flooding)
    return waited


def describe(
    rows: list[Row], grown: dict[str, list[float]], floods: dict[str, list[float]], options: argparse.Namespace
) -> str:
    """Write the results as Markdown."""
    table = "".join(f"{row}\n" for row in rows)
    memory_rows = "".join(
        table_row([name, *(f"{value:+.1f} MiB" for value in (median(values), min(values), max(values)))]) + "\n"
        for name, values in grown.items()
    )
    flood_rows = "".join(
        table_row(
            [
                name,
                *(f"{value:.1f} ms" for value in (median(values), min(values), max(values), FLOOD_TARGET)),
                "met" if median(values) <= FLOOD_TARGET else "missed",
            ]
        )
        + "\n"
        for name, values in floods.items()
    )
    return f"""\
# The HTTP engine beside uvicorn's

Written by `python benchmarks/engine.py --rounds {options.rounds} --seconds {options.seconds} --write`.
What it measures and how to read it: [benchmarks/README.md](../README.md).

{circumstances("h11", "websockets")}

CPU, a ratio to uvicorn in each round; the last two columns are medians.

| measured | median ratio | min | max | target | result | uvicorn | duallisten |
|---|---|---|---|---|---|---|---|
{table}
Memory of duallisten after the transfer, beside before.

| transfer | median | min | max |
|---|---|---|---|
{memory_rows}
The longest private request while one public connection floods.

| flood | median | min | max | target | result |
|---|---|---|---|---|---|
{flood_rows}"""


if __name__ == "__main__":
    main()
