"""Which pages there are: those that were asked for, each made from the scoreboard."""

from __future__ import annotations

from duallisten.config import Config
from duallisten.endpoints import Application
from duallisten.health import QUESTIONS
from duallisten.pages import Answer, Asked, Page, Pages
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
    return Pages(answers, applications)


def _health(name: str, config: Config, board: Scoreboard) -> Answer:
    ask, stall = QUESTIONS[name], config.options.health_stall

    def answer(asked: Asked) -> Page:
        health = ask(board.read(), stall)
        return Page(health.status, "application/json", health.as_json())

    return answer
