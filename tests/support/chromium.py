"""A real browser for tests: Debian's Chromium without a window, driven over the Chrome DevTools protocol.

It keeps what went wrong in a page, which no script of the page can hide: what the console said, what the page's policy
forbade, and where requests went. Only loopback is ever asked for, by either.
"""

from __future__ import annotations

import base64
import itertools
import json
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.support.running import DEADLINE, Launched, eventually

FLAGS = (
    "--headless=new",
    "--no-sandbox",  # it runs as root in containers
    "--remote-debugging-port=0",
    "--disable-gpu",
    "--hide-scrollbars",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-proxy-server",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)


class Page:
    """A page in a browser.

    errors: what the console, the policy and the page's script complained of
    requested: every URL that was asked for
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self.errors: list[str] = []
        self.requested: list[str] = []
        for domain in ("Page", "Runtime", "Log", "Network", "Audits"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **params: Any) -> Any:
        """Have the browser do something, and give its answer."""
        number = next(self._numbers)
        self._connection.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            message = json.loads(self._connection.recv(DEADLINE))
            if message.get("id") == number:
                assert "error" not in message, message["error"]
                return message["result"]
            self._note(message["method"], message["params"])

    def _note(self, event: str, params: Any) -> None:
        if event == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])
        elif event in ("Runtime.exceptionThrown", "Runtime.consoleAPICalled", "Log.entryAdded", "Audits.issueAdded"):
            self.errors.append(json.dumps(params))

    def reset(self) -> None:
        """Begin anew, with an empty page."""
        self.call("Emulation.setScriptExecutionDisabled", value=False)
        self.look(width=1000)
        self.open("about:blank")
        self.errors.clear()
        self.requested.clear()

    def open(self, url: str) -> None:
        """Go to a URL."""
        self.call("Page.navigate", url=url)
        assert self.eventually("document.readyState === 'complete'")

    def run(self, expression: str) -> Any:
        """Give the value of an expression in the page."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def eventually(self, expression: str) -> bool:
        """Look until an expression is true in the page, and give up at the deadline."""
        deadline = time.monotonic() + DEADLINE
        while not self.run(expression):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def look(self, *, width: int, height: int = 800, dark: bool = False) -> None:
        """Have a window of some size, and a colour scheme."""
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.call("Emulation.setEmulatedMedia", features=[scheme])

    def screenshot(self, width: int, height: int) -> bytes:
        """Give a picture of the page's upper left part, a PNG."""
        clip = {"x": 0, "y": 0, "width": width, "height": height, "scale": 1}
        return base64.b64decode(self.call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)["data"])


@contextmanager
def browsing(*flags: str) -> Iterator[Page]:
    """Open a browser with an empty page, and end it when the block ends."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        command = ["chromium", *FLAGS, *flags, f"--user-data-dir={profile}", "about:blank"]
        with Launched(command, group=True) as browser:
            try:
                with connect(_page_url(browser), max_size=None, proxy=None, ping_interval=None) as connection:
                    yield Page(connection)
            finally:
                browser.end(signal.SIGKILL)  # its helpers, too


def _page_url(browser: Launched) -> str:
    """Wait until the browser has told where it listens, and give the URL of its page."""
    port = browser.wait_for(r"DevTools listening on ws://127\.0\.0\.1:(\d+)/")[1]
    with httpx.Client(trust_env=False, timeout=DEADLINE) as client:

        def pages() -> list[str]:
            found = client.get(f"http://127.0.0.1:{port}/json/list").json()
            return [one["webSocketDebuggerUrl"] for one in found if one["type"] == "page"]

        assert eventually(lambda: bool(pages())), "Chromium has no page"
        return pages()[0]
