"""In place of uvicorn: the same names, and where duallisten leans on what uvicorn keeps to itself."""

from __future__ import annotations

import inspect
import logging
import pickle
import signal
import socket
import sys
from contextlib import ExitStack
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
from tests.support.running import (
    DUALLISTEN,
    FREE,
    PYTHON,
    Launched,
    ObservedServer,
    ask,
    eventually,
    launched,
    local_config,
    run,
    running,
    serving,
)


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
        Config(Observed(), privat_port=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unknown option 'private_workers_x'"):
        Config(Observed(), private_workers_x=1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="unknown option 'private_loop'"):
        Config(Observed(), private_loop="uvloop")  # type: ignore[call-arg]


def test_a_bad_value_is_named() -> None:
    with pytest.raises(UsageError, match=r"private_port='x': must be a port"):
        Config(Observed(), private_port="x", log_config=None)  # type: ignore[arg-type]


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


IN_PLACE = """
import duallisten, uvicorn
from functools import partial
{assignments}
from duallisten.demo import app
if __name__ == "__main__":
    {start}
"""


@pytest.mark.parametrize(
    ("assignments", "start"),
    [
        ("uvicorn.Config = duallisten.Config", "duallisten.run(app, host='127.0.0.1', port=0, private_port=0)"),
        (
            "uvicorn.Config, uvicorn.Server = duallisten.Config, duallisten.Server",
            "uvicorn.Server(uvicorn.Config(app, port=0, private_port=0)).run()",
        ),
        (
            "for module in (uvicorn, uvicorn.config, uvicorn.server, __import__('sys').modules['uvicorn.main']):\n"
            "    module.Config, module.Server = partial(duallisten.Config, private_port=0), duallisten.Server",
            "uvicorn.run(app, host='127.0.0.1', port=0)",
        ),
        ("uvicorn.run = duallisten.run", "uvicorn.run(app, host='127.0.0.1', port=0, private_port=0)"),
    ],
)
def test_a_program_may_put_ours_in_uvicorn_s_place_by_assignment(assignments: str, start: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(IN_PLACE.format(assignments=assignments, start=start))
    with launched(command=(sys.executable, str(tmp_path / "program.py"))) as program:
        assert httpx.get(program.url("public")).json()["side"] == "public"
        assert httpx.get(program.url("private")).json()["side"] == "private"


def test_a_port_may_be_a_text_as_for_uvicorn() -> None:
    with serving(Observed(), port="0") as server:
        assert httpx.get(server.url("public")).status_code == 200
    with pytest.raises(UsageError, match="port='http': must be a port"):
        Config(Observed(), port="http", log_config=None)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", [{"reload": True}, {"workers": 2}])
def test_an_application_object_with_reload_or_workers_is_refused_as_by_uvicorn(
    options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(SystemExit) as ended, caplog.at_level(logging.WARNING, "uvicorn.error"):
        duallisten.run(Observed(), port=0, private_port=0, log_config=None, **options)
    assert ended.value.code == 3
    assert isinstance(ended.value, duallisten.LaunchError) and "import string" in str(ended.value)
    assert caplog.messages == [str(ended.value)]


STOPPED = """
import duallisten
from tests.support.applications import fails_to_start
if __name__ == "__main__":
    {start}
"""


@pytest.mark.parametrize(
    ("start", "reason"),
    [
        ("duallisten.run('nowhere:app', port=0, private_port=0)", "'nowhere:app' cannot be imported"),
        (
            "duallisten.Server(duallisten.Config('nowhere:app', port=0, private_port=0)).run()",
            "'nowhere:app' cannot be",
        ),
        ("duallisten.run(fails_to_start, port=0, private_port=0)", "failed to start"),
    ],
)
def test_a_program_that_cannot_serve_ends_with_uvicorn_s_exit_code_and_a_line_that_says_why(
    start: str, reason: str
) -> None:
    program = STOPPED.format(start=start)
    ended = run(command=(sys.executable, "-c", program), cwd=Path(__file__).parents[2])
    assert ended.returncode == 3
    assert ended.stderr.count(reason) == 1 and reason in ended.stderr.splitlines()[-1]


def test_errors_are_also_those_that_a_caller_of_uvicorn_s_catches() -> None:
    with pytest.raises(ImportError) as raised:
        Config("nowhere:app", log_config=None).load()
    assert isinstance(raised.value, duallisten.LaunchError)
    with pytest.raises(ImportError, match="--loop"):
        Config(Observed(), loop="nowhere:loop", log_config=None).get_loop_factory()


MULTIPROCESS = """
import inspect, socket, sys
import duallisten, uvicorn
from uvicorn.supervisors import Multiprocess, multiprocess
multiprocess.Server = duallisten.Server
if __name__ == "__main__":
    config = duallisten.Config({app!r}, workers=2, private_port={port})
    server = duallisten.Server(config)
    given = (server.run,) if "target" in inspect.signature(Multiprocess).parameters else ()
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    print("public at", sock.getsockname()[1], flush=True)
    Multiprocess(config, *given, [sock]).run()
"""


def test_a_supervisor_of_uvicorn_s_gives_up_where_workers_cannot_load_the_application(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(MULTIPROCESS.format(app="nowhere:app", port=0))
    ended = run(command=(sys.executable, str(tmp_path / "program.py")))
    assert "failed to start, stopping the parent process" in ended.stderr
    assert "'nowhere:app' cannot be imported" in ended.stderr and "Traceback" not in ended.stderr


@pytest.mark.parametrize("options", [(), ("--workers", "2"), ("--reload",)])
def test_a_tool_that_waits_for_uvicorn_s_line_finds_the_public_side(options: tuple[str, ...], tmp_path: Path) -> None:
    with launched("duallisten.demo:app", *FREE, *options, cwd=tmp_path) as server:
        place = server.wait_for(r"Uvicorn running on (http://\S+) \(Press CTRL\+C to quit\)")[1]
        assert place == server.url("public")
        server.end()
        assert server.output.count("Uvicorn running on") == 1


@pytest.mark.parametrize("options", [{}, {"private_health": "/-"}])
async def test_a_server_that_was_shut_down_serves_again_when_it_is_started_again(options: dict[str, Any]) -> None:
    app = Observed()
    config = local_config(app, **options)
    config.load()
    server = Server(config)
    server.lifespan = config.lifespan_class(config)
    async with httpx.AsyncClient() as client:
        for _ in range(3):
            await server.startup()
            url = server.url("public")
            assert (await client.get(url)).text == "public"
            assert (await client.get(server.url("private"))).text == "private"
            await server.shutdown()
            with pytest.raises(httpx.ConnectError):
                await client.get(url)
    assert (app.started, app.stopped) == (3, 3)


def test_workers_of_a_program_s_own_share_the_private_port(tmp_path: Path, free_port: int) -> None:
    (tmp_path / "program.py").write_text(MULTIPROCESS.format(app="duallisten.demo:app", port=free_port))
    with launched(command=(sys.executable, str(tmp_path / "program.py"))) as program:
        public = int(program.wait_for(r"public at (\d+)")[1])
        program.wait_for("Serving the private side on", count=2)
        for number, side in ((public, "public"), (free_port, "private")):
            answers = [httpx.get(f"http://127.0.0.1:{number}").json() for _ in range(40)]
            assert {answer["side"] for answer in answers} == {side}
            assert len({answer["process"] for answer in answers}) == 2
        assert "Traceback" not in program.output


def test_processes_that_inherit_one_public_socket_share_the_private_port(free_port: int) -> None:
    """As under supervisord's `fcgi-program` with several processes, or circus."""
    with socket.socket() as public, ExitStack() as stack:
        public.bind(("127.0.0.1", 0))
        public.listen()
        descriptor = public.fileno()
        options = ("--fd", str(descriptor), "--private-port", str(free_port))
        programs = [
            stack.enter_context(Launched([*DUALLISTEN, "duallisten.demo:app", *options], pass_fds=[descriptor]))
            for _ in range(2)
        ]
        assert eventually(lambda: both_answer(free_port, {program.process.pid for program in programs}))


def both_answer(port: int, processes: set[int]) -> bool:
    """Whether each of these answers on a port."""
    try:
        return {httpx.get(f"http://127.0.0.1:{port}").json()["process"] for _ in range(20)} == processes
    except httpx.ConnectError:
        return False
