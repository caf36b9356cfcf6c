from __future__ import annotations

import contextlib
from pathlib import Path

import httpx

from tests.support.running import DEADLINE, FREE, Launched, eventually, is_refused, launched

APP = """
from duallisten import side

async def app(scope, receive, send):
    if scope["type"] == "http":
        body = (side(scope) + " {version}").encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({{"type": "http.response.start", "status": 200, "headers": headers}})
        await send({{"type": "http.response.body", "body": body}})
"""


def change(server: Launched, module: Path, text: str, noticed: str) -> None:
    """Write `module` until a line that matches `noticed` comes: uvicorn's watcher begins some time after the server."""
    start = len(server.lines)
    for _ in range(15):
        module.write_text(text)
        with contextlib.suppress(AssertionError):
            server.wait_for(noticed, start=start, within=2)
            return
    server.wait_for(noticed, start=start)


def test_a_changed_file_is_served_on_both_sides_and_a_broken_one_is_told(tmp_path: Path) -> None:
    module = tmp_path / "shop.py"
    module.write_text(APP.format(version=1))
    with launched("shop:app", "--reload", *FREE, cwd=tmp_path) as server:
        urls = {side: server.url(side) for side in ("public", "private")}
        server.wait_for("Application startup complete|appears unsupported")
        for side, url in urls.items():
            assert eventually(lambda url=url: not is_refused(url))  # type: ignore[misc]  # a reloader speaks too early
            assert httpx.get(url).text == f"{side} 1"
        change(server, module, "x = (\n", "duallisten: 'shop:app' cannot be imported: SyntaxError")
        assert 'shop.py", line 1\n    x = (\n        ^\n' in server.output
        change(server, module, APP.format(version=22), "Waiting for application startup")
        for side, url in urls.items():
            assert httpx.get(url, timeout=DEADLINE).text == f"{side} 22"
