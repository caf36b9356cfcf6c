"""The pages that a process serves: those that the options ask for, at their paths."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial

from duallisten.admin.health import QUESTIONS, Health, is_public_ready
from duallisten.admin.hostnames import hostnames_of
from duallisten.admin.pages import TEXT, PageFunction, Pages, Request, page
from duallisten.config import Config
from duallisten.config.admin_paths import own_paths
from duallisten.http.answers import Answer
from duallisten.listeners import ListenerSet
from duallisten.observability import Scoreboard, View
from duallisten.sides import Application, Receive, Scope, Send, Side

READY = page(200, TEXT, b"ok\n")
NOT_READY = page(503, TEXT, b"unavailable\n")
"""The answers of the public side's health page."""


def page_set(config: Config, side: Side, board: Scoreboard, listeners: ListenerSet) -> Pages | None:
    """Build the pages of a side in a process; None if it has none. The configuration must be loaded."""
    if not own_paths(config.options, side):
        return None
    return _public(config, board) if side == "public" else _private(config, board, listeners)


def _public(config: Config, board: Scoreboard) -> Pages:
    path, stall = f"{config.side('public').root_path}{config.options.public_health}", config.options.health_stall
    return Pages({path.encode(): lambda request: READY if is_public_ready(board.read(), stall) else NOT_READY}, {})


def _private(config: Config, board: Scoreboard, listeners: ListenerSet) -> Pages:
    answers: dict[bytes, PageFunction] = {}
    applications: dict[bytes, Application] = {}
    end: Callable[[], None] = lambda: None  # noqa: E731
    record = end
    root, options = config.side("private").root_path, config.options
    if options.private_health is not None:
        from duallisten.admin.status import StatusPage

        prefix = root + options.private_health.rstrip("/")
        for name, question in QUESTIONS.items():
            answers[f"{prefix}/{name}".encode()] = partial(_health, question, board, options.health_stall)
        status = StatusPage(config, board, listeners)
        answers[f"{prefix}/status".encode()] = status.page
        answers[f"{prefix}/status.json".encode()] = status.document
        applications[f"{prefix}/status/events".encode()] = status.events
        end, record = status.end, status.history.record
    if options.private_metrics is not None:
        from duallisten.admin.metrics import MetricsPage

        path = (root + options.private_metrics).encode()
        answers[path] = MetricsPage(board)  # for the fallback responder, which runs in a thread already
        applications[path] = _in_thread(answers[path])
    return Pages(answers, applications, end, record, hostnames_of(config))


def _health(question: Callable[[View, float], Health], board: Scoreboard, stall: float, request: Request) -> Answer:
    health = question(board.read(), stall)
    return page(health.status, "application/json", health.as_json())


def _in_thread(answer: PageFunction) -> Application:
    """Build an application that calls `answer` in a new daemon thread, one call at a time.

    An executor is not used: the application may keep all its threads busy, and the process would wait for them when it
    ends, although a collector of the application's metrics may hang.
    """
    turn = asyncio.Lock()

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        result: Future[Answer] = Future()
        request = Request(scope["method"], scope["headers"])

        def call() -> None:
            result.set_running_or_notify_cancel()
            try:
                result.set_result(answer(request))
            except BaseException as error:
                result.set_exception(error)

        async with turn:
            threading.Thread(target=call, name="duallisten-page", daemon=True).start()
            answered = await asyncio.wrap_future(result)
        await answered.send(scope, send)

    return serve
