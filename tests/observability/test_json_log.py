"""Log lines as JSON: one object a line whatever is in it, and for each request what it was."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from duallisten import Config, UsageError
from duallisten.logs import JSONFormatter, timestamp
from duallisten.observability.access_log import WHOLE, AccessLines, pieces
from duallisten.observability.access_log_json import JSONAccessLog, is_plain_json
from duallisten.observability.request_ids import ID
from duallisten.sides import Side
from tests.support.applications import Observed
from tests.support.running import FREE, Launched, ask, eventually, is_refused, launched, run, serving
from tests.support.running import connect as open_connection

DEMO = "duallisten.demo:app"
JSON = ("--log-format", "json")
ACCESS = logging.getLogger("uvicorn.access")

text = st.text(st.characters(exclude_categories=()))


def parsed(server: Launched) -> list[dict[str, Any]]:
    """Every line that it has written, each of which must be an object."""
    return [json.loads(line) for line in server.lines]


def access(server: Launched, **wanted: Any) -> list[dict[str, Any]]:
    """The access lines so far with these values."""
    lines = [line for line in parsed(server) if line["logger"] == "uvicorn.access"]
    return [line for line in lines if wanted.items() <= line.items()]


# --- A record of logging ---


def formatted(message: Any = "said", arguments: Any = (), /, **attributes: Any) -> dict[str, Any]:
    """What the line of a record tells."""
    record = logging.makeLogRecord({"name": "shop", "levelname": "INFO", "msg": message, "args": arguments})
    record.__dict__.update(attributes)
    line = JSONFormatter().format(record)
    assert line.isascii() and line.isprintable()
    told: dict[str, Any] = json.loads(line)
    return told


RECORD = frozenset(dir(logging.makeLogRecord({})))
"""Names of a record's attributes and methods."""


@settings(deadline=None, derandomize=True, max_examples=200)
@given(
    text,
    text.filter(lambda key: key not in RECORD),
    st.recursive(st.none() | st.integers() | st.booleans() | text, st.lists, max_leaves=5),
)
def test_a_record_is_one_line_whatever_is_in_it(message: str, key: str, value: Any) -> None:
    told = formatted("%s", (message,), **{key or "x": value})
    characters = message.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert told["message"] == characters.rstrip("\n")
    assert (told["level"], told["logger"]) == ("INFO", "shop")


def test_a_record_whose_method_is_overwritten_is_one_line() -> None:
    """logging refuses extra fields with the names of a record's attributes, and allows those of its methods."""
    assert "cannot be formatted" in formatted("%s", ("a",), getMessage=None)["message"]


def test_what_is_no_character_is_replaced_and_what_looks_like_it_is_not() -> None:
    assert formatted("a\udcffb\U0001f600c\\udcff \ud83d")["message"] == "a\ufffdb\U0001f600c\\udcff \ufffd"


def test_a_caller_s_fields_are_kept_where_they_can_be_written_and_never_take_the_place_of_ours() -> None:
    told = formatted(basket=[1, {"a": None}], level="mine", message_id=3, odd=object(), number=float("nan"))
    assert told["basket"] == [1, {"a": None}]
    assert (told["level"], told["extra_level"], told["message_id"]) == ("INFO", "mine", 3)
    assert not {"odd", "number", "lineno", "args", "color_message"} & told.keys()


def test_an_exception_is_a_field() -> None:
    try:
        raise ValueError("two\nlines")
    except ValueError as error:
        told = formatted(exc_info=(type(error), error, error.__traceback__), stack_info="Stack:\n  here")
    assert told["exception"].startswith("Traceback") and told["exception"].endswith("ValueError: two\nlines")
    assert told["stack"] == "Stack:\n  here"
    assert "exception" not in formatted(exc_info=(None, None, None))


def test_arguments_that_do_not_fit_are_told() -> None:
    assert formatted("%d apples", ("three",))["message"].startswith("'%d apples' with ('three',) cannot be formatted")


@pytest.mark.parametrize("microsecond", [0, 7_000, 999_000])
def test_a_time_is_rfc_3339_s_in_utc(microsecond: int) -> None:
    moment = datetime(2026, 2, 3, 4, 5, 6, microsecond, UTC)
    told = timestamp(round(moment.timestamp() * 1000))
    assert re.fullmatch(r"2026-02-03T04:05:06\.\d{3}Z", told)
    assert datetime.fromisoformat(told) == moment


# --- A request, formed directly ---


class Stream(io.StringIO):
    """A stream that tells what each write was."""

    def __init__(self) -> None:
        super().__init__()
        self.writes: list[str] = []

    def write(self, data: str) -> int:
        self.writes.append(data)
        return super().write(data)


class Ends:
    """The ends of a connection, as one of uvicorn's protocols has them."""

    client: Any = ("203.0.113.7", 4711)
    server: Any = ("2001:db8::1", 80)


class Request:
    """As much of an exchange as a line is made of."""

    is_own = False

    def __init__(self, scope: dict[str, Any], status: int, seconds: float, *, aborted: bool, identity: str) -> None:
        self.scope, self.status, self.complete = scope, status, not aborted
        self.connection = SimpleNamespace(client=Ends.client, server=Ends.server, note=None)
        self.request_id, self.sent = identity, 131
        self.ended = perf_counter()
        self.began = self.ended - seconds


@pytest.fixture
def json_logging() -> Iterator[Stream]:
    """The stream of the access log, configured as by a launch."""
    Config(Observed(), port=0, log_format="json")
    ACCESS.handlers[:] = ACCESS.handlers[:1]
    handler = ACCESS.handlers[0]
    assert isinstance(handler, logging.StreamHandler)
    stream = Stream()
    handler.setStream(stream)
    yield stream
    ACCESS.filters.clear()


def as_launched() -> AccessLines:
    """The access lines of a launch, where no handlers of pytest's stand beside uvicorn's."""
    ACCESS.handlers[:] = ACCESS.handlers[:1]
    return AccessLines(is_plain_json)


async def line_of(
    stream: Stream,
    scope: dict[str, Any],
    status: int = 200,
    seconds: float = 5e-9,
    *,
    aborted: bool = False,
    identity: str = "abc",
    side: Side = "public",
    root: str = "",
    lines: AccessLines | None = None,
) -> dict[str, Any]:
    """Write one line, and read it."""
    stream.writes.clear()
    lines = lines or as_launched()
    request: Any = Request(scope, status, seconds, aborted=aborted, identity=identity)
    JSONAccessLog(lines, side, root).exchange_ended(request)
    lines.write()
    (line,) = stream.writes
    assert line.isascii() and line[:-1].isprintable() and line[-1] == "\n"
    told: dict[str, Any] = json.loads(line)
    return told


@settings(deadline=None, derandomize=True)
@given(
    st.binary(),
    st.binary(),
    text,
    text.filter(bool),
    st.from_regex(re.compile(ID.pattern.decode()), fullmatch=True),
)
async def test_a_line_gives_back_what_was_sent(raw: bytes, query: bytes, method: str, host: str, identity: str) -> None:
    Config(Observed(), port=0, log_format="json")
    ACCESS.handlers[:] = ACCESS.handlers[:1]
    stream = Stream()
    ACCESS.handlers[0].setStream(stream)  # type: ignore[attr-defined]
    scope = {
        "client": (host, 0),
        "method": method,
        "raw_path": raw,
        "query_string": query,
        "http_version": "1.1",
    }
    told = await line_of(stream, scope, seconds=0.001234567, identity=identity)
    assert told["path"].encode("latin-1") == (raw + b"?" + query if query else raw)
    assert (told["method"], told["client"], told["request_id"]) == (method, host, identity)
    assert (told["peer"], told["local"]) == ("203.0.113.7:4711", "[2001:db8::1]:80")
    never = AccessLines(lambda logger: False)
    through_logging = await line_of(stream, scope, seconds=0.001234567, identity=identity, lines=never)
    if not re.search("[\ud800-\udfff]", method + host):
        assert list(through_logging) == list(told)
        changing = {"time": "", "duration_ms": 0}
        assert through_logging | changing == told | changing


SCOPE: dict[str, Any] = {
    "client": Ends.client,
    "method": "GET",
    "raw_path": b"/api/a%20b",
    "query_string": b"c=d",
    "http_version": "1.1",
}


async def test_what_was_received_is_told_without_what_uvicorn_has_put_before_it(json_logging: Stream) -> None:
    told = await line_of(json_logging, SCOPE, 0, 0.0000055, aborted=True, side="private", root="/api")
    assert datetime.now(UTC) - datetime.fromisoformat(told.pop("time")) < timedelta(minutes=1)
    assert told == {
        "level": "INFO",
        "logger": "uvicorn.access",
        "side": "private",
        "client": "203.0.113.7:4711",
        "local": "[2001:db8::1]:80",
        "method": "GET",
        "path": "/a%20b?c=d",
        "http_version": "1.1",
        "status": None,
        "bytes": 131,
        "duration_ms": 0.005,
        "request_id": "abc",
        "aborted": True,
    }


@pytest.mark.parametrize("client", [None, "nobody", ("a", 1, 2), 5, ("::1", None)])
@pytest.mark.parametrize("left", ["method", "raw_path", "query_string", "http_version", "client"])
async def test_an_application_that_changes_its_scope_gets_a_line(left: str, client: Any, json_logging: Stream) -> None:
    scope = {name: value for name, value in SCOPE.items() if name != left} | ({"client": client} if client else {})
    told = await line_of(json_logging, scope)
    assert (told["status"], told["request_id"]) == (200, "abc")


async def test_a_filter_of_the_user_s_is_heard(json_logging: Stream) -> None:
    class Discreet(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            assert isinstance(record.args, tuple)
            record.args = (*record.args[:2], "/***", *record.args[3:])
            return True

    ACCESS.addFilter(Discreet())
    lines = as_launched()
    assert not lines.are_direct
    told = await line_of(json_logging, SCOPE, lines=lines)
    assert (told["path"], told["bytes"], "message" in told) == ("/***", 131, False)


@settings(deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 2 * WHOLE), max_size=20))
def test_lines_are_divided_where_they_end(lengths: list[int]) -> None:
    lines = ["x" * length + "\n" for length in lengths]
    divided = list(pieces("".join(lines)))
    assert "".join(divided) == "".join(lines)
    for piece in divided:
        assert piece.endswith("\n")
        assert len(piece) <= WHOLE or piece.count("\n") == 1


async def test_what_is_written_at_once_a_pipe_takes_whole(json_logging: Stream) -> None:
    """Several processes write to one pipe; a longer write to a full one is mixed with those of others."""
    lines = as_launched()
    request: Any = Request(SCOPE, 200, 5e-9, aborted=False, identity="abc")
    for _ in range(100):
        JSONAccessLog(lines, "public", "").exchange_ended(request)
    lines.write()
    assert len(json_logging.writes) < 20
    assert sum(write.count("\n") for write in json_logging.writes) == 100
    assert all(len(write) <= WHOLE and write.endswith("}\n") for write in json_logging.writes)


# --- What is asked for ---


def test_two_ways_to_say_what_lines_look_like_are_one_too_many(tmp_path: Path) -> None:
    (tmp_path / "logging.json").write_text('{"version": 1}')
    told = run(DEMO, *JSON, "--log-config", str(tmp_path / "logging.json"), *FREE)
    assert told.returncode == 2
    assert re.fullmatch(r"duallisten: --log-format json and --log-config both say .*JSONFormatter.*\n", told.stderr)
    with pytest.raises(UsageError):
        Config(Observed(), port=0, log_format="json", log_config={"version": 1})


def test_colours_mean_nothing_in_json() -> None:
    config = Config(Observed(), port=0, log_format="json", use_colors=True)
    assert type(ACCESS.handlers[0].formatter) is JSONFormatter
    assert config.use_colors is True
    Config(Observed(), port=0)
    assert type(ACCESS.handlers[0].formatter) is not JSONFormatter


def test_a_program_that_configures_logging_itself_gets_the_fields_in_its_records(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.INFO, "uvicorn.access"), serving(Observed(), log_format="json") as server:
        httpx.get(server.url("private") + "/a?b", headers={"X-Request-ID": "mine"})
    (record,) = [record for record in caplog.records if record.name == "uvicorn.access"]
    assert re.fullmatch(r'127\.0\.0\.1:\d+ - "GET /a\?b HTTP/1\.1" 200', record.getMessage())
    told = record.__dict__
    assert (told["side"], told["path"], told["status"], told["request_id"]) == ("private", "/a?b", 200, "mine")


# --- On the wire ---

APP = """
import asyncio
from tests.support.applications import answer

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        return
    if scope["type"] == "websocket":
        await receive()
        if scope["path"] == "/no":
            return await send({"type": "websocket.close"})
        if scope["path"] == "/later":
            await receive()
            return
        await send({"type": "websocket.accept"})
        return await send({"type": "websocket.close"})
    if scope["path"] == "/fails":
        raise RuntimeError("as it should")
    if scope["path"] == "/breaks":
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        raise RuntimeError("in the middle")
    if scope["path"] == "/waits":
        while (await receive())["type"] != "http.disconnect":
            pass
        return
    await answer(send, b"hello")
"""


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The folder of an application that fails, breaks and waits."""
    (tmp_path / "shop.py").write_text(APP)
    return tmp_path


@contextlib.contextmanager
def shop_serving(shop: Path, *arguments: str) -> Iterator[Launched]:
    environ = {"PYTHONWARNINGS": "ignore"}
    with launched("shop:app", *JSON, *arguments, *FREE, cwd=shop, environ=environ) as server:
        yield server


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_a_request_s_line_tells_what_it_was(parser: str) -> None:
    with launched(DEMO, *JSON, "--http", parser, *FREE) as server:
        private, public = server.url("private"), server.url("public")
        answered = ask(private, b"GET /a%20b?c=%22 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        ask(public, b"GET / HTTP/1.0\r\nX-Forwarded-For: 203.0.113.7\r\nX-Request-ID: <mine>\r\n\r\n")
        server.end()
    (line,) = access(server, side="private")
    assert line["path"] == "/a%20b?c=%22"
    assert line["bytes"] == len(answered)
    assert (line["method"], line["http_version"], line["status"]) == ("GET", "1.1", 404)
    assert line["local"] == private.partition("//")[2]
    assert line["client"].startswith("127.0.0.1:") and "peer" not in line
    assert 0 < line["duration_ms"] < 60_000
    (line,) = access(server, side="public")
    assert (line["client"], line["http_version"], line["request_id"]) == ("203.0.113.7", "1.0", "<mine>")
    assert line["peer"].startswith("127.0.0.1:")


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_pipelined_requests_have_a_line_each(parser: str) -> None:
    with launched(DEMO, *JSON, "--http", parser, *FREE) as server:
        one = b"GET /%d HTTP/1.1\r\nHost: x\r\n\r\n"
        last = b"GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        answered = ask(server.url("public"), one % 1 + one % 2 + last)
        server.end()
    lines = access(server)
    assert [line["path"] for line in lines] == ["/1", "/2", "/last"]
    assert sum(line["bytes"] for line in lines) == len(answered)
    assert len({line["request_id"] for line in lines}) == 3


@pytest.mark.parametrize(
    "arguments", [(), ("--workers", "2"), ("--workers", "2", "--preload"), ("--reload",)], ids=" ".join
)
def test_every_line_of_a_launch_is_json(arguments: tuple[str, ...], shop: Path) -> None:
    with shop_serving(shop, *arguments, "--use-colors") as server:
        urls = [server.url("public"), server.url("private")]
        server.wait_for("Application startup complete|appears unsupported")
        for url in urls:
            assert eventually(lambda url=url: not is_refused(url))  # type: ignore[misc]  # a reloader speaks too early
            assert httpx.get(url, timeout=30).text == "hello"
            assert httpx.get(f"{url}/fails").status_code == 500
            ask(url, b"no request\r\n\r\n")
        server.end()
    assert len(access(server, status=200)) == len(access(server, status=500)) == 2
    assert {line["side"] for line in access(server)} == {"public", "private"}
    failed = [line for line in parsed(server) if "exception" in line]
    assert len(failed) == 2
    assert {line["request_id"] for line in failed} == {line["request_id"] for line in access(server, status=500)}


def test_what_is_said_of_a_request_names_it(shop: Path) -> None:
    with shop_serving(shop) as server:
        httpx.get(server.url("private") + "/fails?x", headers={"X-Request-ID": "mine"})
        ask(server.url("private"), b"no request\r\n\r\n")
        server.end()
    (failed,) = [line for line in parsed(server) if line["level"] == "ERROR"]
    assert failed["exception"].endswith("RuntimeError: as it should")
    assert (failed["message"], failed["logger"]) == ("Exception in ASGI application", "uvicorn.error")
    assert (failed["side"], failed["path"], failed["request_id"]) == ("private", "/fails?x", "mine")
    (refused,) = [line for line in parsed(server) if line["level"] == "WARNING"]
    assert (refused["side"], "path" in refused) == ("private", False)
    assert refused["client"].startswith("127.0.0.1:")


@pytest.mark.parametrize("parser", ["h11", "httptools"])
def test_what_does_not_come_to_its_end_is_said_to_be_aborted(parser: str, shop: Path) -> None:
    with shop_serving(shop, "--http", parser) as server:
        url = server.url("public")
        with open_connection(url) as connection:
            connection.sendall(b"GET /waits HTTP/1.1\r\nHost: x\r\n\r\n")
            connection.shutdown(1)
        ask(url, b"GET /breaks HTTP/1.1\r\nHost: x\r\n\r\n")
        server.wait_for('"aborted":true', count=2)
        server.end()
    (waited,) = access(server, path="/waits")
    assert (waited["status"], waited["bytes"], waited["aborted"]) == (None, 0, True)
    (broke,) = access(server, path="/breaks")
    assert (broke["status"], broke["aborted"]) == (200, True)


@pytest.mark.parametrize("ws", ["websockets", "websockets-sansio"])
def test_a_handshake_s_line_is_like_any_other(ws: str, shop: Path) -> None:
    with shop_serving(shop, "--ws", ws) as server:
        for side in ("public", "private"):
            url = server.url(side).replace("http", "ws")
            with connect(url + "/yes?x", additional_headers={"X-Request-ID": side}) as websocket:
                assert websocket.response is not None
            with pytest.raises(InvalidStatus):
                connect(url + "/no")
        server.end()
    for side in ("public", "private"):
        accepted, refused = access(server, side=side)
        assert (accepted["path"], accepted["status"], accepted["request_id"]) == ("/yes?x", 101, side)
        assert (refused["path"], refused["status"], refused["method"]) == ("/no", 403, "GET")
        assert accepted["bytes"] > 100
    assert "WebSocket /" not in server.output


def test_a_client_that_leaves_before_its_handshake_is_answered_has_a_line(shop: Path) -> None:
    handshake = (
        b"GET /later HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw==\r\n\r\n"
    )
    with shop_serving(shop, "--ws", "websockets-sansio") as server:
        with open_connection(server.url("public")) as connection:
            connection.sendall(handshake)
        server.wait_for('"/later".*"aborted":true')
        server.end()
    (line,) = access(server)
    assert line["status"] is None


@pytest.mark.parametrize(
    ("arguments", "sides"),
    [
        (["--no-access-log"], set()),
        (["--no-private-access-log"], {"public"}),
        (["--no-access-log", "--private-access-log"], {"private"}),
    ],
)
def test_each_side_has_its_lines_or_not(arguments: list[str], sides: set[str]) -> None:
    with launched(DEMO, *JSON, *arguments, "--port", "0", "--private-port", "0") as server:
        for side in ("public", "private"):
            httpx.get(server.url(side))
        server.end()
    assert {line["side"] for line in access(server)} == sides


def test_requests_that_uvicorn_answers_itself_have_a_line() -> None:
    with launched(DEMO, *JSON, "--limit-concurrency", "1", *FREE) as server:
        answered = ask(server.url("public"))
        assert b" 503 " in answered
        server.end()
    (line,) = access(server)
    assert (line["status"], line["bytes"]) == (503, len(answered))
    assert line["request_id"]


@pytest.mark.parametrize(
    ("parser", "arguments"), [("h11", ()), ("httptools", ("--workers", "2")), ("h11", JSON), ("httptools", JSON)]
)
def test_duallisten_s_own_pages_leave_no_line(parser: str, arguments: tuple[str, ...]) -> None:
    with launched(DEMO, *arguments, "--http", parser, "--private-health", "/-", *FREE) as server:
        with httpx.Client(base_url=server.url("private")) as client:
            for path in ("/-/livez", "/before", "/-/livez", "/%2D/livez", "/-/livez?x", "/-/livez/x"):
                client.get(path)
        with httpx.Client(base_url=server.url("public")) as client:
            client.get("/-/livez")
        server.end()
    logged = [re.search(r"/before|/%2D/livez|/-/livez[^ \"]*", line) for line in server.lines]
    found = [match[0] for match in logged if match]
    own = "/%2D/livez" if arguments == JSON else "/-/livez"
    assert found == ["/before", own, "/-/livez/x", "/-/livez"]
