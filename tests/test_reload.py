from __future__ import annotations

from pathlib import Path

import httpx

from tests.running import FREE, launched

APP = """
from duallisten import side

async def app(scope, receive, send):
    if scope["type"] == "http":
        body = (side(scope) + " {version}").encode()
        headers = [(b"content-length", b"%d" % len(body))]
        await send({{"type": "http.response.start", "status": 200, "headers": headers}})
        await send({{"type": "http.response.body", "body": body}})
"""


def test_a_changed_file_is_served_on_both_sides_and_a_broken_one_is_told(tmp_path: Path) -> None:
    module = tmp_path / "shop.py"
    module.write_text(APP.format(version=1))
    with launched("shop:app", "--reload", *FREE, cwd=tmp_path) as server:
        urls = {side: server.url(side) for side in ("public", "private")}
        server.wait_for("Application startup complete|appears unsupported")
        for side, url in urls.items():
            assert httpx.get(url).text == f"{side} 1"
        module.write_text("x = (\n")
        server.wait_for("duallisten: 'shop:app' cannot be imported: SyntaxError")
        server.wait_for("Traceback")
        start = len(server.lines)
        module.write_text(APP.format(version=22))
        server.wait_for("Waiting for application startup", start=start)
        for side, url in urls.items():
            assert httpx.get(url).text == f"{side} 22"
