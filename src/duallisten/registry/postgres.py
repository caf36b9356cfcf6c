"""The registry in PostgreSQL (by psycopg 3): one table, `duallisten_registry`, made if it is missing.

A write is one INSERT ... ON CONFLICT, whose WHERE sees the row as it was committed last, and locked (the manual on
Read Committed, "Transaction Isolation"). Times are the server's.

The table is made only when a statement finds that it is missing: a role that may not create tables works where it is
there. Two that create it at once may collide in the catalogue in spite of IF NOT EXISTS; then it is there, too.
Changes are told by NOTIFY, within the statement; through a pooler that does not pass them on readers poll. No statement
is prepared, for the same poolers' sake.

It is an ordinary table, for a beat writes some 500 bytes in ten seconds. Tried: an unlogged one, which writes no
write-ahead log. PostgreSQL 15 did not come up any more after a crash soon after such a table had been made and dropped
("could not create file: File exists"); a registry must not be able to do that to a database.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping
from contextlib import aclosing, suppress
from typing import Any, LiteralString

import psycopg

from duallisten.registry.backend import Polling, Stored, Wake, Write

CHANNEL = "duallisten_registry"

CREATE = """
create table if not exists duallisten_registry (
    service text not null,
    id text not null,
    owner text not null,
    claim bigint not null,
    number bigint not null,
    expires timestamptz not null,
    body text not null,
    primary key (service, id)
) with (fillfactor = 50)
"""
"""The column `claim` is the fencing token. The fill factor leaves room for beats beside what they replace, without
touching the index."""

THERE = (psycopg.errors.UniqueViolation, psycopg.errors.DuplicateTable, psycopg.errors.DuplicateObject)

WRITE = """
with moment as (
    select clock_timestamp() as now, (extract(epoch from clock_timestamp()) * 1000000)::bigint as micros
), before as (
    select body from duallisten_registry, moment where service = %(service)s and id = %(id)s and expires > now
), written as (
    insert into duallisten_registry as its (service, id, owner, claim, number, expires, body)
    select %(service)s, %(id)s, %(owner)s, case when %(token)s = 0 then micros else %(token)s end, %(number)s,
        now + make_interval(secs => %(lasts)s), %(body)s
    from moment
    on conflict (service, id) do update set
        owner = excluded.owner, number = excluded.number, expires = excluded.expires, body = excluded.body,
        claim = case
            when its.expires <= clock_timestamp() then excluded.claim
            when its.owner = excluded.owner then its.claim
            when %(token)s = 0 then greatest(excluded.claim, its.claim + 1)
            else excluded.claim
        end
    where its.expires <= clock_timestamp()
        or (its.owner = excluded.owner and its.body <> '' and excluded.number > its.number)
        or (its.owner <> excluded.owner and excluded.body <> '' and (%(token)s = 0 or excluded.claim > its.claim))
    returning claim
)
select written.claim, case
    when coalesce(before.body, '') <> %(body)s then pg_notify('duallisten_registry', %(service)s)::text
end
from written left join before on true
"""

READ = "select service, id, body from duallisten_registry where expires > clock_timestamp() and body <> ''"
READ_ONE: LiteralString = READ + " and service = %(service)s"

PRUNE = """
delete from duallisten_registry where ctid in (
    select ctid from duallisten_registry where expires <= clock_timestamp() for update skip locked
)
"""
"""Skips what is locked: it is being written again, or deleted by another."""


class PostgresBackend:
    """Entries in PostgreSQL, over one connection, and one more for each that listens.

    The URL is as of libpq, with its parameters in the query.
    """

    def __init__(self, url: str) -> None:
        psycopg.conninfo.conninfo_to_dict(url)  # raises for what libpq could not read
        self._url = url
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._in_use = asyncio.Lock()  # a socket must not be closed while a task waits for it

    async def write(self, write: Write) -> int | None:
        """Write if it counts, and return the token; a registration deletes what has expired, too."""
        rows = await self._execute(WRITE, write._asdict() | {"lasts": write.kept})
        if not write.token:
            await self._execute(PRUNE, {})
        return rows[0][0] if rows else None

    async def read(self, service: str | None) -> list[Stored]:
        """Return what has not expired of one service, or of all."""
        rows = await self._execute(READ if service is None else READ_ONE, {"service": service})
        return [Stored(*row) for row in rows]

    async def listen(self, service: str | None) -> Wake:
        """Subscribe to changes, over a connection of its own; poll where that is not possible."""
        connection = await self._connect()
        try:
            await _execute(connection, "listen duallisten_registry")
        except psycopg.Error:
            await connection.close()
            return Polling()
        return _Listening(connection, service)

    async def aclose(self) -> None:
        """Close the connection."""
        async with self._in_use:
            if self._connection is not None:
                await self._connection.close()

    async def _execute(self, statement: LiteralString, values: Mapping[str, Any]) -> list[Any]:
        async with self._in_use:
            if self._connection is None:
                self._connection = await self._connect()
            try:
                cursor = await _execute(self._connection, statement, values)
            except psycopg.errors.UndefinedTable:
                await _create(self._connection)
                cursor = await _execute(self._connection, statement, values)
            return await cursor.fetchall() if cursor.description else []

    async def _connect(self) -> psycopg.AsyncConnection[Any]:
        return await psycopg.AsyncConnection.connect(
            self._url, autocommit=True, prepare_threshold=None, application_name="duallisten registry"
        )


make = PostgresBackend


async def _create(connection: psycopg.AsyncConnection[Any]) -> None:
    with suppress(*THERE):  # another has made it at the same time
        await _execute(connection, CREATE)


async def _execute(
    connection: psycopg.AsyncConnection[Any], statement: LiteralString, values: Mapping[str, Any] | None = None
) -> psycopg.AsyncCursor[Any]:
    """Carry out a statement; when it is cancelled, hang up, and let psycopg know of it by the end of its connection.

    psycopg itself would ask the server to cancel the statement, and wait for that: for good where the server hangs, and
    with a libpq older than 17 the whole process with it (PQcancel is called with the interpreter's lock held).
    """
    running = asyncio.ensure_future(connection.execute(statement, values))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        if not running.done():
            with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as line:
                line.shutdown(socket.SHUT_RDWR)
            await asyncio.wait({running})
        if not running.cancelled():
            running.exception()  # looked at, so that asyncio does not log it
        raise


class _Listening:
    def __init__(self, connection: psycopg.AsyncConnection[Any], service: str | None) -> None:
        self._connection = connection
        self._service = service
        self._in_use = asyncio.Lock()

    async def wait(self, seconds: float) -> None:
        """Wait for a notification about the service."""
        async with self._in_use, aclosing(self._connection.notifies(timeout=seconds)) as notices:
            async for notice in notices:
                if self._service in (None, notice.payload):
                    return

    async def aclose(self) -> None:
        """Close the connection."""
        async with self._in_use:
            await self._connection.close()
