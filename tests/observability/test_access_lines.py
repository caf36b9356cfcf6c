"""Access lines that are written without `logging`: the same lines, and only where nobody would see a difference."""

from __future__ import annotations

import asyncio
import functools
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
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from uvicorn.config import LOGGING_CONFIG
from uvicorn.logging import AccessFormatter
from uvicorn.protocols.utils import get_client_addr, get_path_with_query_string

from duallisten import Config
from duallisten.observability.access_log import FORMAT, MESSAGE, AccessLines, TextAccessLog
from duallisten.sides import Side
from tests.support.applications import Observed
from tests.support.running import DUALLISTEN, FREE, Launched, launched

DEMO = "duallisten.demo:app"
LOGGER = logging.getLogger("uvicorn.access")


def exchange(
    client: Any = ("127.0.0.1", 1), method: str = "GET", path: str = "/", query: bytes = b"", status: int = 200
) -> Any:
    """As much of an exchange as a line tells of."""
    scope = {"client": client, "method": method, "path": path, "query_string": query, "http_version": "1.1"}
    connection = SimpleNamespace(client=client, note=None)
    return SimpleNamespace(scope=scope, status=status, is_own=False, connection=connection)


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


def as_launched() -> AccessLines:
    """Give the access lines of a launch, where no handlers of pytest's stand beside uvicorn's."""
    LOGGER.handlers[:] = LOGGER.handlers[:1]
    return AccessLines()


# --- The lines ---


@settings(
    deadline=None, derandomize=True, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.sampled_from([None, ("127.0.0.1", 1), ("::1", 5), ("%s", 0)]),
    st.sampled_from(["GET", "OPTIONS", "M-SEARCH", "%d"]),
    st.sampled_from(["/", "/a b", "/%25d{x}", "/\u00e4/" + "x" * 300, "%(levelprefix)s"]),
    st.sampled_from([b"", b"a=%20&b"]),
    st.integers(100, 999),
)
async def test_a_line_is_what_logging_makes_of_it(
    stream: Stream, client: Any, method: str, path: str, query: bytes, status: int
) -> None:
    formatter = AccessFormatter(FORMAT, use_colors=False)
    one = exchange(client, method, path, query, status)
    arguments = (get_client_addr(one.scope), method, get_path_with_query_string(one.scope), "1.1", status)
    record = logging.LogRecord("uvicorn.access", logging.INFO, "", 0, MESSAGE, arguments, None)
    theirs = formatter.format(record)
    lines = as_launched()
    before = stream.getvalue()
    TextAccessLog(lines, "public").response_started(one)
    TextAccessLog(lines, "private").response_started(one)
    lines.write()
    assert stream.getvalue()[len(before) :] == f"{theirs}\n{theirs} (private)\n"


def test_uvicorn_s_format_is_the_one_that_is_written() -> None:
    assert LOGGING_CONFIG["formatters"]["access"]["fmt"] == FORMAT


async def test_the_lines_of_a_turn_are_written_and_flushed_at_once(stream: Stream) -> None:
    lines = as_launched()
    sides: tuple[Side, ...] = ("public", "private", "public")
    for side in sides:
        TextAccessLog(lines, side).response_started(exchange())
    assert stream.writes == []
    await asyncio.sleep(0)
    line = 'INFO:     127.0.0.1:1 - "GET / HTTP/1.1" 200 OK'
    assert stream.writes == [f"{line}\n{line} (private)\n{line}\n"]
    assert stream.flushes == 1
    TextAccessLog(lines, "public").response_started(exchange())
    await asyncio.sleep(0)
    assert stream.writes[1:] == [f"{line}\n"]


async def test_what_is_left_at_the_end_is_written(stream: Stream) -> None:
    lines = as_launched()
    TextAccessLog(lines, "public").response_started(exchange())
    lines.write()
    lines.write()
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


def inner(formatter: Any) -> Any:
    """The formatter within the one that marks private lines."""
    return getattr(formatter, "formatter", formatter)


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
    "a record made in another way": lambda: setattr(LOGGER, "makeRecord", print),
    "another way to the handlers": lambda: setattr(LOGGER, "callHandlers", print),
    "another way to flush": lambda: setattr(LOGGER.handlers[0], "flush", print),
    "another way to emit": lambda: setattr(LOGGER.handlers[0], "emit", print),
    "another way to format": lambda: setattr(inner(LOGGER.handlers[0].formatter), "formatMessage", str),
}


@pytest.mark.parametrize("change", CHANGES)
async def test_a_changed_logger_is_used_as_it_is(change: str, stream: Stream) -> None:
    lines = as_launched()
    assert lines.are_direct
    try:
        CHANGES[change]()
        assert not lines.are_direct
    finally:
        LOGGER.disabled = False
        LOGGER.__dict__.pop("makeRecord", None)
        LOGGER.__dict__.pop("callHandlers", None)


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        (logging.Logger, "callHandlers"),
        (logging.Logger, "_log"),
        (logging.StreamHandler, "emit"),
        (logging.Handler, "handle"),
        (logging.Formatter, "format"),
        (logging.LogRecord, "getMessage"),
        (AccessFormatter, "formatMessage"),
        (AccessFormatter, "get_status_code"),
    ],
)
async def test_a_method_of_logging_that_a_program_replaces_is_used(
    kind: type, name: str, stream: Stream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As tracers do: Sentry's SDK replaces `Logger.callHandlers`."""
    lines = as_launched()
    theirs = getattr(kind, name)

    @functools.wraps(theirs)
    def own(*arguments: Any, **options: Any) -> Any:
        return theirs(*arguments, **options)

    monkeypatch.setattr(kind, name, own)
    lines.look_again()  # a server does it each second
    assert not lines.are_direct
    assert not AccessLines().are_direct
    monkeypatch.undo()
    lines.look_again()
    assert lines.are_direct


async def test_a_line_goes_to_the_handler_that_there_was_when_it_came(stream: Stream) -> None:
    lines = as_launched()
    TextAccessLog(lines, "public").response_started(exchange())
    other = Stream()
    replace_handler(logging.StreamHandler(other))
    await asyncio.sleep(0)
    assert (len(stream.writes), other.writes) == (1, [])


async def test_logging_that_is_changed_for_all_is_used_as_it_is(stream: Stream) -> None:
    lines = as_launched()
    logging.disable(logging.INFO)
    try:
        assert not lines.are_direct
    finally:
        logging.disable(logging.NOTSET)
    logging.setLogRecordFactory(OwnRecord)
    try:
        assert not lines.are_direct
    finally:
        logging.setLogRecordFactory(logging.LogRecord)
    assert lines.are_direct


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


CHANGING = """
import logging, sys
from uvicorn.logging import AccessFormatter

LOGGER = logging.getLogger("uvicorn.access")

class Loud(logging.Filter):
    def filter(self, record):
        record.args = (*record.args[:2], "/FILTERED", *record.args[3:])
        return True

def emit(record):
    sys.stdout.write("OWN " + record.args[2] + "\\n")
    sys.stdout.flush()

def replace_format():
    AccessFormatter.formatMessage = lambda self, record: "OWN " + record.args[2]

def replace_handlers():
    LOGGER.handlers = [logging.StreamHandler(sys.stdout)]
    LOGGER.handlers[0].setFormatter(logging.Formatter("OWN %(message)s"))

CHANGES = {
    "/filter": lambda: LOGGER.addFilter(Loud()),
    "/level": lambda: LOGGER.setLevel("WARNING"),
    "/disabled": lambda: setattr(LOGGER, "disabled", True),
    "/none": lambda: LOGGER.handlers.clear(),
    "/handlers": replace_handlers,
    "/emit": lambda: setattr(LOGGER.handlers[0], "emit", emit),
    "/format": replace_format,
}

async def app(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body"})
        CHANGES.get(scope["path"], lambda: None)()
"""


@pytest.mark.parametrize("server", ["duallisten", "uvicorn"])
@pytest.mark.parametrize(
    ("change", "line"),
    [
        ("filter", r'"GET /FILTERED HTTP/1\.1" 200 OK$'),
        ("level", None),
        ("disabled", None),
        ("none", None),
        ("handlers", r'^OWN 127.*"GET /after HTTP/1\.1" 200$'),
        ("emit", "^OWN /after$"),
        ("format", "^OWN /after$"),
    ],
)
def test_a_change_of_the_access_log_is_heard_on_open_connections(
    change: str, line: str | None, server: str, tmp_path: Path
) -> None:
    (tmp_path / "shop.py").write_text(CHANGING)
    command = (*DUALLISTEN, *FREE) if server == "duallisten" else (sys.executable, "-m", "uvicorn", "--port", "0")
    with launched("shop:app", "--lifespan", "off", command=command, cwd=tmp_path) as program, httpx.Client() as client:
        url = program.wait_for(r"Uvicorn running on (http://\S+)")[1]
        client.get(f"{url}/before")
        program.wait_for(r'"GET /before HTTP/1\.1" 200 OK$')
        client.get(f"{url}/{change}")
        client.get(f"{url}/after")
        if line is not None:
            program.wait_for(line)
        program.end()
        assert '"GET /after HTTP/1.1" 200 OK' not in program.output


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
def test_a_closed_standard_output_costs_no_answer(server: str) -> None:
    """As under uvicorn: the handler reports that it could not write, and the request is answered."""
    command = (
        (*DUALLISTEN, DEMO, *FREE) if server == "duallisten" else (sys.executable, "-m", "uvicorn", DEMO, "--port", "0")
    )
    reading, writing = os.pipe()
    os.close(reading)
    with Launched(command, stdout=writing, stderr=subprocess.PIPE) as running:
        os.close(writing)
        url = running.wait_for(r"(?:the public side on|running on) (http://\S+)")[1]
        for _ in range(3):
            assert httpx.get(url).status_code == 200
    told = running.output
    assert told.count("--- Logging error ---") == 3
    assert "BrokenPipeError" in told


def test_a_reader_that_is_slow_gets_every_line() -> None:
    with launched(DEMO, *FREE) as running:
        url = running.url("public")
        with httpx.Client() as client:
            for number in range(300):
                client.get(f"{url}/{number}-{'x' * 1000}")
        running.end()
    assert len(re.findall('"GET /.* 404 Not Found$', running.output, re.MULTILINE)) == 300
