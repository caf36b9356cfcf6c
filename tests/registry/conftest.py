"""Fixtures: a database of each kind, and a registry in it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from duallisten.registry import Registry
from tests.registry.databases import Database, PostgresServer, RedisServer, postgres_server, redis_server


@pytest.fixture(scope="session")
def running_postgres() -> Iterator[PostgresServer]:
    """The PostgreSQL of this process's tests: it takes a second to make."""
    with postgres_server() as running:
        yield running


@pytest.fixture
def postgres(running_postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A PostgreSQL without a registry in it."""
    yield running_postgres
    running_postgres.renew()


@pytest.fixture
def redis() -> Iterator[RedisServer]:
    """An empty Redis."""
    with redis_server() as running:
        yield running


@pytest.fixture(
    params=[
        pytest.param("redis", marks=pytest.mark.needs_redis),
        pytest.param("postgres", marks=pytest.mark.needs_postgres),
    ]
)
def database(request: pytest.FixtureRequest) -> Database:
    """A database of each kind, empty."""
    found: Database = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def registry(database: Database) -> AsyncIterator[Registry]:
    async with Registry(database.url, poll=0.2) as opened:
        yield opened
