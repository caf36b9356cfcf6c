"""The status page of a process: what it shows, put together when it is asked for.

Who is admitted where, and the routes, are as `--check` and `--routes` show them, read anew for each page, for an
application may add routes. What changes by the second is `figures`'s; the page gets it with the page itself, so that it
is whole without JavaScript, and after that from `stream`.
"""

from __future__ import annotations

from importlib.metadata import version
from pathlib import Path

from duallisten.admin.pages import Page
from duallisten.admin.status.page import PageContext, edition, fill_in, policy
from duallisten.admin.status.stream import Streams, Watch
from duallisten.config import Config
from duallisten.listeners import ListenerSet, served_listeners
from duallisten.listeners.report import make_report
from duallisten.logs import utc_timestamp, wall_clock
from duallisten.observability import Scoreboard

TEMPLATE = Path(__file__).with_name("status.html")


class StatusPage:
    """The status page of a process, and its events.

    listeners: what serves
    """

    def __init__(self, config: Config, board: Scoreboard, listeners: ListenerSet) -> None:
        self._config = config
        self._listeners = listeners
        self._watch = Watch(board, config.options.health_stall)
        self._template = TEMPLATE.read_text(encoding="utf-8")
        self.streams = Streams(self._watch, lambda: edition(self._facts()))

    def make(self) -> Page:
        """Build the page, as of now."""
        now = f"{utc_timestamp(wall_clock())[11:19]} UTC"
        html = fill_in(self._template, self._facts(), self._watch.look(), now)
        headers = (
            (b"content-security-policy", policy(self._template).encode()),
            (b"x-content-type-options", b"nosniff"),
            (b"referrer-policy", b"no-referrer"),
        )
        return Page(200, "text/html; charset=utf-8", html.encode(), headers)

    def _facts(self) -> PageContext:
        plan, bound = self._listeners.plan, self._listeners.bound
        assert plan is not None and bound is not None  # noqa: S101  # it serves
        return PageContext(
            version=version("duallisten"),
            report=make_report(self._config, plan.whole),
            urls=tuple((one.side, url) for one in served_listeners(self._config, plan, bound) for url in one.urls),
            sections=tuple(self._config.sections()),
        )
