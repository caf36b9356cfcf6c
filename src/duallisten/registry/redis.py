"""The registry in Redis (6 or newer, with redis-py).

There are two keys for each service, and one for all:

    {duallisten}:entries:SERVICE   hash    id -> owner token number expires body
    {duallisten}:expiry:SERVICE    sorted  id by expiry time; expired ids are deleted at the next write
    {duallisten}:services          sorted  service by the expiry time of its last entry

Times are microseconds of Redis's own clock (TIME), which a double holds exactly. All keys have the same hash tag, so
that a script may use them together in a cluster. A key expires with its last entry. A write is one script, which Redis
runs atomically. It may read the time and then write, because Redis replicates the effects of scripts, by default since
version 5. Changes are published on the channel `{duallisten}:changes`; a reader that may not subscribe polls.

A full Redis refuses HSET, but not HDEL: a deregistration then removes the entry and leaves no tombstone.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoPermissionError

from duallisten.registry.backend import Polling, Stored, Wake, Write

PREFIX = "{duallisten}"
CHANNEL = f"{PREFIX}:changes"
SERVICES = f"{PREFIX}:services"
SECONDS = 1_000_000

WRITE = """
local entries, expiry, services = KEYS[1], KEYS[2], KEYS[3]
local channel, service, id, owner, body = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local token, number, lasts = tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local function whole(value) return string.format('%.0f', value) end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local its_owner, its_token, its_number, its_expires, its_body =
    string.match(redis.call('HGET', entries, id) or '', '^(%S+) (%d+) (%d+) (%d+) (.*)$')
if its_owner and tonumber(its_expires) <= now then its_owner, its_body = nil, nil end

if its_owner == owner then
    if its_body == '' or number <= tonumber(its_number) then return false end
    token = tonumber(its_token)
elseif its_owner then
    if body == '' or (token > 0 and token <= tonumber(its_token)) then return false end
    if token == 0 then token = math.max(now, tonumber(its_token) + 1) end
elseif token == 0 then
    token = now
end

local expires = now + lasts
local record = table.concat({owner, whole(token), whole(number), whole(expires), body}, ' ')
if body == '' and type(redis.pcall('HSET', entries, id, record)) == 'table' then
    redis.call('HDEL', entries, id)
    redis.call('ZREM', expiry, id)
else
    redis.call('HSET', entries, id, record)
    redis.call('ZADD', expiry, whole(expires), id)
    if body ~= '' and expires > tonumber(redis.call('ZSCORE', services, service) or 0) then
        redis.call('ZADD', services, whole(expires), service)
    end
end
local old = redis.call('ZRANGEBYSCORE', expiry, '-inf', whole(now), 'LIMIT', 0, 100)
if #old > 0 then
    redis.call('HDEL', entries, unpack(old))
    redis.call('ZREM', expiry, unpack(old))
end
redis.call('ZREMRANGEBYSCORE', services, '-inf', whole(now))
for _, key in ipairs({entries, expiry}) do
    if redis.call('PTTL', key) < lasts / 1000 then redis.call('PEXPIRE', key, whole(lasts / 1000)) end
end
if (its_body or '') ~= body then redis.pcall('PUBLISH', channel, service) end
return whole(token)
"""


class RedisBackend:
    """Entries in Redis, at a `redis://` or `rediss://` URL, with redis-py's options in the query."""

    def __init__(self, url: str) -> None:
        self._client: Any = Redis.from_url(
            url,
            decode_responses=True,
            encoding_errors="replace",  # an entry of another program need not be UTF-8
            retry=Retry(NoBackoff(), 0),  # `link` decides about retries
        )

    async def write(self, write: Write) -> int | None:
        """Carry out `write` if it counts, and return the token."""
        keys = (f"{PREFIX}:entries:{write.service}", f"{PREFIX}:expiry:{write.service}", SERVICES)
        about = (CHANNEL, write.service, write.id, write.owner, write.body)
        numbers = (write.token, write.number, round(write.kept * SECONDS))
        found: Any = await self._client.eval(WRITE, len(keys), *keys, *about, *map(str, numbers))
        return None if found is None else int(found)

    async def read(self, service: str | None) -> list[Stored]:
        """Return the live entries of one service, or of all."""
        services = [service] if service is not None else await self._client.zrange(SERVICES, 0, -1)
        pipeline = self._client.pipeline(transaction=False)
        pipeline.time()
        for name in services:
            pipeline.hgetall(f"{PREFIX}:entries:{name}")
        answers = await pipeline.execute(raise_on_error=False)
        for answer in answers:
            if isinstance(answer, Exception) and (service is not None or "WRONGTYPE" not in str(answer)):
                raise answer
        (seconds, micros), *hashes = answers
        now = int(seconds) * SECONDS + int(micros)
        found: list[Stored] = []
        for name, records in zip(services, hashes, strict=True):
            if isinstance(records, Exception):
                found.append(Stored(name, "", ""))  # another program's key: reported as a broken entry among good ones
                continue
            for id_, record in records.items():
                body = _live_body(record, now)
                if body is not None:
                    found.append(Stored(name, id_, body))
        return found

    async def listen(self, service: str | None) -> Wake:
        """Subscribe to changes; poll if the database user may not subscribe."""
        pubsub = self._client.pubsub()
        try:
            await pubsub.subscribe(CHANNEL)
            await pubsub.get_message(timeout=None)  # the confirmation: no change is missed from here on
        except NoPermissionError:
            await pubsub.aclose()
            return Polling()
        except Exception:
            await pubsub.aclose()
            raise
        return _Subscribed(pubsub, service)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()


make = RedisBackend


class _Subscribed:
    def __init__(self, pubsub: Any, service: str | None) -> None:
        self._pubsub = pubsub
        self._service = service

    async def wait(self, seconds: float) -> None:
        """Wait for a message about the service."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        while (left := until - loop.time()) > 0:
            message = await self._pubsub.get_message(ignore_subscribe_messages=True, timeout=left)
            if message is not None and self._service in (None, message["data"]):
                return

    async def aclose(self) -> None:
        """End the subscription."""
        await self._pubsub.aclose()


def _live_body(record: str, now: int) -> str | None:
    """Return the body of a record; None if it has expired or is a tombstone."""
    parts = record.split(" ", 4)
    if len(parts) != 5 or not all(re.fullmatch("[0-9]{1,20}", part) for part in parts[1:4]):
        return record  # not written by us: `finding` will skip it as an entry that cannot be read
    return parts[4] if parts[4] and int(parts[3]) > now else None
