"""All of uvicorn's private names that duallisten uses; no other module imports them from uvicorn.

uvicorn's public names are `uvicorn.Config`, `uvicorn.Server`, `uvicorn.run` and the options of its command. All other
names may change in any version. So every other module imports them from here. `check` verifies them at each start, and
a launch stops with one line if one has changed. Nothing is disabled silently.

uvicorn's classes are bound when this module is imported, because a program may replace them afterwards
(`uvicorn.Config = duallisten.Config`).

The tests run with the lowest and the newest supported version (`tests/contracts/test_uvicorn_contract.py`).

duallisten also relies on these facts:
    - `Config.load` makes `loaded_app`, `http_protocol_class`, `ws_protocol_class`, `lifespan_class`, `ssl` and
      `encoded_headers`; `load_app`, `configure_logging` and `get_loop_factory` may be overridden.
    - `Config.load` puts `ProxyHeadersMiddleware` outside of `MessageLoggerMiddleware`, and both around the application;
      each has its inner application as `app`, as have `ASGI2Middleware` and `WSGIMiddleware`.
    - `Server.serve` calls `startup`, `on_tick` each 0.1 s, and `shutdown`; `handle_exit` sets `should_exit`, and
      `force_exit` at a second SIGINT.
    - `LifespanOn.startup` runs `main()` in a task; its attributes report failures.
    - `BaseReload.run` calls `shutdown` once, at its end.
    - `AccessFormatter` makes its line of the record's five arguments.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn import Config as UvicornConfig
from uvicorn import Server as UvicornServer
from uvicorn import main as uvicorn_command
from uvicorn import run as uvicorn_run
from uvicorn._subprocess import get_subprocess
from uvicorn.config import HTTP_PROTOCOLS, LOGGING_CONFIG, LOOP_FACTORIES, WS_PROTOCOLS
from uvicorn.importer import ImportFromStringError, import_from_string
from uvicorn.lifespan.on import LifespanOn
from uvicorn.logging import AccessFormatter
from uvicorn.middleware.asgi2 import ASGI2Middleware
from uvicorn.middleware.message_logger import MessageLoggerMiddleware
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.middleware.wsgi import WSGIMiddleware  # type: ignore[attr-defined]
from uvicorn.server import ServerState

from duallisten.errors import LaunchError

if TYPE_CHECKING:
    import socket

    from uvicorn.supervisors.basereload import BaseReload

__all__ = [
    "HTTP_PROTOCOLS",
    "LOGGING_CONFIG",
    "LOOP_FACTORIES",
    "WS_PROTOCOLS",
    "ASGI2Middleware",
    "AccessFormatter",
    "BaseReload",
    "ImportFromStringError",
    "LifespanOn",
    "MessageLoggerMiddleware",
    "ProxyHeadersMiddleware",
    "ServerState",
    "UvicornConfig",
    "UvicornServer",
    "WSGIMiddleware",
    "check",
    "get_subprocess",
    "import_from_string",
    "run_server",
    "uvicorn_command",
    "uvicorn_run",
]

SUPPORTED = "uvicorn>=0.50,<0.55"

METHODS: dict[type, tuple[str, ...]] = {
    UvicornConfig: ("load", "load_app", "configure_logging", "get_loop_factory", "should_reload", "asgi_version"),
    UvicornServer: ("run", "serve", "startup", "shutdown", "on_tick", "handle_exit", "limit_max_requests"),
    LifespanOn: ("startup", "shutdown", "main"),
    AccessFormatter: ("formatMessage",),
}
"""The methods that these classes must have."""

ATTRIBUTES: dict[type, tuple[str, ...]] = {
    ServerState: ("total_requests", "connections", "tasks", "default_headers"),
    AccessFormatter: ("use_colors",),
}
"""The attributes that instances must have; these classes can be instantiated without arguments."""

PARAMETERS: dict[Any, tuple[str, ...]] = {
    UvicornConfig: ("app", "http", "ws", "log_config", "interface", "proxy_headers", "headers", "timeout_keep_alive"),
    ProxyHeadersMiddleware: ("app",),
    get_subprocess: ("config", "target", "sockets"),
}
"""The parameters that these must take, among others."""


def check() -> None:
    """Check that the installed uvicorn has the names above.

    Raises:
        LaunchError: A name is missing.
    """
    missing = next(_missing(), None)
    if missing is not None:
        raise LaunchError(
            f"uvicorn {uvicorn.__version__} has no {missing}, which duallisten relies on: install {SUPPORTED}"
        )


def _missing() -> Iterator[str]:
    for made, names in METHODS.items():
        yield from (f"{made.__name__}.{name}" for name in names if not hasattr(made, name))
    for made, names in ATTRIBUTES.items():
        one = made()
        yield from (f"{made.__name__}().{name}" for name in names if not hasattr(one, name))
    for called, names in PARAMETERS.items():
        taken = inspect.signature(called).parameters
        yield from (f"parameter {name} of {called.__name__}" for name in names if name not in taken)
    for name in ("default", "access"):
        if name not in LOGGING_CONFIG["formatters"]:
            yield f"formatter {name} in LOGGING_CONFIG"


def run_server(server: UvicornServer, sockets: list[socket.socket] | None = None) -> None:
    """Run a server in a new event loop, as uvicorn's `run` does.

    Args:
        server: A server of uvicorn's class.
        sockets: The sockets of its public listener, if they are bound already.

    Raises:
        LaunchError: The event loop cannot be used. It is checked before uvicorn creates a coroutine for it, which
            Python would report as never awaited.
    """
    server.config.get_loop_factory()
    UvicornServer.run(server, sockets)


def change_reloader() -> type[BaseReload]:
    """Return uvicorn's reloader class, which is imported only on use."""
    from uvicorn.supervisors import ChangeReload

    return ChangeReload
