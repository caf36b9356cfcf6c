"""Finding others: the instances of a service, now and as they come and go."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from duallisten.errors import UsageError
from duallisten.registry import Backend, Instance, Registry, RegistryError, Write
from duallisten.registry.backend import make_backend
from duallisten.registry.entry import to_json
from tests.registry.databases import PASSWORD, Database, RedisServer
from tests.support.running import DEADLINE


@pytest.fixture
async def backend(database: Database) -> AsyncIterator[Backend]:
    made = make_backend(database.url)
    yield made
    await made.aclose()


def instance(name: str, service: str = "billing", **more: object) -> Instance:
    return Instance(service, name, "10.240.0.5", 9240)._replace(**more)  # type: ignore[arg-type]


async def put(backend: Backend, one: Instance, number: int = 1, *, gone: bool = False, lasts: float = 60.0) -> None:
    body = "" if gone else to_json(one)
    assert await backend.write(Write(one.service, one.id, one.id, 0, number, lasts, body))


async def test_each_service_has_its_instances(registry: Registry, backend: Backend) -> None:
    assert await registry.instances("billing") == ()
    a, b, c = instance("a"), instance("b", state="draining"), instance("c", "shipping")
    for one in (c, b, a):
        await put(backend, one)
    assert await registry.instances("billing") == (a, b)
    assert await registry.instances() == (a, b, c)


async def test_a_thousand_instances_are_found(registry: Registry, backend: Backend) -> None:
    for number in range(1000):
        await put(backend, instance(f"{number:04}"))
    found = await registry.instances("billing")
    assert [one.id for one in found] == [f"{number:04}" for number in range(1000)]


async def test_who_watches_sees_each_change(registry: Registry, backend: Backend) -> None:
    a, b = instance("a"), instance("b")
    async with asyncio.timeout(DEADLINE), aclosing(registry.watch("billing")) as changes:
        assert await anext(changes) == ()
        await put(backend, a, lasts=0.5)
        assert await anext(changes) == (a,)
        await put(backend, b)
        assert await anext(changes) == (a, b)
        assert await anext(changes) == (b,), "a has expired"
        await put(backend, b._replace(state="draining"), 2)
        assert await anext(changes) == (b._replace(state="draining"),)
        await put(backend, b, 3, gone=True)
        assert await anext(changes) == ()


async def test_who_watches_all_sees_all(registry: Registry, backend: Backend) -> None:
    async with asyncio.timeout(DEADLINE), aclosing(registry.watch()) as changes:
        assert await anext(changes) == ()
        await put(backend, instance("a"))
        assert await anext(changes) == (instance("a"),)
        await put(backend, instance("a", "shipping"))
        assert await anext(changes) == (instance("a"), instance("a", "shipping"))


async def test_who_watches_sees_no_change_while_the_registry_is_away(
    database: Database, registry: Registry, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    async with asyncio.timeout(DEADLINE), aclosing(registry.watch("billing")) as changes:
        await put(backend, instance("a"))
        assert await anext(changes) == (instance("a"),)
        coming = asyncio.ensure_future(anext(changes))
        await asyncio.to_thread(database.stop)
        while not caplog.records:
            await asyncio.sleep(0.01)
        with pytest.raises(RegistryError, match=r"the connection was (refused|lost)"):
            await registry.instances("billing")
        await asyncio.to_thread(database.start)
        other = make_backend(database.url)
        await put(other, instance("a"), 2)
        await put(other, instance("b"))
        while await coming != (instance("a"), instance("b")):
            coming = asyncio.ensure_future(anext(changes))
        await other.aclose()
    assert [record.levelno for record in caplog.records] == [logging.WARNING]
    assert "Lookup of billing failed: " in caplog.text


async def test_a_registry_that_hangs_is_given_up_in_time(database: Database) -> None:
    async with Registry(database.url, timeout=0.3) as registry:
        await registry.instances("billing")
        database.hold()
        with pytest.raises(RegistryError, match="timed out"):
            await registry.instances("billing")
        database.resume()
        assert await registry.instances("billing") == ()


async def test_a_connection_that_was_closed_while_idle_is_made_anew(database: Database, registry: Registry) -> None:
    await registry.instances("billing")
    await asyncio.to_thread(database.stop)
    await asyncio.to_thread(database.start)
    assert await registry.instances("billing") == ()


async def test_what_cannot_be_read_is_passed_over_with_one_warning(
    database: Database, registry: Registry, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    await put(backend, instance("good"))
    for name, body in {
        "broken": "{",
        "elsewhere": to_json(instance("good")),
        "wild": to_json(instance("wild", address="evil.example")),
        "red": to_json(instance("red", version="\x1b[31m")),
    }.items():
        await asyncio.to_thread(database.write_raw, "billing", name, body)
    assert await registry.instances("billing") == (instance("good"),)
    assert await registry.instances("billing") == (instance("good"),)
    (record,) = caplog.records
    assert "evil" not in record.getMessage()


GOOD = ("10.240.0.5", "100.64.0.7", "172.31.0.1", "192.168.1.1", "fdaa::5", "::ffff:10.240.0.6")
ASTRAY = ("127.0.0.1", "::1", "::ffff:127.0.0.1", "203.0.113.7", "172.32.0.1", "2001:db8::7")
"""Addresses that are followed only where they are asked for."""
LINK_LOCAL = (
    "169.254.169.254",
    "::ffff:169.254.169.254",
    "fe80::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "100.100.100.200",
)
"""Addresses that are never followed."""


async def test_entries_are_followed_into_private_networks_alone(
    backend: Backend, database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    for address in (*GOOD, *ASTRAY, *LINK_LOCAL):
        await put(backend, instance(address, address=address))
    async with Registry(database.url) as registry:
        assert {one.address for one in await registry.instances("billing")} == set(GOOD)
        assert {one.address for one in await registry.instances()} == set(GOOD)
    (record,) = caplog.records
    assert re.match("Ignoring instance .* of billing in the registry: its address .* is not in", record.getMessage())


async def test_other_networks_are_followed_where_they_are_asked_for_and_link_local_ones_never(
    backend: Backend, database: Database
) -> None:
    for address in (*ASTRAY, *LINK_LOCAL):
        await put(backend, instance(address, address=address))
    async with Registry(database.url, networks=["0.0.0.0/0", "::/0"]) as registry:
        assert {one.address for one in await registry.instances("billing")} == set(ASTRAY)
    async with Registry(database.url, networks="203.0.113.0/24") as registry:
        assert [one.address for one in await registry.instances("billing")] == ["203.0.113.7"]


async def test_a_key_that_is_somebody_elses_spoils_one_service_alone(redis: RedisServer) -> None:
    backend = make_backend(redis.url)
    await put(backend, instance("a"))
    await put(backend, instance("a", "shipping"))
    await backend.aclose()
    redis.ask("SET", "{duallisten}:entries:shipping", "hello")
    async with Registry(redis.url) as registry:
        assert await registry.instances() == (instance("a"),)
        with pytest.raises(RegistryError, match="the keys are of a wrong type: another program uses them"):
            await registry.instances("shipping")


async def test_a_record_with_an_endless_number_spoils_itself_alone(redis: RedisServer) -> None:
    backend = make_backend(redis.url)
    await put(backend, instance("a"))
    await backend.aclose()
    redis.ask("HSET", "{duallisten}:entries:billing", "b", f"me 1 1 {'9' * 5000} {{}}")
    async with Registry(redis.url) as registry:
        assert await registry.instances("billing") == (instance("a"),)


async def test_a_record_that_is_none_is_passed_over_and_written_anew(redis: Database) -> None:
    backend = make_backend(redis.url)
    redis.ask("HSET", "{duallisten}:entries:billing", "a", "hello")  # type: ignore[attr-defined]
    async with Registry(redis.url) as registry:
        assert await registry.instances("billing") == ()
        await put(backend, instance("a"))
        assert await registry.instances("billing") == (instance("a"),)
    await backend.aclose()


async def test_a_wrong_password_is_told_without_it(database: Database) -> None:
    async with Registry(database.url.replace(PASSWORD, "hunter2")) as registry:
        with pytest.raises(RegistryError, match="authentication failed: wrong user or password") as raised:
            await registry.instances("billing")
    assert raised.value.__cause__ is None
    assert "hunter2" not in f"{raised.value!r} {registry!r} {vars(registry)!r}"


async def test_the_name_of_a_service_is_checked(registry: Registry) -> None:
    with pytest.raises(UsageError, match="is not a valid service name"):
        await registry.instances("billing:1")
