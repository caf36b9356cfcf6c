"""The rules by which writes count, in both databases; how a back end is chosen; what is said of errors."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trustme

from duallisten.errors import LaunchError, UsageError
from duallisten.registry import Backend, Instance, Registry, RegistryError, Write
from duallisten.registry.backend import check_url, make_backend, reason
from duallisten.registry.entry import to_json
from tests.registry.databases import PASSWORD, Database, PostgresServer, RedisServer, free_port, redis_server
from tests.support.running import DEADLINE, PYTHON, run

BODY = to_json(Instance("billing", "a", "10.240.0.5", 9240))
GONE = ""


@pytest.fixture
async def backend(database: Database) -> AsyncIterator[Backend]:
    made = make_backend(database.url)
    yield made
    await made.aclose()


def write(owner: str, claim: int, number: int, body: str = BODY, *, lasts: float = 60.0, name: str = "a") -> Write:
    return Write("billing", name, owner, claim, number, lasts, body)


async def names(backend: Backend, service: str | None = "billing") -> list[str]:
    return sorted(f"{one.service}/{one.id}" for one in await backend.read(service))


async def registered(backend: Backend, owner: str) -> int:
    claim = await backend.write(write(owner, 0, 1))
    assert claim is not None
    return claim


async def expired(backend: Backend) -> None:
    async with asyncio.timeout(DEADLINE):
        while await backend.read("billing"):
            await asyncio.sleep(0.01)


async def test_a_registration_is_read_until_it_expires(backend: Backend) -> None:
    assert await backend.write(write("A", 0, 1, lasts=0.3))
    assert [tuple(one) for one in await backend.read("billing")] == [("billing", "a", BODY)]
    assert await names(backend, "shipping") == []
    assert await names(backend, None) == ["billing/a"]
    await expired(backend)
    assert await names(backend, None) == []


async def test_a_beat_keeps_its_claim_and_brings_back_what_was_lost(backend: Backend) -> None:
    assert await backend.write(write("A", 1234, 7, lasts=0.1)) == 1234
    await expired(backend)
    assert await backend.write(write("A", 1234, 8)) == 1234
    assert await names(backend) == ["billing/a"]


async def test_of_one_owner_only_a_higher_number_counts(backend: Backend) -> None:
    claim = await registered(backend, "A")
    draining = to_json(Instance("billing", "a", "10.240.0.5", 9240, state="draining"))
    assert await backend.write(write("A", claim, 3, draining)) == claim
    assert await backend.write(write("A", claim, 2)) is None
    assert await backend.write(write("A", claim, 3)) is None
    assert [one.body for one in await backend.read("billing")] == [draining]


async def test_a_late_beat_does_not_bring_back_what_was_deregistered(backend: Backend) -> None:
    claim = await registered(backend, "A")
    assert await backend.write(write("A", claim, 3, GONE)) == claim
    assert await backend.write(write("A", claim, 2)) is None
    assert await backend.write(write("A", claim, 4)) is None
    assert await names(backend, None) == []


async def test_a_beat_that_comes_after_a_deregistration_of_what_was_lost_is_refused(backend: Backend) -> None:
    assert await backend.write(write("A", 1234, 9, GONE)) == 1234
    assert await backend.write(write("A", 1234, 8)) is None


async def test_another_launch_may_register_what_was_deregistered(backend: Backend) -> None:
    claim = await registered(backend, "A")
    assert await backend.write(write("A", claim, 2, GONE)) == claim
    assert await registered(backend, "B") > claim
    assert await names(backend) == ["billing/a"]


async def test_the_later_registration_of_an_id_wins_and_the_earlier_cannot_touch_it(backend: Backend) -> None:
    first = await registered(backend, "A")
    second = await registered(backend, "B")
    assert second > first
    assert await backend.write(write("A", first, 2)) is None
    assert await backend.write(write("A", first, 3, GONE)) is None
    assert await names(backend) == ["billing/a"]
    assert await backend.write(write("B", second, 2)) == second


async def test_the_later_registration_wins_also_where_the_earlier_has_brought_its_entry_back(backend: Backend) -> None:
    """The database has lost its memory, and the beat of the one that was taken over comes first."""
    assert await backend.write(write("A", 1000, 9)) == 1000
    assert await backend.write(write("B", 2000, 3)) == 2000
    assert await backend.write(write("A", 1000, 10)) is None


async def test_of_many_that_register_at_once_one_is_the_last(database: Database, backend: Backend) -> None:
    others = [make_backend(database.url) for _ in range(5)]
    claims = await asyncio.gather(*(other.write(write(f"O{n}", 0, 1)) for n, other in enumerate(others)))
    assert len(set(claims)) == len(others)
    beats = await asyncio.gather(*(other.write(write(f"O{n}", claims[n] or 0, 2)) for n, other in enumerate(others)))
    assert [beat for beat in beats if beat is not None] == [max(claim or 0 for claim in claims)]
    assert await names(backend) == ["billing/a"]
    for other in others:
        await other.aclose()


async def test_a_change_wakes_who_listens_and_a_beat_does_not(database: Database, backend: Backend) -> None:
    wake = await backend.listen("billing")
    waiting = asyncio.ensure_future(wake.wait(DEADLINE))
    other = make_backend(database.url)
    await other.write(Write("shipping", "a", "S", 0, 1, 60.0, BODY))
    claim = await registered(other, "A")
    async with asyncio.timeout(DEADLINE / 2):
        await waiting
    waiting = asyncio.ensure_future(wake.wait(DEADLINE))
    await other.write(write("A", claim, 2))
    await other.write(Write("shipping", "a", "S", 0, 2, 60.0, GONE))
    assert not waiting.done()
    await other.write(write("A", claim, 3, GONE))
    async with asyncio.timeout(DEADLINE / 2):
        await waiting
    await wake.aclose()
    await other.aclose()


async def test_nothing_stays_in_redis_of_what_has_expired(redis: RedisServer) -> None:
    backend = make_backend(redis.url)
    await backend.write(write("A", 0, 1, lasts=0.05, name="old"))
    await expired(backend)
    await backend.write(write("B", 0, 1, lasts=0.2, name="new"))
    assert redis.ask("HKEYS", "{duallisten}:entries:billing") == "new"
    async with asyncio.timeout(DEADLINE):
        while redis.ask("KEYS", "*:billing"):
            await asyncio.sleep(0.02)
    await backend.aclose()


async def test_a_registration_sweeps_postgresql(postgres: PostgresServer) -> None:
    backend = make_backend(postgres.url)
    await backend.write(write("A", 0, 1, lasts=0.05, name="old"))
    await expired(backend)
    await backend.write(write("B", 0, 1, name="new"))
    assert postgres.ask("select id from duallisten_registry") == [("new",)]
    await backend.aclose()


async def test_a_full_redis_lets_entries_go(redis: RedisServer) -> None:
    backend = make_backend(redis.url)
    claim = await registered(backend, "A")
    redis.ask("CONFIG", "SET", "maxmemory", 1)
    assert await backend.write(write("A", claim, 2, GONE)) == claim
    assert await names(backend) == []
    redis.ask("CONFIG", "SET", "maxmemory", 0)
    await backend.aclose()


async def test_many_make_the_table_at_once(postgres: PostgresServer) -> None:
    backends = [make_backend(postgres.url) for _ in range(8)]
    await asyncio.gather(*(backend.write(write("A", 0, 1, name=str(n))) for n, backend in enumerate(backends)))
    assert len(await backends[0].read("billing")) == 8
    for backend in backends:
        await backend.aclose()


async def test_a_role_that_may_not_make_the_table_uses_it_where_it_is(postgres: PostgresServer) -> None:
    owner = make_backend(postgres.url)
    postgres.ask("create role guest login password 's3cret-p4ssword'")
    url = postgres.url.replace("//billing_user:", "//guest:")
    try:
        async with Registry(url) as guest:
            with pytest.raises(RegistryError, match="permission denied"):
                await guest.instances("billing")
        await owner.read(None)
        postgres.ask("grant select, insert, update, delete on duallisten_registry to guest")
        backend = make_backend(url)
        assert await registered(backend, "A")
        assert await names(backend) == ["billing/a"]
        await backend.aclose()
    finally:
        postgres.ask("drop owned by guest")
        postgres.ask("drop role guest")
    await owner.aclose()


async def test_redis_without_the_right_to_subscribe_is_polled(redis: RedisServer) -> None:
    redis.ask("ACL", "SETUSER", "limited", "on", f">{PASSWORD}", "~*", "+@all", "resetchannels")
    backend = make_backend(redis.url.replace("//:", "//limited:"))
    wake = await backend.listen("billing")
    await wake.wait(0.01)
    assert type(wake).__name__ == "Polling"
    assert await registered(backend, "A")
    await backend.aclose()


@pytest.mark.needs_redis
async def test_redis_is_reached_over_tls(tmp_path: Path) -> None:
    authority, port = trustme.CA(), free_port()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.private_key_pem.write_to_path(tmp_path / "key")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "certificate")
    authority.cert_pem.write_to_path(tmp_path / "authority")
    files = ("--tls-cert-file", tmp_path / "certificate", "--tls-key-file", tmp_path / "key")
    options = ("--tls-port", port, *files, "--tls-ca-cert-file", tmp_path / "authority", "--tls-auth-clients", "no")
    with redis_server(*map(str, options)) as redis:
        url = redis.url.replace("redis:", "rediss:").replace(str(redis.port), str(port))
        async with Registry(url) as registry:
            with pytest.raises(RegistryError, match="the TLS handshake failed"):
                await registry.instances()
        async with Registry(f"{url}?ssl_ca_certs={tmp_path / 'authority'}") as registry:
            assert await registry.instances() == ()


@pytest.mark.parametrize(
    "url",
    [
        "hunter2",
        ":hunter2@localhost",
        "hunter2 ://x",
        "mysql://user:hunter2@localhost/db",
        "redis://user:hunter2@localhost:port/0",
        "redis://user:hunter2@localhost:99999/0",
        "postgresql://user:hunter2@[::1/db",
        "postgresql://user@localhost/db?sslmode=prefer&hunter2=%zz",
        "redis://user@localhost?socket_timeout=hunter2",
    ],
)
def test_a_url_that_cannot_be_used_is_not_shown(url: str) -> None:
    with pytest.raises(UsageError) as raised:
        make_backend(url)
    assert "hunter2" not in repr(raised.value)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "url",
    [
        "redis://h",
        "rediss://:p@h:1/0",
        "postgres://u:p@h/d",
        "postgresql://u@h/d?sslmode=prefer",
        "postgresql://u:p@a:5432,b:5433,[fdaa::5]:5432/d",
    ],
)
def test_the_urls_of_the_platform_fit(url: str) -> None:
    check_url(url)
    make_backend(url)


@pytest.mark.parametrize(
    ("scheme", "package", "extra"), [("redis", "redis", "redis"), ("postgres", "psycopg", "postgres")]
)
def test_a_missing_extra_is_named(scheme: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("duallisten.registry.backend.find_spec", lambda name: None)
    with pytest.raises(
        LaunchError, match=rf"needs {package}, which is not installed: pip install 'duallisten\[{extra}\]"
    ):
        check_url(f"{scheme}://localhost")


async def test_a_back_end_of_ones_own_is_found_by_its_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "shelf.py").write_text(SHELF)
    metadata = tmp_path / "shelf-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: shelf\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text("[duallisten.registry]\nshelf = shelf:Shelf\nredis = shelf:Shelf\n")
    monkeypatch.syspath_prepend(tmp_path)
    async with Registry("shelf://nowhere") as registry:
        assert await registry.instances() == (Instance("billing", "a", "10.0.0.1"),)
    assert type(make_backend("redis://localhost")).__module__ == "duallisten.registry.redis"


SHELF = """
from duallisten.registry import Polling, Stored

class Shelf:
    def __init__(self, url):
        self.kept = [Stored("billing", "a", '{"service": "billing", "id": "a", "address": "10.0.0.1"}')]
    async def write(self, write): return None
    async def read(self, service): return self.kept
    async def listen(self, service): return Polling()
    async def aclose(self): pass
"""


def test_a_reason_repeats_nothing_of_an_error() -> None:
    try:
        try:
            raise ConnectionError("redis://user:hunter2@localhost")
        except ConnectionError as error:
            raise ValueError("hunter2 is not closed") from error
    except ValueError as error:
        assert reason(error) == "the connection was lost"
    assert reason(RuntimeError("hunter2")) == "RuntimeError"


@pytest.mark.parametrize(
    "module",
    ["duallisten.cli.main", "duallisten.registry", "duallisten.registry.registrar", "duallisten.registry.finding"],
)
def test_no_database_library_is_imported_before_it_is_used(module: str) -> None:
    code = f"import sys, json, {module}; print(json.dumps(sorted(sys.modules)))"
    loaded = set(json.loads(run("-c", code, command=PYTHON).stdout))
    assert module in loaded
    assert not loaded & {"redis", "psycopg", "httpx", "duallisten.registry.redis", "duallisten.registry.postgres"}
    assert module != "duallisten.cli.main" or "duallisten.registry" not in loaded
