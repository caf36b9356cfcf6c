"""Tasks of requests: each of its own, started together, and none in the way of another."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from tests.http.engine import LAST, LOOPS, Wire, answer, statuses, wire

BAD = LAST.replace(b"/last", b"/bad")


async def app(scope: Any, receive: Any, send: Any) -> None:
    await answer(send, scope["path"].encode())


@pytest.fixture(params=LOOPS)
def engine(request: pytest.FixtureRequest) -> Iterator[Wire]:
    with wire(app, request.param, "httptools") as made:
        yield made


def test_where_one_task_cannot_be_started_the_others_are(engine: Wire) -> None:
    """Such as by a task factory of the program's that fails; its connection ends, and the event loop is told."""

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> asyncio.Task[Any]:
        exchange = coroutine.cr_frame.f_locals.get("self") if coroutine.cr_frame is not None else None
        if exchange is not None and getattr(exchange, "scope", {}).get("path") == "/bad":
            coroutine.close()
            raise RuntimeError("no room for a task")
        return asyncio.Task(coroutine, loop=loop, **options)

    engine.call(lambda: engine.loop.set_task_factory(factory))
    try:
        clients = [engine.connect() for _ in range(5)]
        for number, client in enumerate(clients):
            client.sendall(BAD if number == 2 else LAST)
        found = []
        for client in clients:
            with client:
                try:
                    found.append(client.recv(65536))
                except ConnectionResetError:
                    found.append(b"")
    finally:
        engine.call(lambda: engine.loop.set_task_factory(None))
    assert [statuses(one) for one in found] == [[200], [200], [], [200], [200]]
    told = [str(error.get("exception")) for error in engine.errors]
    engine.errors.clear()
    assert told == ["no room for a task"]
