"""In place of uvicorn: the same names, and where duallisten leans on what uvicorn keeps to itself."""

from __future__ import annotations

import inspect
import logging
import pickle
import signal
import sys
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
import uvicorn
from uvicorn.config import LOGGING_CONFIG
from websockets.sync.client import connect

import duallisten
from duallisten import Config, Server, UsageError
from duallisten.config import uvicorn_defaults
from tests.support.applications import Observed
from tests.support.running import FREE, PYTHON, ObservedServer, ask, launched, run, running, serving


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
    ended = run("-c", program, command=PYTHON)
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


@pytest.mark.parametrize("ws", ["websockets", "websockets-sansio"])
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


def test_the_first_of_the_servers_is_the_public_one() -> None:
    """Programs find the port that the kernel chose by `server.servers[0].sockets[0]`."""
    with serving(Observed()) as server:
        ports = [one.sockets[0].getsockname()[1] for one in server.servers]
        assert ports == [server.addresses["public"][1], server.addresses["private"][1]]


@pytest.mark.parametrize("options", [{}, {"private_health": "/health", "private_paths": ["/internal"]}])
def test_a_server_can_be_pickled_and_serves_where_it_is_unpickled(options: dict[str, Any]) -> None:
    """As programs do that give `server.run` to uvicorn's reloader."""
    config = Config("duallisten.demo:app", port=0, private_port=0, log_config=None, **options)
    server = pickle.loads(pickle.dumps(Server(config)))
    with running(ObservedServer(server.config)) as observed:
        assert httpx.get(observed.url("public")).status_code == 200
    assert isinstance(server, Server) and server.config.options == config.options


@pytest.mark.parametrize("more", [(), ("--private-app", "own:app")])
def test_an_application_may_run_an_event_loop_when_it_is_imported(tmp_path: Path, more: tuple[str, ...]) -> None:
    text = (
        "import asyncio\nfrom duallisten.demo import app as demo\n\n"
        "async def make():\n    return demo\n\napp = asyncio.run(make())\n"
    )
    for name in ("shop.py", "own.py"):
        (tmp_path / name).write_text(text)
    with launched("shop:app", *more, *FREE, cwd=tmp_path) as server:
        assert httpx.get(server.url("public")).status_code == 200
        assert server.end() == 0


def test_an_application_that_cannot_be_imported_leaves_no_socket_behind(tmp_path: Path) -> None:
    path = tmp_path / "public.sock"
    (tmp_path / "shop.py").write_text("raise RuntimeError('not today')")
    ended = run("shop:app", "--uds", str(path), "--private-port", "0", cwd=tmp_path)
    assert (ended.returncode, path.exists()) == (3, False)
