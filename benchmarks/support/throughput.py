"""Requests a second, and CPU of a request, of servers that do the same work in turns.

All servers of a work are started first and stay up, idle, on the servers' core. In each round each of them is loaded
for some seconds, one after the other, so that what a round compares lies seconds apart; every second round goes the
other way round. Each round gives one ratio for each pair that is compared, and the median of the rounds is the figure.

Requests a second hold whatever slows a server down, the rest of the machine included. CPU of a request, from the
processes' own times (`measuring.cpu_seconds`), holds only what the server itself has used up, and is steadier.
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from statistics import median
from typing import NamedTuple

from support.contenders import Contender, serving
from support.measuring import (
    CONNECTIONS,
    WARM_UP_SECONDS,
    Command,
    Cores,
    answers_with,
    cpu_seconds,
    load,
    memory,
    stop,
)
from support.reporting import ratios


class Measured(NamedTuple):
    """What one server did, a value for each round.

    rates: requests a second
    costs: microseconds of CPU of a request
    memory: MiB of all its processes after the load; what they share is divided among them
    """

    rates: list[float]
    costs: list[float]
    memory: list[float]

    @property
    def rate(self) -> float:
        """The median of the requests a second."""
        return median(self.rates)

    @property
    def cost(self) -> float:
        """The median of the CPU of a request, in microseconds."""
        return median(self.costs)


Throughput = dict[str, Measured]
"""What each server of a work did, by its name."""


def compare(
    title: str, contenders: list[Contender], cores: Cores, rounds: int, seconds: int, path: str = "/"
) -> Throughput:
    """Measure servers in turns.

    seconds: how long each is loaded in each round
    path: what is asked of all
    """
    measured = {contender.name: Measured([], [], []) for contender in contenders}
    with ExitStack() as stack:
        processes = {contender.name: stack.enter_context(serving(contender, cores)) for contender in contenders}
        targets = {contender.name: Command((), (), contender.loaded, path) for contender in contenders}
        for target in targets.values():
            load([target], cores, WARM_UP_SECONDS)
        for number in range(rounds):
            for name in list(measured) if number % 2 == 0 else reversed(list(measured)):
                before = sum(map(cpu_seconds, processes[name]))
                (requests,) = load([targets[name]], cores, seconds)
                used = sum(map(cpu_seconds, processes[name])) - before
                measured[name].rates.append(requests / seconds)
                measured[name].costs.append(used / requests * 1e6)
                measured[name].memory.append(sum(map(memory, processes[name])))
            print(f"{title}, {number + 1} of {rounds}", file=sys.stderr)
    return measured


def check_hidden(contenders: list[Contender], cores: Cores, side: str) -> None:
    """See that each contender does the work that is compared: the prefix is hidden on the public address alone."""
    for contender in contenders:
        with serving(contender, cores):
            status = b"404" if side == "public" else b"200"
            if not answers_with(contender.loaded, status, "/internal/stock"):
                stop(f"{contender.name} does not answer {status.decode()} for what is internal on its {side} address")


def rate_ratios(measured: Throughput, name: str, other: str) -> list[float]:
    """Give the ratios of requests a second, one for each round."""
    return ratios(measured[name].rates, measured[other].rates)


def cost_ratios(measured: Throughput, name: str, other: str) -> list[float]:
    """Give the ratios of the CPU of a request, one for each round."""
    return ratios(measured[name].costs, measured[other].costs)


def describe_load(rounds: int, seconds: int) -> str:
    """Tell how the load was made."""
    return f"{rounds} rounds of {seconds} s for each server in turns, {CONNECTIONS} keep-alive connections of wrk"
