"""Fixtures: a database of each kind, and a registry in it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from importlib.util import find_spec, module_from_spec
from typing import Any

import pytest

from duallisten.registry import PRIVATE_NETWORKS, Registry
from tests.registry.databases import Database, PostgresServer, RedisServer, postgres_server, redis_server

NETWORKS = (*PRIVATE_NETWORKS, "127.0.0.0/8")
"""What is followed on one machine."""


@pytest.fixture(params=["httpx2", "httpx"])
def over(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`duallisten.registry.http` over each of the libraries that it takes, as if no other were installed."""
    for name in {"httpx2", "httpx"} - {request.param}:
        monkeypatch.setitem(sys.modules, name, None)
    spec = find_spec("duallisten.registry.http")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.httpx.__name__ == request.param
    return module


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
    async with Registry(database.url, poll=0.2, networks=NETWORKS) as opened:
        yield opened
