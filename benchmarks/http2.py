"""HTTP/2 beside other servers: CPU of a request, requests a second; what floods cost others, and memory.

CPU: ratios of duallisten to each other server, both loaded at the same time on one core by `h2load` (Debian's
nghttp2-client), on one connection with 64 streams. Where a server ends connections after so many requests, h2load
begins new ones. Floods: while a public connection floods, the longest turn of the event loop (CPU), the longest that a
private request takes on a connection of its own (wall clock), and how memory grows.
"""

from __future__ import annotations

import argparse
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from statistics import median
from urllib.request import urlopen

from support.measuring import (
    HERE,
    Command,
    Cores,
    check_machine,
    cpu_seconds,
    duallisten,
    free_ports,
    memory,
    pinned,
    running,
    stop,
)
from support.reporting import Row, circumstances, in_turn, publish, read_options, table_row, tell

RESULTS = HERE / "results" / "http2.md"
STREAMS = 64
SILENT = "--no-access-log"
APP = "apps.hello:app"

PEERS = {"hypercorn": 3.0, "granian": None, "uvicorn with zttp": 1.0}
"""By what they are called: how many times their requests a second are asked for."""

FLOODS = (
    "PING", "SETTINGS", "PRIORITY", "WINDOW_UPDATE", "empty DATA", "DATA of 16 bytes", "streams reset at once",
    "streams without end", "windows opened byte by byte", "CONTINUATION", "a small block that is large",
    "a block of 3,000 fields", "zero windows",
)  # fmt: skip
FLOOD_TARGET = 20.0
"""Milliseconds."""


def main() -> None:
    options = read_options("Measure HTTP/2 beside other servers.", RESULTS)
    cores = check_machine("hypercorn", "granian")
    if shutil.which("h2load") is None:
        stop("h2load is not installed; it makes the load (Debian: apt install nghttp2-client)")
    rows = [Row(name, [], 1 / target if target else None, "µs") for name, target in PEERS.items()]
    rates: dict[str, list[tuple[float, ...]]] = {name: [] for name in PEERS}
    for number in range(options.rounds):
        for row in rows:
            pair = in_turn(servers(row.name), number)
            costs, done = measure(pair, cores, options.seconds)
            row.pairs.append(in_turn(costs, number))
            rates[row.name].append(in_turn(done, number))
            tell(row, options.rounds)
    floods = {name: [flood(name, cores, options.seconds) for _ in range(min(options.rounds, 5))] for name in FLOODS}
    publish(describe(rows, rates, floods, options), RESULTS, write=options.write)


def servers(name: str) -> tuple[Command, Command]:
    """Give another server and duallisten, both without an access log."""
    port, public, private = free_ports(3)
    arguments = {
        "hypercorn": ("hypercorn", APP, "-k", "uvloop", "-b", f"127.0.0.1:{port}"),
        "granian": ("granian", "--interface", "asgi", "--http", "auto", "--no-ws", "--port", str(port), APP),
        "uvicorn with zttp": ("uvicorn", APP, "--http", "zttp", "--http2", SILENT, "--port", str(port)),
    }[name]  # fmt: skip
    return Command(arguments, (port,), loaded=port), duallisten((public, private), SILENT, "--http2")


def measure(commands: tuple[Command, ...], cores: Cores, seconds: int) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Run and load servers at the same time; microseconds of CPU per request of each, and requests a second of CPU."""
    with ExitStack() as stack:
        processes = [stack.enter_context(running(command, cores)) for command in commands]
        load(commands, cores, 1)
        before = [cpu_seconds(process.pid) for process in processes]
        requests = load(commands, cores, seconds)
        after = [cpu_seconds(process.pid) for process in processes]
    costs = tuple((end - begin) / done * 1e6 for begin, end, done in zip(before, after, requests, strict=True))
    return costs, tuple(1e6 / cost for cost in costs)


def load(commands: tuple[Command, ...], cores: Cores, seconds: int) -> list[int]:
    """Load servers at the same time; the requests that each answered."""
    with pinned(cores.clients):
        loads = [
            subprocess.Popen(
                ("h2load", f"-D{seconds}", "-c1", f"-m{STREAMS}", f"http://127.0.0.1:{command.loaded}/"),
                stdout=subprocess.PIPE,
                text=True,
            )
            for command in commands
        ]
    return [succeeded(one.communicate()[0]) for one in loads]


def succeeded(told: str) -> int:
    found = re.search(r"(\d+) succeeded", told)
    if found is None or int(found[1]) == 0:
        stop(f"h2load got no answers; it said:\n{told}")
    return int(found[1])


def flood(kind: str, cores: Cores, seconds: int) -> tuple[float, float, float]:
    """The longest turn of the event loop and private answer in milliseconds, and MiB by which memory has grown."""
    public, private = free_ports(2)
    base = duallisten((public, private), SILENT, "--http2")
    command = base._replace(arguments=tuple("apps.http2:app" if one == APP else one for one in base.arguments))
    arguments = (sys.executable, str(HERE / "support" / "http2_load.py"), kind, str(public), str(seconds))
    with running(command, cores) as process, pinned(cores.clients):
        lag(private)  # begins to be measured
        before = memory(process.pid)
        with subprocess.Popen(arguments, stdout=subprocess.DEVNULL) as flooding:
            longest = longest_answer(private, lambda: flooding.poll() is None)
        if flooding.returncode != 0:
            stop("a flood has failed")
        return lag(private), longest, memory(process.pid) - before


def longest_answer(port: int, goes_on: Callable[[], bool]) -> float:
    """Ask every 5 ms on one connection; milliseconds of the longest answer."""
    longest = 0.0
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        while goes_on():
            begin = time.perf_counter()
            client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            client.recv(1 << 16)
            longest = max(longest, time.perf_counter() - begin)
            time.sleep(0.005)
    return longest * 1e3


def lag(port: int) -> float:
    with urlopen(f"http://127.0.0.1:{port}/lag") as answer:
        return float(answer.read())


def describe(
    rows: list[Row],
    rates: dict[str, list[tuple[float, ...]]],
    floods: dict[str, list[tuple[float, float, float]]],
    options: argparse.Namespace,
) -> str:
    """Write the results as Markdown."""
    table = "".join(f"{row}\n" for row in rows)
    times = ""
    for name, pairs in rates.items():
        ratio = median(ours / theirs for theirs, ours in pairs)
        times += (
            table_row([name, f"{ratio:.1f}", *(f"{median(values):,.0f}" for values in zip(*pairs, strict=True))]) + "\n"
        )
    flooded = ""
    for name, seen in floods.items():
        turns, waits, grown = zip(*seen, strict=True)
        cells = [name, *(f"{value:.1f} ms" for value in (median(turns), max(turns), median(waits), max(waits)))]
        flooded += (
            table_row([*cells, f"{max(grown):+.1f} MiB", "met" if max(waits) <= FLOOD_TARGET else "missed"]) + "\n"
        )
    return f"""\
# HTTP/2 beside other servers

Written by `python benchmarks/http2.py --rounds {options.rounds} --seconds {options.seconds} --write`.
What it measures and how to read it: [benchmarks/README.md](../README.md).

{circumstances("hpack", "hypercorn", "granian", "zttp")}

CPU of a request at {STREAMS} streams, a ratio to the other server in each round; the last two columns are medians.

| beside | median ratio | min | max | target | result | it | duallisten |
|---|---|---|---|---|---|---|---|
{table}
Requests in a second of CPU.

| beside | duallisten's as a multiple | it | duallisten |
|---|---|---|---|
{times}
Under floods: the longest turn of the event loop (CPU), the longest private answer (target {FLOOD_TARGET:g} ms), and how
memory grows.

| flood | turn, median | turn, max | answer, median | answer, max | memory | result |
|---|---|---|---|---|---|---|
{flooded}"""


if __name__ == "__main__":
    main()
