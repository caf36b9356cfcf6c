"""What is used of uvicorn's insides is as it was in the installed version, and a launch says so where it is not."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from uvicorn import _subprocess
from uvicorn.config import LOGGING_CONFIG
from uvicorn.lifespan.on import LifespanOn
from uvicorn.middleware.message_logger import MessageLoggerMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.server import ServerState
from uvicorn.supervisors.basereload import BaseReload

import duallisten
from duallisten import Config
from duallisten.config import uvicorn_contract
from tests.support.applications import Observed
from tests.support.running import serving

SOURCE = Path(duallisten.__file__).parent


def test_the_installed_uvicorn_is_as_the_contract_says() -> None:
    uvicorn_contract.check()


@pytest.mark.parametrize(
    ("owner", "name"), [(uvicorn.Server, "on_tick"), (uvicorn.Config, "get_loop_factory"), (LifespanOn, "main")]
)
def test_a_uvicorn_that_has_changed_stops_the_launch_with_one_line(
    owner: Any, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(owner, name)
    with pytest.raises(duallisten.LaunchError) as raised:
        Config(Observed(), log_config=None).load()
    assert re.fullmatch(
        rf"uvicorn \S+ has no {owner.__name__}.{name}, which duallisten relies on: .*", str(raised.value)
    )


def test_no_other_module_takes_anything_from_the_insides_of_uvicorn() -> None:
    found = {
        path.name
        for path in SOURCE.rglob("*.py")
        if re.search(r"^\s*(from uvicorn\.|import uvicorn\.)", path.read_text(), re.MULTILINE)
    }
    assert found == {"uvicorn_contract.py"}


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


def test_a_lifespan_has_a_state_and_says_whether_to_exit() -> None:
    assert {"startup", "shutdown"} <= set(dir(LifespanOn))
    assert "self.state: dict[str, Any]" in inspect.getsource(LifespanOn)
    assert "self.should_exit" in inspect.getsource(LifespanOn)


def test_a_process_is_made_from_a_configuration_a_target_and_sockets() -> None:
    assert list(inspect.signature(_subprocess.get_subprocess).parameters) == ["config", "target", "sockets"]


def test_a_server_has_the_parts_that_ours_overrides() -> None:
    with serving(Observed()) as server:
        assert server.servers
    for name in ("serve", "startup", "shutdown", "on_tick", "handle_exit"):
        ours = inspect.signature(getattr(duallisten.Server, name)).parameters
        assert list(ours) == list(inspect.signature(getattr(uvicorn.Server, name)).parameters), name


def test_a_reloader_ends_with_one_shutdown() -> None:
    assert inspect.getsource(BaseReload.run).count("self.shutdown()") == 1


def test_uvicorn_s_logging_has_two_formatters() -> None:
    assert set(LOGGING_CONFIG["formatters"]) == {"default", "access"}
    assert {one["formatter"] for one in LOGGING_CONFIG["handlers"].values()} == {"default", "access"}
