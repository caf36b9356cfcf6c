"""Clients that ask all the time, and note every request that is lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.support.running import DEADLINE, ask

PAUSE = 0.002
"""Seconds between two requests of a client: some time must be left for processes to start."""


class Load:
    """What clients have got.

    answers: whether each answer was 200
    failures: the requests without an answer
    """

    def __init__(self) -> None:
        self.answers: list[bool] = []
        self.failures: list[str] = []
        self._done = threading.Event()

    def stop(self) -> None:
        self._done.set()

    def ask_anew(self, url: str) -> None:
        """Ask over a connection for each request."""
        while not self._done.wait(PAUSE):
            try:
                self.answers.append(b" 200 OK" in ask(url))
            except OSError as error:
                self.failures.append(repr(error))

    def ask_over_a_pool(self, url: str) -> None:
        """Ask over connections that are kept, without a second try."""
        with httpx.Client(transport=httpx.HTTPTransport(retries=0), timeout=DEADLINE) as client:
            while not self._done.wait(PAUSE):
                try:
                    self.answers.append(client.get(url).status_code == 200)
                except httpx.HTTPError as error:
                    self.failures.append(repr(error))


@contextmanager
def steady_load(*urls: str) -> Iterator[Load]:
    """Ask each URL with two clients as long as the block lasts: one with a connection per request, one with a pool."""
    load = Load()
    threads = [
        threading.Thread(target=work, args=(url,)) for work in (load.ask_anew, load.ask_over_a_pool) for url in urls
    ]
    for thread in threads:
        thread.start()
    try:
        yield load
    finally:
        load.stop()
        for thread in threads:
            thread.join(DEADLINE)
