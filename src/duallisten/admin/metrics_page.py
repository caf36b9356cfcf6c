"""The page of metrics: duallisten's own (`metrics`), and the application's.

The application's come from the default registry of `prometheus_client`, or where there are several processes from the
files that these share (`metrics_multiprocess`). The text is made by `prometheus_client`, too, in the format that the
scraper asks for.

Names that begin with `duallisten_` are ours: an application's metrics that are called so are left out, and the log says
it once. What else would come of two families with one name is a scrape that Prometheus throws away as a whole.

What it must never do: let a collector of the application's that fails take our metrics with it. It may be called in any
thread, and takes as long as the application's metrics take (`admin.routes` gives it a thread of its own).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Iterator, Sequence

from prometheus_client import REGISTRY
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder

from duallisten.admin.metrics import OURS, families
from duallisten.admin.metrics_multiprocess import directory, read_files
from duallisten.admin.pages import Asked, Page
from duallisten.logs import RateLimiter
from duallisten.observability import Scoreboard

logger = logging.getLogger("uvicorn.error")


class Families:
    """What `prometheus_client` writes out: families, already collected."""

    def __init__(self, collected: Sequence[Metric]) -> None:
        self.collected = collected

    def collect(self) -> Iterable[Metric]:
        """Return them."""
        return self.collected


class MetricsPage:
    """The page of metrics of a process."""

    def __init__(self, board: Scoreboard) -> None:
        self._board = board
        self._left_out: set[str] = set()
        self._throttle = RateLimiter()

    def __call__(self, asked: Asked) -> Page:
        """Answer a scrape."""
        try:
            encode, content_type = choose_encoder(asked.header(b"accept"))
        except (TypeError, ValueError):  # it cannot compare the version that was asked for with those that it knows
            encode, content_type = choose_encoder("")
        ours = list(families(self._board.read()))
        try:
            body = encode(Families([*ours, *self._applications()]))
        except Exception as error:  # whatever a collector of the application's may raise
            self._complain(error)
            body = encode(Families(ours))
        return Page(200, content_type, body)

    def _applications(self) -> Iterator[Metric]:
        shared = directory()
        for family in read_files(shared) if shared is not None else REGISTRY.collect():
            if not family.name.startswith(OURS):
                yield family
            elif family.name not in self._left_out:
                self._left_out.add(family.name)
                logger.warning(
                    "The application's metric %s is left out: what begins with %s is duallisten's own",
                    family.name,
                    OURS,
                )

    def _complain(self, error: Exception) -> None:
        if self._throttle.lets_through(time.monotonic()):
            logger.error("The application's metrics are left out, for they cannot be read: %r", error)
