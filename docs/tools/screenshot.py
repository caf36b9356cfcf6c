"""The picture of the status page in the README: a small shop under a light load for a minute, in Debian's Chromium.

    .venv/bin/python docs/tools/screenshot.py

It needs what the tests need, and writes `docs/images/status.png`.
"""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Sequence
from math import sin
from pathlib import Path

import httpx

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1]))

from tests.support.chromium import browsing  # noqa: E402
from tests.support.running import FREE, launched  # noqa: E402

SECONDS = 58.0
WIDTH = 1000
MOST_BYTES = 150 * 1024

OPTIONS = ("--private-missing", "loopback", "--private-health", "/health", "--workers", "2", "--no-access-log")


def main() -> None:
    with launched("fruit_shop:app", "--app-dir", str(HERE), *OPTIONS, *FREE) as shop, browsing() as page:
        public, private = shop.url("public"), shop.url("private")
        ended = threading.Event()
        load = (
            (public, ("/", "/products/1", "/products/2", "/products/3"), 40.0),
            (public, ("/", "/products/1", "/favicon.ico", "/internal/stock"), 3.0),
            (private, ("/internal/stock",), 9.0),
        )
        clients = [threading.Thread(target=_ask, args=(*one, ended)) for one in load]
        for client in clients:
            client.start()
        try:
            page.look(width=WIDTH)
            page.open(f"{private}/health/status")
            time.sleep(SECONDS)
            height = page.run("document.querySelector('.sides').getBoundingClientRect().bottom + 16")
            picture = page.screenshot(WIDTH, int(height))
        finally:
            ended.set()
            for client in clients:
                client.join()
    assert len(picture) < MOST_BYTES, f"{len(picture)} bytes"
    (HERE.parent / "images" / "status.png").write_bytes(picture)


def _ask(url: str, paths: Sequence[str], rate: float, ended: threading.Event) -> None:
    """Ask for `paths` over and over, about `rate` times a second, sometimes more and sometimes less."""
    chance = random.Random(rate)
    begun = time.monotonic()
    with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
        while not ended.wait(chance.expovariate(rate * (1 + 0.5 * sin((time.monotonic() - begun) / 8)))):
            client.get(chance.choice(paths))


if __name__ == "__main__":
    main()
