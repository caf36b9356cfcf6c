"""Which pages there are: those that were asked for, each made from the scoreboard."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor

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
    """Give an answer that takes its time without keeping the event loop; one at a time, and in a thread of our own.

    The loop's own threads are the application's, which may have all of them busy.
    """
    thread = ThreadPoolExecutor(1, "duallisten-metrics")

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
        page = METHOD_NOT_ALLOWED
        if scope["method"] in ("GET", "HEAD"):
            page = await asyncio.get_running_loop().run_in_executor(thread, answer, asked_of(scope))
        await send_page(page, scope, send)

    return serve


def _health(name: str, config: Config, board: Scoreboard) -> Answer:
    ask, stall = QUESTIONS[name], config.options.health_stall

    def answer(asked: Asked) -> Page:
        health = ask(board.read(), stall)
        return Page(health.status, "application/json", health.as_json())

    return answer
