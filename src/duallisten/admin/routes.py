"""Which pages there are: those that were asked for, each made from the scoreboard."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from concurrent.futures import Future
from typing import TYPE_CHECKING

from duallisten.admin.health import QUESTIONS
from duallisten.admin.pages import Answer, Asked, Page, Pages, asked_of, send_page
from duallisten.config import Config
from duallisten.listeners import ListenerSet
from duallisten.observability import Scoreboard
from duallisten.sides import Application, Receive, Scope, Send

if TYPE_CHECKING:
    from duallisten.admin.status.facts import StatusPage


def page_set(config: Config, board: Scoreboard, listeners: ListenerSet) -> Pages:
    """Build the pages of a process.

    config: loaded already
    """
    answers: dict[bytes, Answer] = {}
    applications: dict[bytes, Application] = {}
    root = config.side("private").root_path
    status = _Status(config, board, listeners)
    if config.options.private_health is not None:
        prefix = root + config.options.private_health.rstrip("/")
        for name in QUESTIONS:
            answers[f"{prefix}/{name}".encode()] = _health(name, config, board)
        answers[f"{prefix}/status".encode()] = status.answer
        applications[f"{prefix}/status/events".encode()] = status.events
    if config.options.private_metrics is not None:
        from duallisten.admin.metrics_page import MetricsPage

        path = (root + config.options.private_metrics).encode()
        answers[path] = MetricsPage(board)  # for `fallback_responder`, which has a thread already
        applications[path] = _in_thread(answers[path])
    return Pages(answers, applications, status.end)


class _Status:
    """The status page, which is imported when it is first asked for: a launch that is only probed need not have it."""

    def __init__(self, config: Config, board: Scoreboard, listeners: ListenerSet) -> None:
        self._made_of = config, board, listeners
        self._made: StatusPage | None = None
        self._making = threading.Lock()  # a page is given by any thread (`fallback_responder`)
        self._has_ended = False

    @property
    def _page(self) -> StatusPage:
        with self._making:
            if self._made is None:
                from duallisten.admin.status.facts import StatusPage

                self._made = StatusPage(*self._made_of)
            if self._has_ended:
                self._made.streams.end()
            return self._made

    def answer(self, asked: Asked) -> Page:
        return self._page.make()

    def events(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        return self._page.streams(scope, receive, send)

    def end(self) -> None:
        self._has_ended = True
        if self._made is not None:
            self._made.streams.end()


def _in_thread(answer: Answer) -> Application:
    """Let an answer take its time without keeping the event loop; one at a time."""
    turn = asyncio.Lock()

    async def serve(scope: Scope, receive: Receive, send: Send) -> None:
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
