"""The status page of a process: what it shows, put together when it is asked for.

Who is admitted where, and the routes, are as `--check` and `--routes` show them, read anew for each page, for an
application may add routes. What changes by the second is `status`'s; the page gets it with the page itself, so that it
is whole without JavaScript, and after that from `status_stream`.
"""

from __future__ import annotations

import sys
from pathlib import Path

from duallisten import clock
from duallisten.config import Config
from duallisten.pages import Page
from duallisten.pools import whole
from duallisten.report import make_report
from duallisten.scoreboard import Scoreboard
from duallisten.serving import Placed, places
from duallisten.status_html import Facts, edition, fill_in, policy
from duallisten.status_stream import Streams, Watch

TEMPLATE = Path(__file__).with_name("status.html")


class StatusPage:
    """The status page of a process, and its events.

    server: what serves
    """

    def __init__(self, config: Config, board: Scoreboard, server: Placed) -> None:
        self._config = config
        self._server = server
        self._watch = Watch(board, config.options.health_stall)
        self._template = TEMPLATE.read_text(encoding="utf-8")
        self.streams = Streams(self._watch, lambda: edition(self._facts()))

    def make(self) -> Page:
        """Make the page, as of now."""
        time = f"{clock.iso(clock.now())[11:19]} UTC"
        html = fill_in(self._template, self._facts(), self._watch.look(), time)
        headers = (
            (b"content-security-policy", policy(self._template).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
        )
        return Page(200, "text/html; charset=utf-8", html.encode(), headers)

    def _facts(self) -> Facts:
        plan, bound = self._server.plan, self._server.bound
        assert plan is not None and bound is not None  # noqa: S101  # it serves
        return Facts(
            version=sys.modules["duallisten"].__version__,
            report=make_report(self._config, whole(plan)),
            urls=tuple(places(self._config, plan, bound)),
            sections=tuple(self._config.sections()),
        )
