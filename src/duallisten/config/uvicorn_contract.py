"""What duallisten uses of uvicorn's insides: all of it, here and nowhere else.

uvicorn's public names are `uvicorn.Config`, `uvicorn.Server`, `uvicorn.run` and the options of its command. What is
used beyond them has no promise of compatibility. So every other module takes it from here, `check` looks at each start
whether it is as it was, and a launch stops with one line if it is not. Nothing is switched off in silence.

uvicorn's classes are bound here when this module is imported, for a program may put ours in their place afterwards
(`uvicorn.Config = duallisten.Config`).

The tests run with the lowest and the newest supported version (`tests/contracts/test_uvicorn_contract.py`).

What is relied on, beside the names below:
    - `Config.load` makes `loaded_app`, `http_protocol_class`, `ws_protocol_class`, `lifespan_class`, `ssl` and
      `encoded_headers`; `load_app`, `configure_logging` and `get_loop_factory` may be overridden.
    - `Config.load` puts `ProxyHeadersMiddleware` outside of `MessageLoggerMiddleware`, and both around the application;
      each has it as `app`, as have `ASGI2Middleware` and `WSGIMiddleware`.
    - `Server.serve` calls `startup`, `on_tick` each 0.1 s, and `shutdown`; `handle_exit` sets `should_exit`, and
      `force_exit` at a second SIGINT.
    - `LifespanOn.startup` runs `main()` in a task; what goes wrong is told by its attributes.
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
"""What these classes have."""

ATTRIBUTES: dict[type, tuple[str, ...]] = {
    ServerState: ("total_requests", "connections", "tasks", "default_headers"),
    AccessFormatter: ("use_colors",),
}
"""What their objects have, which can be made without arguments."""

PARAMETERS: dict[Any, tuple[str, ...]] = {
    UvicornConfig: ("app", "http", "ws", "log_config", "interface", "proxy_headers", "headers", "timeout_keep_alive"),
    ProxyHeadersMiddleware: ("app",),
    get_subprocess: ("config", "target", "sockets"),
}
"""What these take, among others."""


def check() -> None:
    """Check that the installed uvicorn is as this module says.

    Raises:
        LaunchError: It is not.
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
    """Run a server in an event loop of its own, as uvicorn's `run` does.

    Args:
        server: A server of uvicorn's class.
        sockets: Those of its public listener, if they are bound already.

    Raises:
        LaunchError: The event loop cannot be used. uvicorn would find that out when it has made a coroutine for it, of
            which Python then says that nobody awaited it.
    """
    server.config.get_loop_factory()
    UvicornServer.run(server, sockets)


def change_reloader() -> type[BaseReload]:
    """Return uvicorn's reloader, which is imported where it is used."""
    from uvicorn.supervisors import ChangeReload

    return ChangeReload
