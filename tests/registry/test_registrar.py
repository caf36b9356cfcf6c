"""A process in a registry: its beats, its end, and all that a registry may do to it meanwhile."""

from __future__ import annotations

import asyncio
import logging
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from duallisten.errors import LaunchError, UsageError
from duallisten.registry import Instance, Registrar, Registry, RegistryError, Timing
from duallisten.registry.backend import Write, make_backend
from tests.registry.conftest import NETWORKS
from tests.registry.databases import PASSWORD, Database, RedisServer, free_port
from tests.registry.serving import served
from tests.support.running import DEADLINE, eventually

PACE = Timing(ttl=2.0, beat=0.1, timeout=0.5, longest_pause=0.3)
INSTANCE = Instance("billing", "web-1", "10.240.0.5", 9240)

Make = Callable[..., Registrar]


@pytest.fixture
def make(database: Database) -> Iterator[Make]:
    """Make a registrar that is stopped at the end."""
    with ExitStack() as stack:

        def make_one(instance: Instance = INSTANCE, pace: Timing = PACE, url: str = database.url) -> Registrar:
            made = Registrar(url, instance, pace)
            stack.callback(made.remove, 0)
            return made

        yield make_one


def states(database: Database, service: str = "billing") -> list[str]:
    """Who is there, as one who comes anew sees it."""

    async def ask() -> list[str]:
        async with Registry(database.url, networks=NETWORKS) as registry:
            return [f"{one.id} {one.state}" for one in await registry.instances(service)]

    return asyncio.run(ask())


def becomes(database: Database, *expected: str) -> bool:
    """Wait until these are there, in these states."""

    def are_there() -> bool:
        try:
            return states(database) == list(expected)
        except RegistryError:
            return False

    return eventually(are_there)


def registers(database: Database, registrar: Registrar) -> bool:
    """Wait until the database has the entry and the registrar has read the answer: a fault in between is one more."""
    return becomes(database, "web-1 ready") and eventually(lambda: is_registered(registrar))


def is_registered(registrar: Registrar) -> bool:
    return registrar.standing == "registered"


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


def test_an_instance_is_there_from_ready_to_the_end(database: Database, make: Make) -> None:
    registrar = make()
    registrar.starting()
    assert becomes(database, "web-1 starting")
    registrar.ready()
    assert registers(database, registrar)
    assert registrar.draining(DEADLINE)
    assert states(database) == ["web-1 draining"]
    assert registrar.remove(DEADLINE)
    assert states(database) == []
    assert registrar.standing == "removed"
    registrar.ready()
    assert not registrar.draining()
    assert states(database) == []


def test_beats_go_on_while_the_application_blocks_its_event_loop(database: Database, make: Make) -> None:
    async def block() -> bool:
        registrar = make()
        registrar.ready()
        return eventually(lambda: is_registered(registrar) and database.number("billing", "web-1") > 3)

    assert asyncio.run(block())


def test_a_beat_brings_back_what_the_registry_has_lost(redis: RedisServer) -> None:
    registrar = Registrar(redis.url, INSTANCE, PACE)
    registrar.ready()
    assert registers(redis, registrar)
    redis.ask("FLUSHALL")
    assert becomes(redis, "web-1 ready")
    assert registrar.remove(DEADLINE)


def test_a_registry_that_is_started_again_has_its_entries_back(
    database: Database, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    registrar = make()
    registrar.ready()
    assert registers(database, registrar)
    database.stop()
    assert eventually(lambda: registrar.standing == "unreachable")
    assert not registrar.draining(DEADLINE), "it tells at once that it cannot"
    database.start()
    assert becomes(database, "web-1 draining")
    assert eventually(lambda: is_registered(registrar))
    told = warnings(caplog)
    assert all("retrying, requests are not affected" in warning for warning in told)
    registered = [record for record in caplog.records if record.getMessage().startswith("Registered as")]
    assert len(told) == len(registered) - 1 >= 1, "one for each time that it was lost: a busy machine may add some"


def test_a_registry_that_is_not_there_at_first_is_found_later(database: Database, make: Make) -> None:
    database.stop()
    registrar = make()
    registrar.ready()
    assert eventually(lambda: registrar.standing == "unreachable")
    database.start()
    assert becomes(database, "web-1 ready")


def test_a_registry_that_hangs_holds_up_nobody_for_long(
    database: Database, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    registrar = make()
    registrar.ready()
    assert registers(database, registrar)
    database.hold()
    assert eventually(lambda: registrar.standing == "unreachable")
    before = time.monotonic()
    registrar.ready()
    assert not registrar.draining(0.2)
    assert not registrar.remove(0.2)
    assert time.monotonic() - before < DEADLINE / 2
    database.resume()
    assert [warning for warning in warnings(caplog) if "timed out" in warning] == warnings(caplog)
    assert becomes(database), "nothing writes any more, and what is there expires"


def test_a_registry_that_takes_no_writes_costs_one_warning(
    database: Database, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    registrar = make()
    registrar.ready()
    assert registers(database, registrar)
    database.refuse_writes()
    assert eventually(lambda: registrar.standing == "unreachable")
    database.take_writes()
    assert eventually(lambda: is_registered(registrar))
    assert becomes(database, "web-1 ready")
    (warning,) = warnings(caplog)
    assert "the server is read-only" in warning


def test_a_full_registry_costs_one_warning(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    registrar = Registrar(redis.url, INSTANCE, PACE)
    redis.ask("CONFIG", "SET", "maxmemory", 1)
    registrar.ready()
    assert eventually(lambda: registrar.standing == "unreachable")
    redis.ask("CONFIG", "SET", "maxmemory", 0)
    assert becomes(redis, "web-1 ready")
    assert registrar.remove(DEADLINE)
    (warning,) = warnings(caplog)
    assert "the server is out of memory or disk space" in warning


def test_a_password_that_is_changed_is_in_no_line(
    database: Database, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    registrar = make()
    registrar.ready()
    assert registers(database, registrar)
    database.change_password("other")
    assert eventually(lambda: registrar.standing == "unreachable")
    assert registrar.remove(DEADLINE) is False
    (warning,) = warnings(caplog)
    assert "authentication failed: wrong user or password" in warning
    assert not [text for text in (caplog.text, repr(registrar), str(vars(registrar))) if PASSWORD in text]


def test_the_later_of_two_containers_with_one_id_keeps_it(
    database: Database, make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    old, new = make(), make(INSTANCE._replace(address="10.240.0.6"))
    old.ready()
    assert registers(database, old)
    new.ready()
    assert eventually(lambda: old.standing == "superseded")
    assert not old.draining()
    assert not old.remove()
    assert states(database) == ["web-1 ready"]
    (warning,) = warnings(caplog)
    assert "Another process registered or removed" in warning
    assert new.remove(DEADLINE)
    assert states(database) == []


def test_what_an_operator_takes_out_stays_out(database: Database, make: Make) -> None:
    """A tombstone of the owner's own: another may write it who reads the owner from the database."""
    registrar = make()
    registrar.ready()
    assert registers(database, registrar)

    async def take_out() -> None:
        backend = make_backend(database.url)
        await backend.write(Write("billing", "web-1", registrar._owner, registrar._token, 1_000_000, 60.0, ""))
        await backend.aclose()

    asyncio.run(take_out())
    assert eventually(lambda: registrar.standing == "superseded")
    assert states(database) == []


def test_a_process_that_is_killed_is_gone_within_its_time(database: Database) -> None:
    with served(database.url, "billing", "web-1", "--ttl", "1", "--beat", "0.2") as server:
        server.url("private")
        assert becomes(database, "web-1 ready")
        server.end(signal.SIGKILL)
        assert becomes(database)


def test_a_process_that_is_told_to_end_drains_first_and_is_gone(database: Database) -> None:
    with served(database.url, "billing", "web-1", "--private-linger", "30") as server:
        assert becomes(database, "web-1 ready")
        server.send(signal.SIGTERM)
        assert becomes(database, "web-1 draining")
        server.send(signal.SIGINT)
        server.send(signal.SIGINT)
        server.process.wait(DEADLINE)
        assert states(database) == []


def test_what_cannot_be_registered_is_said_at_once() -> None:
    with pytest.raises(UsageError, match="the entry's service is invalid"):
        Registrar("redis://localhost", INSTANCE._replace(service="a b"))
    with pytest.raises(UsageError, match="registry URL mysql://…: unknown scheme"):
        Registrar("mysql://localhost", INSTANCE)


def test_a_missing_extra_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duallisten.registry.backend.find_spec", lambda name: None)
    with pytest.raises(LaunchError, match=r"install 'duallisten\[redis\]"):
        Registrar("redis://localhost", INSTANCE)


def test_one_that_was_never_ready_ends_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    registrar = Registrar(f"redis://127.0.0.1:{free_port()}", INSTANCE)
    assert not registrar.draining()
    assert registrar.remove()
    assert not caplog.records
