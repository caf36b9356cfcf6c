"""Access lines that are written without `logging`: the same lines, and only where nobody would see a difference."""

from __future__ import annotations

import asyncio
import http.client
import io
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from uvicorn.config import LOGGING_CONFIG
from uvicorn.logging import AccessFormatter

from duallisten import Config
from duallisten.accesslines import FORMAT, AccessLines
from duallisten.accesslog import AccessLog, SideAccessLogger
from duallisten.admission import Side
from tests.applications import Observed
from tests.running import DUALLISTEN, FREE, Launched, free_environment, launched

DEMO = "duallisten.demo:app"
LOGGER = logging.getLogger("uvicorn.access")
MESSAGE = '%s - "%s %s HTTP/%s" %d'
"""What uvicorn's protocols say to their access logger, with five arguments."""

Arguments = tuple[str, str, str, str, int]
GET: Arguments = ("127.0.0.1:1", "GET", "/", "1.1", 200)


class Stream(io.StringIO):
    """A stream that keeps what was written to it at once."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []
        self.flushes = 0

    def write(self, text: str) -> int:
        self.writes.append(text)
        return super().write(text)

    def flush(self) -> None:
        self.flushes += 1


@pytest.fixture
def stream() -> Iterator[Stream]:
    """The stream of uvicorn's access log, configured as by a launch, without colours."""
    Config(Observed(), use_colors=False)
    handler = LOGGER.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    stream = Stream()
    handler.setStream(stream)
    yield stream
    LOGGER.filters.clear()


def as_launched() -> AccessLog:
    """Give the access log of a launch, where no handlers of pytest's stand beside uvicorn's."""
    LOGGER.handlers[:] = LOGGER.handlers[:1]
    return AccessLog()


def is_written_directly(log: AccessLog) -> bool:
    return not isinstance(log.logger("public"), SideAccessLogger)


# --- The lines ---


@settings(deadline=None, derandomize=True, max_examples=300)
@given(
    st.tuples(
        st.sampled_from(["", "127.0.0.1:1", "::1:5", "%s"]),
        st.sampled_from(["GET", "OPTIONS", "M-SEARCH", "%d"]),
        st.sampled_from(["/", "/a%20b?c=%25d", "/{x}", "%(levelprefix)s"]),
        st.sampled_from(["1.1", "1.0", "2"]),
        st.integers(100, 999),
    )
)
async def test_a_line_is_what_logging_makes_of_it(arguments: Arguments) -> None:
    formatter = AccessFormatter(FORMAT, use_colors=False)
    record = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, MESSAGE, arguments, None)
    theirs = formatter.format(record)
    handler = logging.StreamHandler(Stream())
    logger = logging.Logger("a test")
    logger.addHandler(handler)
    lines = AccessLines(logger)
    lines.writer("public").info(MESSAGE, *arguments)
    lines.writer("private").info(MESSAGE, *arguments)
    lines.write()
    assert handler.stream.getvalue() == f"{theirs}\n{theirs} (private)\n"


def test_uvicorn_s_format_is_the_one_that_is_written() -> None:
    assert LOGGING_CONFIG["formatters"]["access"]["fmt"] == FORMAT


async def test_the_lines_of_a_turn_are_written_and_flushed_at_once(stream: Stream) -> None:
    log = as_launched()
    sides: tuple[Side, ...] = ("public", "private", "public")
    for side in sides:
        log.logger(side).info(MESSAGE, *GET)
    assert stream.writes == []
    await asyncio.sleep(0)
    line = 'INFO:     127.0.0.1:1 - "GET / HTTP/1.1" 200 OK'
    assert stream.writes == [f"{line}\n{line} (private)\n{line}\n"]
    assert stream.flushes == 1
    log.logger("public").info(MESSAGE, *GET)
    await asyncio.sleep(0)
    assert stream.writes[1:] == [f"{line}\n"]


async def test_what_is_left_at_the_end_is_written(stream: Stream) -> None:
    log = as_launched()
    log.logger("public").info(MESSAGE, *GET)
    log.write()
    log.write()
    await asyncio.sleep(0)
    assert len(stream.writes) == 1


# --- Whose logging it is ---


class OwnFilter(logging.Filter):
    """A filter of a user's."""


class OwnHandler(logging.StreamHandler[Any]):
    """A handler of a user's."""


class OwnRecord(logging.LogRecord):
    """A record of a user's."""


class OwnFormatter(AccessFormatter):
    """A formatter of a user's."""


def replace_handler(handler: logging.Handler) -> None:
    handler.setFormatter(LOGGER.handlers[0].formatter)
    LOGGER.handlers[:] = [handler]


CHANGES: dict[str, Callable[[], Any]] = {
    "a filter on the logger": lambda: LOGGER.addFilter(OwnFilter()),
    "a filter on the handler": lambda: LOGGER.handlers[0].addFilter(OwnFilter()),
    "a level on the logger": lambda: LOGGER.setLevel(logging.WARNING),
    "a level on the handler": lambda: LOGGER.handlers[0].setLevel(logging.WARNING),
    "another handler": lambda: LOGGER.addHandler(logging.NullHandler()),
    "no handler": lambda: LOGGER.removeHandler(LOGGER.handlers[0]),
    "a handler of its own": lambda: replace_handler(OwnHandler()),
    "a formatter of its own": lambda: LOGGER.handlers[0].setFormatter(OwnFormatter(FORMAT, use_colors=False)),
    "a plain formatter": lambda: LOGGER.handlers[0].setFormatter(logging.Formatter()),
    "another format": lambda: LOGGER.handlers[0].setFormatter(AccessFormatter("%(message)s", use_colors=False)),
    "colours": lambda: LOGGER.handlers[0].setFormatter(AccessFormatter(FORMAT, use_colors=True)),
    "propagation": lambda: setattr(LOGGER, "propagate", True),
    "disabled": lambda: setattr(LOGGER, "disabled", True),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_changed_logger_is_used_as_it_is(change: str, stream: Stream) -> None:
    log = as_launched()
    assert is_written_directly(log)
    try:
        CHANGES[change]()
        assert not is_written_directly(log)
    finally:
        LOGGER.disabled = False


async def test_logging_that_is_changed_for_all_is_used_as_it_is(stream: Stream) -> None:
    log = as_launched()
    logging.disable(logging.INFO)
    try:
        assert not is_written_directly(log)
    finally:
        logging.disable(logging.NOTSET)
    logging.setLogRecordFactory(OwnRecord)
    try:
        assert not is_written_directly(log)
    finally:
        logging.setLogRecordFactory(logging.LogRecord)
    assert is_written_directly(log)


APPLICATION = """
import logging
from duallisten.demo import app as demo

class Loud(logging.Filter):
    def filter(self, record):
        record.args = (*record.args[:2], "/FILTERED", *record.args[3:])
        return True

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        logging.getLogger("uvicorn.access").addFilter(Loud())
    elif scope["path"] == "/fails":
        raise RuntimeError("as it should")
    await demo(scope, receive, send)
"""


def test_a_filter_that_the_application_adds_while_it_starts_is_heard(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APPLICATION)
    with launched("shop:app", *FREE, cwd=tmp_path) as server:
        httpx.get(server.url("public"))
        assert server.wait_for(r'"GET /FILTERED HTTP/1\.1" 200 OK$')


# --- Whatever happens, no line is lost ---


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_every_request_has_its_line(parser: str, loop: str) -> None:
    with launched(DEMO, "--http", parser, "--loop", loop, *FREE) as server:
        for side in ("public", "private"):
            parts = httpx.URL(server.url(side))
            connection = http.client.HTTPConnection(parts.host, parts.port or 80)
            for number in range(200):
                connection.request("GET", f"/{side}/{number}")
                connection.getresponse().read()
            connection.close()
        server.end(signal.SIGTERM)
    logged = re.findall(r'"GET /(\w+)/(\d+) HTTP/1\.1" 404 Not Found( \(private\))?', server.output)
    assert logged == [("public", str(number), "") for number in range(200)] + [
        ("private", str(number), " (private)") for number in range(200)
    ]


def test_a_request_that_raises_has_its_line(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text(APPLICATION.replace("/FILTERED", "/fails"))
    with launched("shop:app", "--lifespan", "off", *FREE, cwd=tmp_path) as server:
        assert httpx.get(server.url("public") + "/fails").status_code == 500
        assert server.wait_for(r'"GET /fails HTTP/1\.1" 500 Internal Server Error$')


@pytest.mark.parametrize("server", ["duallisten", "uvicorn"])
def test_a_closed_standard_output_costs_no_answer(server: str, tmp_path: Path) -> None:
    """As under uvicorn: the handler reports that it could not write, and the request is answered."""
    command = (
        (*DUALLISTEN, DEMO, *FREE) if server == "duallisten" else (sys.executable, "-m", "uvicorn", DEMO, "--port", "0")
    )
    reading, writing = os.pipe()
    os.close(reading)
    with (tmp_path / "errors").open("w+") as errors:
        process = subprocess.Popen(command, stdout=writing, stderr=errors, text=True, env=free_environment())
        os.close(writing)
        try:
            url = wait_for_url(tmp_path / "errors", process)
            for _ in range(3):
                assert httpx.get(url).status_code == 200
        finally:
            process.terminate()
            process.wait(30)
    told = (tmp_path / "errors").read_text()
    assert told.count("--- Logging error ---") == 3
    assert "BrokenPipeError" in told


def wait_for_url(path: Path, process: subprocess.Popen[str]) -> str:
    """Wait until the log names where the public side is served."""
    from tests.running import eventually

    pattern = r"(?:the public side on|running on) (http://\S+)"
    assert eventually(lambda: bool(re.search(pattern, path.read_text())) or process.poll() is not None)
    found = re.search(pattern, path.read_text())
    assert found, path.read_text()
    return found[1]


def test_a_reader_that_is_slow_gets_every_line() -> None:
    running = Launched.start((*DUALLISTEN, DEMO, *FREE))
    try:
        url = running.url("public")
        with httpx.Client() as client:
            for number in range(300):
                client.get(f"{url}/{number}-{'x' * 1000}")
        running.end()
    finally:
        running.stop()
    assert len(re.findall('"GET /.* 404 Not Found$', running.output, re.MULTILINE)) == 300
