"""The registry in PostgreSQL (with psycopg 3): one table, `duallisten_registry`, created if it is missing.

A write is one INSERT ... ON CONFLICT. Its WHERE sees the last committed row, locked (PostgreSQL's manual, "Transaction
Isolation", Read Committed). Times are the server's.

The table is created only when a statement fails because it is missing, so a role without the right to create tables can
use an existing one. Two processes that create it at once may collide in the catalogue despite IF NOT EXISTS; the table
then exists all the same. The statement reports changes by NOTIFY; behind a pooler that does not pass notifications on,
readers poll. Statements are not prepared, because of such poolers.

The table is logged as usual: a beat writes only some 500 bytes in ten seconds. An unlogged table was tried. PostgreSQL
15 did not start again after a crash soon after such a table had been created and dropped ("could not create file: File
exists"). A registry must not be able to do that to a database.
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
"""The column `claim` is the fencing token. The fill factor leaves free space, so that a beat's new row version fits in
the page of the old one and the index is not touched."""

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
"""Skips locked rows: another process is writing or deleting them."""


class PostgresBackend:
    """Entries in PostgreSQL, over one connection, and one more for each subscription.

    The URL is a libpq connection URI, with libpq's parameters in the query.
    """

    def __init__(self, url: str) -> None:
        psycopg.conninfo.conninfo_to_dict(url)  # raises if libpq cannot read it
        self._url = url
        self._connection: psycopg.AsyncConnection[Any] | None = None
        self._in_use = asyncio.Lock()  # a socket must not be closed while a task waits for it

    async def write(self, write: Write) -> int | None:
        """Carry out `write` if it counts, and return the token; a registration also deletes expired rows."""
        rows = await self._execute(WRITE, write._asdict() | {"lasts": write.kept})
        if not write.token:
            await self._execute(PRUNE, {})
        return rows[0][0] if rows else None

    async def read(self, service: str | None) -> list[Stored]:
        """Return the live entries of one service, or of all."""
        rows = await self._execute(READ if service is None else READ_ONE, {"service": service})
        return [Stored(*row) for row in rows]

    async def listen(self, service: str | None) -> Wake:
        """Subscribe to changes over a separate connection; poll if LISTEN fails."""
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
    with suppress(*THERE):  # another process has created it at the same time
        await _execute(connection, CREATE)


async def _execute(
    connection: psycopg.AsyncConnection[Any], statement: LiteralString, values: Mapping[str, Any] | None = None
) -> psycopg.AsyncCursor[Any]:
    """Execute a statement; on cancellation, shut the socket down, so that psycopg sees a closed connection.

    psycopg itself would ask the server to cancel the statement, and wait for the reply. If the server hangs, that wait
    never ends. With a libpq older than 17 it blocks the whole process: PQcancel is called with the GIL held.
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
            running.exception()  # retrieved, so that asyncio does not log it
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
