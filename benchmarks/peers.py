"""duallisten beside every server that it would take the place of, in one run.

The works: the default flags and no access log (`throughput`); the same job, two addresses with a prefix hidden on one;
a FastAPI application; how connections spread over workers, and what the private side suffers (`isolation`); memory of
four workers; time to the first answer. Each is a comparison within one run on one machine, in alternating rounds.

It writes the tables, the chart, and the part of the page on performance that shows them, all from one run.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from support.chart import draw
from support.contenders import Contender, serving
from support.findings import Findings, Target, write
from support.isolation import WORKERS, largest_share, p99, probe_while_blocked, probe_while_busy, shares
from support.measuring import Cores, check_machine, load, memory
from support.reporting import ratios, read_options
from support.throughput import check_hidden, compare, cost_ratios, rate_ratios

from duallisten.sides import Side
from support import contenders as servers

ISOLATION_ROUNDS = 5
BLOCK_ROUNDS = 3
MEMORY_ROUNDS = 3

ITEM = "/items/7?size=l"
PUBLIC, PRIVATE = "duallisten, public side", "duallisten, private side"
SIDES: tuple[Side, Side] = ("public", "private")


def main() -> None:
    options = read_options("Compare duallisten with its peers.", Path("peers.md"))
    cores = check_machine(*servers.PROGRAMS)
    findings = Findings(options)
    for measure in (
        measure_hello,
        measure_two_sides,
        measure_fastapi,
        measure_balance,
        measure_isolation,
        measure_memory,
        measure_start,
    ):
        measure(findings, cores, options)
    write(findings, draw(findings))


def measure_hello(findings: Findings, cores: Cores, options: argparse.Namespace) -> None:
    """Measure the smallest application, with the default flags and without an access log."""
    log = compare("access log", servers.everyone("apps.hello:app", log=True), cores, options.rounds, options.seconds)
    findings.throughput["Default flags, access log on"] = log
    for name, times in (
        ("uvicorn", 1.8),
        ("granian", 1.4),
        ("gunicorn, uvicorn worker", 1.4),
        ("hypercorn", 7.0),
    ):
        promise = f"access log on, requests/s beside {name}"
        findings.targets.append(Target(promise, rate_ratios(log, PUBLIC, name), at_least=times))
    bare = compare(
        "no access log", servers.everyone("apps.hello:app", log=False), cores, options.rounds, options.seconds
    )
    findings.throughput["No access log"] = bare
    for name, other, times in ((PUBLIC, "uvicorn", 0.98), (PUBLIC, "granian", 1.0), (PRIVATE, "uvicorn", 1.05)):
        promise = f"no access log, {name.removeprefix('duallisten, ')}, requests/s beside {other}"
        findings.targets.append(Target(promise, rate_ratios(bare, name, other), at_least=times))
        cost = f"no access log, {name.removeprefix('duallisten, ')}, CPU of a request beside {other}"
        findings.targets.append(Target(cost, cost_ratios(bare, name, other), at_most=1 / times))


def measure_two_sides(findings: Findings, cores: Cores, options: argparse.Namespace) -> None:
    """Measure two addresses with a prefix hidden on one, on each of the two."""
    for side in SIDES:
        with tempfile.TemporaryDirectory() as folder:
            contenders = servers.two_sided(side, Path(folder))
            check_hidden(contenders, cores, side)
            title = f"Two addresses, a prefix hidden on the public one: {side} address"
            found = compare(title, contenders, cores, options.rounds, options.seconds)
        findings.throughput[title] = found
        ours, *others = found
        for name in others:
            promise = f"two addresses, {side} one, requests/s beside {name}"
            findings.targets.append(Target(promise, rate_ratios(found, ours, name), at_least=1.0))


def measure_fastapi(findings: Findings, cores: Cores, options: argparse.Namespace) -> None:
    """Measure a FastAPI application, with default flags; and uvicorn without its log, for what that costs."""
    contenders = [
        servers.uvicorn("apps.shop:app"),
        servers.uvicorn("apps.shop:app", log=False)._replace(name="uvicorn, no access log"),
        servers.duallisten("apps.shop:app"),
        servers.granian("apps.shop:app"),
        servers.gunicorn_uvicorn("apps.shop:app"),
    ]
    found = compare("FastAPI", contenders, cores, options.rounds, options.seconds, ITEM)
    findings.throughput["FastAPI, one JSON route with pydantic, default flags"] = found
    log = median(rate_ratios(found, "uvicorn, no access log", "uvicorn"))
    findings.targets.append(
        Target(
            "FastAPI, requests/s beside uvicorn; its log costs it that much", rate_ratios(found, PUBLIC, "uvicorn"), log
        )
    )


def measure_balance(findings: Findings, cores: Cores, options: argparse.Namespace) -> None:
    """Measure how connections spread over workers; on all cores, for that is what workers are for."""
    for contender in workers("apps.whoami:app"):
        found = shares(contender, cores.shared, options.rounds)
        findings.shares[contender.name] = found
        print(f"balance, {contender.name}: {found[0]}", file=sys.stderr)
    largest = [largest_share(counts) for counts in findings.shares["duallisten"]]
    findings.targets.append(Target("200 connections over 4 workers, largest share by the mean", largest, at_most=1.3))


def workers(app: str) -> list[Contender]:
    """Give servers with several workers each, without access logs."""
    count = ("--workers", str(WORKERS))
    return [
        servers.uvicorn(app, *count, log=False),
        servers.duallisten(app, *count, log=False, name="duallisten"),
        servers.granian(app, *count, log=False),
        servers.gunicorn_uvicorn(app, *count, log=False),
        servers.gunicorn_asgi(app, *count, log=False),
        servers.hypercorn(app, *count, log=False),
    ]


def measure_isolation(findings: Findings, cores: Cores, options: argparse.Namespace) -> None:
    """Measure the private side while the public one is busy, and while it is blocked."""
    del options
    own = ("--private-workers", "1")
    for number in range(ISOLATION_ROUNDS):
        for contender in (
            servers.uvicorn("apps.busy:app", log=False),
            servers.duallisten("apps.busy:app", log=False, side="private", name="duallisten, shared"),
            servers.duallisten(
                "apps.busy:app", *own, log=False, side="private", name="duallisten, --private-workers 1"
            ),
        ):
            public = contender.commands[0].ports[0]
            slow = p99(probe_while_busy(contender, public, cores))
            findings.busy.setdefault(contender.name, []).append(slow)
            if number < BLOCK_ROUNDS:
                slowest = probe_while_blocked(contender, public, cores)
                findings.blocked.setdefault(contender.name, []).append(slowest)
        print(f"isolation, {number + 1} of {ISOLATION_ROUNDS}", file=sys.stderr)
    isolated = findings.busy["duallisten, --private-workers 1"]
    shared = ratios(findings.busy["duallisten, shared"], findings.busy["uvicorn"])
    findings.targets += [
        Target("busy public side, private p99 in ms, --private-workers 1", isolated, at_most=10),
        Target("busy public side, private p99 beside uvicorn, shared", shared, at_most=1.05),
        Target(
            "blocked public side, slowest private answer in ms, --private-workers 1",
            findings.blocked["duallisten, --private-workers 1"],
            at_most=50,
        ),
    ]


def measure_memory(findings: Findings, cores: Cores, options: argparse.Namespace) -> None:
    """Measure the memory of four workers of a FastAPI application, each of which has answered."""
    count = ("--workers", str(WORKERS))
    preload = servers.duallisten("apps.shop:app", *count, "--preload", log=False, name="duallisten, --preload")
    gunicorn = servers.gunicorn_uvicorn("apps.shop:app", *count, "--preload", log=False)
    contenders = [*workers("apps.shop:app"), preload, gunicorn._replace(name="gunicorn, uvicorn worker, --preload")]
    for number in range(MEMORY_ROUNDS):
        for contender in contenders:
            with serving(contender, cores) as processes:
                time.sleep(1)  # until every worker accepts
                load([contender.commands[0]._replace(loaded=contender.loaded, path=ITEM)], cores, options.seconds)
                findings.memory.setdefault(contender.name, []).append(sum(map(memory, processes)))
        print(f"memory, {number + 1} of {MEMORY_ROUNDS}", file=sys.stderr)
    for name, most in (("duallisten, --preload", 0.55), ("duallisten", 1.0)):
        beside = ratios(findings.memory[name], findings.memory["uvicorn"])
        findings.targets.append(Target(f"memory of 4 FastAPI workers beside uvicorn, {name}", beside, at_most=most))


def measure_start(findings: Findings, cores: Cores, options: argparse.Namespace) -> None:
    """Measure the time from just before a server is made until each of its listeners has answered."""
    contenders = [one for one in servers.everyone("apps.hello:app", log=True) if one.name != PRIVATE]
    for _ in range(options.rounds):
        for contender in contenders:
            begin = time.perf_counter()
            with serving(contender, cores):
                findings.starts.setdefault(contender.name, []).append((time.perf_counter() - begin) * 1e3)
    beside = ratios(findings.starts[PUBLIC], findings.starts["uvicorn"])
    findings.targets.append(Target("start until both listeners answer, beside uvicorn's one", beside, at_most=1.15))


if __name__ == "__main__":
    main()
