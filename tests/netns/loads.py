"""Peers that ask all the while: what a router's clients and a neighbour send, and what becomes of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from tests.netns.topology import Namespace
from tests.support.running import PYTHON, Launched

LOAD = Path(__file__).with_name("load.py")


@dataclass(frozen=True)
class Order:
    """What `load.py` is to do, in its terms.

    record: a file with the address to ask at, `host:port`
    ttl: seconds for which a client remembers it
    clients: how many ask at a time
    pooled: how many of them keep their connections; nginx closes those of clients when it takes a new configuration
    pause: seconds between two requests of a client
    """

    record: str
    ttl: float
    clients: int = 6
    pooled: int = 0
    pause: float = 0.01


@dataclass
class Load:
    """What became of it, once it has ended."""

    answers: int = 0
    failures: list[str] = field(default_factory=list)


@contextmanager
def load(peer: Namespace, order: Order) -> Iterator[Load]:
    """Ask from `peer` for as long as the block lasts."""
    result = Load()
    with Launched(peer.inside(*PYTHON, "-I", "-S", str(LOAD), json.dumps(asdict(order)))) as clients:
        yield result
        clients.say("enough")
        clients.wait()
        result.__dict__.update(json.loads(clients.output))
