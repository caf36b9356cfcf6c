"""The lines of the access log, byte for byte, beside uvicorn's own."""

from __future__ import annotations

import json
import logging
import re
import sys
from pathlib import Path

import httpx
import pytest
from websockets.sync.client import connect

from tests.support.applications import Observed
from tests.support.running import FREE, launched, serving

DEMO = "duallisten.demo:app"


def uvicorn_line(path: str) -> str:
    """What uvicorn itself logs for a GET, with the client's port as N."""
    with launched(DEMO, "--port", "0", command=(sys.executable, "-m", "uvicorn")) as server:
        httpx.get(server.wait_for(r"running on (\S+)")[1] + path)
        return re.sub(r":\d+ -", ":N -", server.wait_for('"GET').string)


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_the_public_line_is_uvicorn_s_and_the_private_one_says_so_at_its_end(http: str) -> None:
    path = "/a%20b?c=d&e=%20"
    theirs = uvicorn_line(path)
    with launched(DEMO, "--http", http, *FREE) as server:
        httpx.get(server.url("public") + path)
        httpx.get(server.url("private") + path)
        server.wait_for(r"404 Not Found \(private\)")
    ours = [re.sub(r":\d+ -", ":N -", line) for line in server.lines if '"GET' in line]
    assert ours == [theirs, theirs + " (private)"]


def test_a_websocket_s_handshake_is_marked_too() -> None:
    with launched("tests.support.sockets_app:app", *FREE) as server:
        for name in ("public", "private"):
            with connect(server.url(name).replace("http", "ws") + "/chat"):
                pass
        server.wait_for(r'"WebSocket /chat" \[accepted\] \(private\)$')
        server.wait_for(r'"WebSocket /chat" \[accepted\]$')
    assert "connection closed (private)" not in server.output


@pytest.mark.parametrize(
    ("arguments", "public", "private"),
    [
        (["--no-access-log"], False, False),
        (["--no-private-access-log"], True, False),
        (["--no-access-log", "--private-access-log"], False, True),
    ],
)
def test_each_side_has_its_log_or_not(arguments: list[str], public: bool, private: bool) -> None:
    with launched(DEMO, *arguments, *FREE) as server:
        httpx.get(server.url("public") + "/outer")
        httpx.get(server.url("private") + "/inner")
        server.end()
    assert ("/outer" in server.output, "/inner" in server.output) == (public, private)


def test_a_user_s_own_logging_gets_the_side_of_a_private_line(tmp_path: Path) -> None:
    (tmp_path / "logging.json").write_text(
        json.dumps(
            {
                "version": 1,
                "disable_existing_loggers": False,
                "formatters": {"mine": {"format": "MINE %(message)s"}},
                "handlers": {"mine": {"class": "logging.StreamHandler", "formatter": "mine"}},
                "loggers": {"uvicorn": {"handlers": ["mine"], "level": "INFO"}},
            }
        )
    )
    with launched(DEMO, "--log-config", str(tmp_path / "logging.json"), *FREE) as server:
        httpx.get(server.url("public"))
        httpx.get(server.url("private"))
        server.wait_for(r'^MINE 127\.0\.0\.1:\d+ - "GET / HTTP/1\.1" 200 \(private\)$')
        server.wait_for(r'^MINE 127\.0\.0\.1:\d+ - "GET / HTTP/1\.1" 200$')


def test_the_record_of_a_line_has_its_side(caplog: pytest.LogCaptureFixture) -> None:
    logging.getLogger("uvicorn.access").setLevel(logging.INFO)
    with caplog.at_level(logging.INFO, "uvicorn.access"), serving(Observed()) as server:
        httpx.get(server.url("public"))
        httpx.get(server.url("private"))
    records = [record for record in caplog.records if record.name == "uvicorn.access"]
    assert [getattr(record, "side", None) for record in records] == ["public", "private"]
