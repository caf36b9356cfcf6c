"""Which pages there are: those that were asked for, each made from the scoreboard."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

from duallisten.config import Config
from duallisten.endpoints import Application, Receive, Scope, Send
from duallisten.health import QUESTIONS
from duallisten.pages import METHOD_NOT_ALLOWED, Answer, Asked, Page, Pages, asked_of, send_page
from duallisten.scoreboard import Scoreboard


def page_set(config: Config, board: Scoreboard) -> Pages:
    """Make the pages of a process.

    config: loaded already
    """
    answers: dict[bytes, Answer] = {}
    applications: dict[bytes, Application] = {}
    root = config.value("root_path", "private")
    if config.options.private_health is not None:
        prefix = root + config.options.private_health.rstrip("/")
        for name in QUESTIONS:
            answers[f"{prefix}/{name}".encode()] = _health(name, config, board)
    if config.options.private_metrics is not None:
        from duallisten.metrics_page import MetricsPage

        path = (root + config.options.private_metrics).encode()
        answers[path] = MetricsPage(board)  # for `standby`, which has a thread already
        applications[path] = _in_thread(answers[path])
    return Pages(answers, applications)


def _in_thread(answer: Answer) -> Application:
    """Let an answer take its time without keeping the event loop; one at a time."""
    turn = asyncio.Lock()

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        page = METHOD_NOT_ALLOWED
        if scope["method"] in ("GET", "HEAD"):
            async with turn:
                page = await _call_in_thread(answer, asked_of(scope))
        await send_page(page, scope, send)

    return serve


async def _call_in_thread(answer: Answer, asked: Asked) -> Page:
    """Answer in a thread of its own, which nobody waits for.

    An executor's may all be busy for the application, and are waited for when the process ends, while a collector of
    the application's may hang.
    """
    found: Future[Page] = Future()

    def call() -> None:
        found.set_running_or_notify_cancel()
        try:
            found.set_result(answer(asked))
        except BaseException as error:
            found.set_exception(error)

    threading.Thread(target=call, name="duallisten-page", daemon=True).start()
    return await asyncio.wrap_future(found)


def _health(name: str, config: Config, board: Scoreboard) -> Answer:
    ask, stall = QUESTIONS[name], config.options.health_stall

    def answer(asked: Asked) -> Page:
        health = ask(board.read(), stall)
        return Page(health.status, "application/json", health.as_json())

    return answer
