"""Deployments as a neighbour sees them who asks through a registry: three instances are replaced, and nothing fails."""

from __future__ import annotations

import asyncio
import signal
from contextlib import ExitStack
from typing import NamedTuple

from duallisten.registry import Registry
from duallisten.registry.http import client, httpx
from tests.registry.conftest import NETWORKS
from tests.registry.databases import Database
from tests.registry.serving import served
from tests.support.running import DEADLINE, Launched

CLIENTS = 2


class Seen(NamedTuple):
    """What clients have seen: the processes that have answered, and what failed."""

    processes: set[int]
    failures: list[str]


async def load(http: httpx.AsyncClient, seen: Seen, enough: asyncio.Event) -> None:
    """Ask all the time."""
    while not enough.is_set():
        try:
            answer = await http.post("/", content=b"not to be sent twice")
            seen.processes.add(answer.json()["process"])
        except (httpx.HTTPError, ValueError, KeyError) as error:
            seen.failures.append(repr(error))


async def until_ready(registry: Registry, *names: str) -> None:
    """Wait until these, and no others, are ready."""
    async for instances in registry.watch("billing"):
        if sorted(one.id for one in instances if one.state == "ready") == sorted(names):
            return


async def test_a_rolling_replacement_under_load_fails_no_request(database: Database) -> None:
    seen, enough = Seen(set(), []), asyncio.Event()
    with ExitStack() as stack:

        def start(name: str) -> Launched:
            return stack.enter_context(served(database.url, "billing", name, "--private-linger", "0.5"))

        old = {name: start(name) for name in ("1", "2", "3")}
        async with (
            asyncio.timeout(2 * DEADLINE),
            Registry(database.url, networks=NETWORKS) as registry,
            client("billing", database.url, networks=NETWORKS, timeout=DEADLINE) as http,
        ):
            await until_ready(registry, *old)
            clients = [asyncio.create_task(load(http, seen, enough)) for _ in range(CLIENTS)]
            there = set(old)
            for name, instance in old.items():
                start(f"{name}'")
                there.add(f"{name}'")
                await until_ready(registry, *there)
                instance.send(signal.SIGTERM)
                there.remove(name)
                await until_ready(registry, *there)
            for instance in old.values():
                await asyncio.to_thread(instance.process.wait, DEADLINE)
            assert {one.id for one in await registry.instances("billing")} == there, "who has ended is not there"
            gone = {instance.process.pid for instance in old.values()}
            while len(seen.processes) < 6 and not seen.failures:
                await asyncio.sleep(0.01)
            seen.processes.clear()
            while len(seen.processes) < 3 and not seen.failures:
                await asyncio.sleep(0.01)
            enough.set()
            await asyncio.gather(*clients)
    assert seen.failures == []
    assert not seen.processes & gone
