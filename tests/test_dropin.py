"""In place of uvicorn: the same names, and where duallisten leans on what uvicorn keeps to itself."""

from __future__ import annotations

import inspect
import logging
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
import uvicorn
from uvicorn import _subprocess
from uvicorn.config import LOGGING_CONFIG
from uvicorn.lifespan.on import LifespanOn
from uvicorn.middleware.message_logger import MessageLoggerMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_impl import WebSocketProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol
from uvicorn.protocols.websockets.wsproto_impl import WSProtocol
from uvicorn.server import ServerState
from uvicorn.supervisors.basereload import BaseReload
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

import duallisten
from duallisten import Config, UsageError
from duallisten.forwarded import TrustedPeers
from duallisten.keywords import uvicorn_defaults
from tests.applications import Observed, answer
from tests.running import ask, launched, serving


def test_our_classes_are_uvicorn_s() -> None:
    assert issubclass(duallisten.Config, uvicorn.Config)
    assert issubclass(duallisten.Server, uvicorn.Server)


def test_the_names_are_there_and_the_server_is_loaded_only_when_it_is_used() -> None:
    assert set(duallisten.__all__) <= set(dir(duallisten))
    assert all(getattr(duallisten, name) for name in duallisten.__all__)
    with pytest.raises(AttributeError, match="no attribute 'serve'"):
        _ = duallisten.serve  # type: ignore[attr-defined]
    program = (
        "import sys; from duallisten import side; print(sorted({'uvicorn', 'typer', 'psutil'} & set(sys.modules)))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert ended.stdout == "[]\n"


def test_every_parameter_of_uvicorn_s_config_is_taken_and_means_the_same() -> None:
    theirs = uvicorn.Config(Observed(), log_config=None)
    ours = Config(Observed(), **{name: default for name, default in uvicorn_defaults().items() if name != "log_config"})
    for name in uvicorn_defaults():
        if hasattr(theirs, name) and name != "log_config":
            assert getattr(ours, name) == getattr(theirs, name), name


def test_uvicorn_s_run_takes_nothing_that_ours_does_not() -> None:
    theirs = set(inspect.signature(uvicorn.run).parameters) - {"app", "app_dir"}
    assert theirs <= uvicorn_defaults().keys()


def test_a_misspelt_option_is_named_with_the_nearest_known_one() -> None:
    with pytest.raises(TypeError, match=r"unknown option 'privat_port': did you mean 'private_"):
        Config(Observed(), privat_port=1)
    with pytest.raises(TypeError, match="unknown option 'private_workers_x'"):
        Config(Observed(), private_workers_x=1)
    with pytest.raises(TypeError, match="unknown option 'private_loop'"):
        Config(Observed(), private_loop="uvloop")


def test_a_bad_value_is_named() -> None:
    with pytest.raises(UsageError, match=r"private_port='x': must be a port"):
        Config(Observed(), private_port="x", log_config=None)


def test_configurations_share_no_defaults() -> None:
    one, two = Config(Observed(), log_config=None), Config(Observed(), log_config=None)
    one.headers.append(("x", "y"))
    one.private["backlog"] = 1
    one.origins["port"] = "here"
    assert (two.headers, two.private, two.origins) == ([], {}, {})


def test_the_platform_s_port_is_taken_from_code_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "5000")
    assert (Config(Observed(), log_config=None).host, Config(Observed(), log_config=None).port) == ("0.0.0.0", 5000)
    asked = Config(Observed(), host="127.0.0.1", port=1, log_config=None)
    assert (asked.host, asked.port) == ("127.0.0.1", 1)


def test_the_command_line_s_variables_are_not_read_from_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DUALLISTEN_PRIVATE_PORT", "1")
    monkeypatch.setenv("UVICORN_PORT", "1")
    made = Config(Observed(), log_config=None)
    assert (made.options.private_port, made.port) == (9240, 8000)


def test_uvicorn_s_own_variables_are_read_from_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEB_CONCURRENCY", "3")
    assert Config("app:app", log_config=None).workers == 3
    monkeypatch.setenv("WEB_CONCURRENCY", "three")
    with pytest.raises(UsageError, match=r"\$WEB_CONCURRENCY is 'three'"):
        Config("app:app", log_config=None)


def test_an_environment_file_is_read_before_the_platform_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / ".env").write_text("PORT=5001\n")
    monkeypatch.setenv("PORT", "1")
    monkeypatch.delenv("PORT")
    assert Config(Observed(), env_file=tmp_path / ".env", log_config=None).port == 5001


PROGRAM = """
import duallisten
from duallisten.demo import app
if __name__ == "__main__":
    duallisten.run(app, port=0, private_port=0, log_level="info")
"""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 0), (signal.SIGTERM, -signal.SIGTERM)])
def test_a_program_runs_it_as_it_would_run_uvicorn(number: int, code: int, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    with launched(command=(sys.executable, str(tmp_path / "program.py"))) as program:
        assert httpx.get(program.url("public")).json()["side"] == "public"
        assert httpx.get(program.url("private")).json()["side"] == "private"
        assert program.end(number) == code
        assert "Application shutdown complete" in program.output


def test_uvicorn_s_default_formats_can_be_changed_in_place(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(LOGGING_CONFIG["formatters"]["access"], "fmt", "NEW %(request_line)s")
    Config(Observed())
    formatter = logging.getLogger("uvicorn.access").handlers[0].formatter
    record = logging.makeLogRecord({"msg": "%s %s %s %s %d", "args": ("c", "GET", "/", "1.1", 200), "side": "private"})
    assert formatter is not None and formatter.format(record) == "NEW GET / HTTP/1.1 (private)"


# What duallisten leans on inside uvicorn, each listed in CONTRIBUTING.md; a new uvicorn that changes one fails here.


@pytest.mark.parametrize("protocol", [H11Protocol, HttpToolsProtocol])
def test_a_protocol_is_made_from_a_configuration_a_state_and_a_loop(protocol: Any) -> None:
    parameters = list(inspect.signature(protocol.__init__).parameters)
    assert parameters == ["self", "config", "server_state", "app_state", "_loop"]
    source = inspect.getsource(protocol)
    for attribute in ("self.access_logger = ", "self.access_log = ", "self.cycle", "self.ws_protocol_class("):
        assert attribute in source
    assert "response_complete" in source


@pytest.mark.parametrize("protocol", [H11Protocol, HttpToolsProtocol])
def test_a_protocol_tells_its_access_logger_five_things(protocol: Any) -> None:
    source = re.sub(r"\s+", " ", inspect.getsource(sys.modules[protocol.__module__]))
    assert (
        """self.access_logger.info( '%s - "%s %s HTTP/%s" %d', get_client_addr(self.scope), self.scope["method"], """
        """get_path_with_query_string(self.scope), self.scope["http_version"], status"""
    ) in source


def test_a_state_has_connections_tasks_headers_and_a_count() -> None:
    state = ServerState()
    assert (state.connections, state.tasks, state.default_headers, state.total_requests) == (set(), set(), [], 0)


def test_the_middleware_around_an_application_is_reached_through_its_app() -> None:
    app: Any = Observed()
    assert ProxyHeadersMiddleware(app).app is app
    assert MessageLoggerMiddleware(app).app is app


def test_a_lifespan_runs_its_application_in_a_task_made_of_its_main() -> None:
    assert re.search(r"create_task\(self\.main\(\)\)", inspect.getsource(LifespanOn.startup))
    source = inspect.getsource(LifespanOn.main)
    assert "except BaseException" in source
    assert "if self.startup_failed or self.shutdown_failed:" in source
    assert {"startup_event", "startup_failed", "shutdown_failed"} <= set(LifespanOn.__init__.__code__.co_names)


def test_the_proxy_middleware_asks_its_trusted_hosts() -> None:
    middleware = ProxyHeadersMiddleware(len, trusted_hosts="*")  # type: ignore[arg-type]
    assert middleware.trusted_hosts.always_trust is True
    asked = set(dir(middleware.trusted_hosts)) & {"always_trust", "__contains__", "get_trusted_client_address"}
    assert asked <= set(dir(TrustedPeers)) | {"always_trust"}
    assert len(asked) == 3


def test_a_lifespan_has_a_state_and_says_whether_to_exit() -> None:
    assert {"startup", "shutdown"} <= set(dir(LifespanOn))
    assert "self.state: dict[str, Any]" in inspect.getsource(LifespanOn)
    assert "self.should_exit" in inspect.getsource(LifespanOn)


@pytest.mark.parametrize("ws", ["websockets", "websockets-sansio", "wsproto"])
@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_raw_path_makes_the_path_together_with_the_root_path(http: Any, ws: Any) -> None:
    """Verdicts of path rules are remembered by the raw path alone."""
    app = Observed()
    targets = ["/", "/a", "/a%20b?c=%20", "/%61//b/../c;d", "/caf%C3%A9", "/%252f", "/a%ff"]
    with serving(app, http=http, ws=ws, root_path="/api") as server:
        for target in targets:
            ask(server.url("public"), f"GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            with connect(server.url("public").replace("http", "ws") + target):
                pass
    assert len(app.scopes) == 2 * len(targets)
    for scope, target in zip(app.scopes, [target for target in targets for _ in range(2)], strict=True):
        assert scope["raw_path"] == b"/api" + target.partition("?")[0].encode()
        assert scope["path"] == unquote(scope["raw_path"].decode())
        assert scope["root_path"] == "/api"


def test_a_websocket_protocol_tells_how_its_handshake_was_answered(caplog: pytest.LogCaptureFixture) -> None:
    """websockets-sansio forgets that an HTTP response completes a handshake (Kludex/uvicorn#3138)."""
    for attribute in ("self.handshake_complete", "self.close_sent", "self.initial_response"):
        assert attribute in inspect.getsource(WebSocketsSansIOProtocol.__init__)
    with serving(Observed(), ws="websockets-sansio", private_paths=["/internal"]) as server:
        for side, path, refused in (("public", "/internal", True), ("public", "/", False), ("private", "/", False)):
            url = server.url(side).replace("http", "ws") + path  # type: ignore[arg-type]
            if refused:
                with pytest.raises(InvalidStatus, match="404"):
                    connect(url)
            else:
                with connect(url) as websocket:
                    assert websocket.recv() == side
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


@pytest.mark.parametrize("protocol", [WebSocketProtocol, WebSocketsSansIOProtocol, WSProtocol])
def test_a_websocket_protocol_refuses_a_handshake_in_one_place_when_it_ends(protocol: Any) -> None:
    assert inspect.getsource(protocol.shutdown).count("self.send_500_response()") == 1
    assert set(re.findall(r"self\.transport\.(\w+)", inspect.getsource(protocol.send_500_response))) == {"write"}


def test_a_process_is_made_from_a_configuration_a_target_and_sockets() -> None:
    assert list(inspect.signature(_subprocess.get_subprocess).parameters) == ["config", "target", "sockets"]


def test_a_server_has_the_parts_that_ours_overrides() -> None:
    with serving(Observed()) as server:
        assert server.servers
    for name in ("serve", "startup", "shutdown", "on_tick", "handle_exit"):
        ours = inspect.signature(getattr(duallisten.Server, name)).parameters
        assert list(ours) == list(inspect.signature(getattr(uvicorn.Server, name)).parameters), name


@pytest.mark.parametrize("protocol", [H11Protocol, HttpToolsProtocol])
def test_a_protocol_tells_whether_a_head_is_expected(protocol: Any) -> None:
    """Its keep-alive timer runs from a response to the next byte, and each head that has come whole makes a cycle."""
    data = inspect.getsource(protocol.data_received)
    assert data.index("self._unset_keepalive_if_required()") < data.index("data(data)")
    assert "self.timeout_keep_alive_task = None" in inspect.getsource(protocol._unset_keepalive_if_required)
    assert "self.timeout_keep_alive_task = self.loop.call_later(" in inspect.getsource(protocol.on_response_complete)
    assert "self.cycle: RequestResponseCycle = None" in inspect.getsource(protocol.__init__)


@pytest.mark.parametrize("protocol", [H11Protocol, HttpToolsProtocol])
def test_a_protocol_answers_what_it_cannot_read_in_one_place(protocol: Any) -> None:
    source = inspect.getsource(protocol)
    assert source.count("self.send_400_response(") == 1
    assert re.search(r"except \w+\.\w+Error:\s+msg = .*\s+self.logger.warning\(msg\)\s+self.send_400_response", source)
    cycle = inspect.getsource(sys.modules[protocol.__module__].RequestResponseCycle)
    for attribute in ("response_started", "response_complete", "disconnected", "keep_alive", "more_body"):
        assert f"self.{attribute} = " in cycle, attribute
    assert set(re.findall(r"self\.transport\.(\w+)", cycle)) == {"write", "close", "is_closing"}


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_what_an_application_sends_with_belongs_to_what_has_the_transport(http: str) -> None:
    found: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(send.__self__.transport)
        await answer(send, b"")

    with serving(app, http=http, lifespan="off") as server:
        ask(server.url("private"))
    assert callable(found[0].abort)


def test_httptools_tells_the_beginning_and_the_end_of_a_head() -> None:
    assert "self.scope = {" in inspect.getsource(HttpToolsProtocol.on_message_begin)
    assert "scope=self.scope," in inspect.getsource(HttpToolsProtocol.on_headers_complete)
    assert "self.pipeline.appendleft((self.cycle, app))" in inspect.getsource(HttpToolsProtocol.on_headers_complete)
    assert "self.headers.append(" in inspect.getsource(HttpToolsProtocol.on_header)
    assert not hasattr(HttpToolsProtocol, "on_chunk_header")
    assert "self.cycle.response_complete" in inspect.getsource(HttpToolsProtocol.on_message_complete)


def test_h11_reads_through_a_connection_that_can_be_replaced() -> None:
    used = set(re.findall(r"self\.conn\.(\w+)", inspect.getsource(H11Protocol)))
    assert used == {"receive_data", "next_event", "send", "start_next_cycle", "our_state", "their_state"}


def test_zttp_s_protocols_take_the_application_from_their_configuration() -> None:
    pytest.importorskip("zttp")
    auto = pytest.importorskip("uvicorn.protocols.http.auto_zttp_impl", reason="this uvicorn has no zttp")
    assert auto.AutoZttpProtocol.__name__ == "AutoZttpProtocol"
    for protocol in (auto.ZttpProtocol, auto.ZttpH2Protocol):
        assert "self.app = config.loaded_app" in inspect.getsource(protocol.__init__)


def test_connections_leave_a_state_in_two_ways() -> None:
    used: set[str] = set()
    for protocol in (H11Protocol, HttpToolsProtocol, WebSocketsSansIOProtocol):
        used |= set(re.findall(r"self\.connections\.(\w+)", inspect.getsource(protocol)))
    assert used == {"add", "discard", "remove"}


def test_a_reloader_ends_with_one_shutdown() -> None:
    assert inspect.getsource(BaseReload.run).count("self.shutdown()") == 1


@pytest.mark.parametrize("protocol", [H11Protocol, HttpToolsProtocol, WebSocketsSansIOProtocol])
def test_a_connection_takes_the_application_when_it_begins(protocol: Any) -> None:
    assert inspect.getsource(protocol.__init__).count("config.loaded_app") == 1
    assert inspect.getsource(protocol).count("loaded_app") == 1


@pytest.mark.parametrize("protocol", [H11Protocol, HttpToolsProtocol])
def test_a_request_is_run_by_a_method_of_what_was_made_for_it(protocol: Any) -> None:
    """Its `send` is a method of the same, which then looks whether to write a line; its `scope` is the request's."""
    cycle = sys.modules[protocol.__module__].RequestResponseCycle
    assert "self.scope, self.receive, self.send" in inspect.getsource(cycle.run_asgi)
    assert "if self.access_log:" in inspect.getsource(cycle.send)
    assert inspect.iscoroutinefunction(cycle.run_asgi)
    assert re.search(r"create_task\((self\.)?cycle\.run_asgi\(app\)", inspect.getsource(protocol))
    made = inspect.getsource(protocol.connection_made)
    assert "self.client = " in made and "self.server = " in made


@pytest.mark.parametrize("protocol", [H11Protocol, HttpToolsProtocol])
def test_what_was_made_for_a_request_has_the_transport_and_tells_of_its_end(protocol: Any) -> None:
    assert "self.flow = FlowControl(transport)" in inspect.getsource(protocol.connection_made)
    assert "self._transport = transport" in inspect.getsource(FlowControl)
    cycle = sys.modules[protocol.__module__].RequestResponseCycle
    assert cycle.__dictoffset__, "it is given the id of the request"
    made = inspect.getsource(cycle.__init__)
    assert "self.flow = flow" in made and "self.on_response = on_response" in made
    sending = inspect.getsource(cycle.send)
    assert sending.index("self.response_complete = True") < sending.index("self.on_response()")


@pytest.mark.parametrize("protocol", [WebSocketProtocol, WebSocketsSansIOProtocol, WSProtocol])
def test_a_websocket_is_called_with_a_method_of_its_protocol_which_has_no_flow(protocol: Any) -> None:
    assert re.search(r"app\(\s*self\.scope,.*self\.\w+,\s*self\.\w+", inspect.getsource(protocol.run_asgi), re.DOTALL)
    assert protocol.__dictoffset__ and "self.flow" not in inspect.getsource(protocol)


@pytest.mark.parametrize("protocol", [WebSocketProtocol, WebSocketsSansIOProtocol, WSProtocol])
def test_a_websocket_is_run_by_a_method_of_its_protocol(protocol: Any) -> None:
    source = inspect.getsource(protocol)
    assert "create_task(self.run_asgi())" in source and "self.scope" in source
    assert len(re.findall(r"self\.logger\.info\(", source)) == source.count('\'%s - "WebSocket %s" ') == 3


def test_uvicorn_s_logging_has_two_formatters() -> None:
    assert set(LOGGING_CONFIG["formatters"]) == {"default", "access"}
    assert {one["formatter"] for one in LOGGING_CONFIG["handlers"].values()} == {"default", "access"}
