"""duallisten: an ASGI server launcher with two listeners in one process.

One listener is for the world, one for the private network; the listener on which a connection came in decides which
endpoints it reaches. In place of uvicorn: `duallisten.run`, `duallisten.Config`, `duallisten.Server`.

The names are imported when they are first used: an application that asks for `side` loads no server.
"""

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duallisten.config.config import Config
    from duallisten.errors import DuallistenError, LaunchError, ShutdownError, UsageError
    from duallisten.processes.launch import run
    from duallisten.server.server import Server
    from duallisten.sides import request_id, side

__version__ = "0.1.0"

__all__ = [
    "Config",
    "DuallistenError",
    "LaunchError",
    "Server",
    "ShutdownError",
    "UsageError",
    "request_id",
    "run",
    "side",
]

if not TYPE_CHECKING:  # a type checker knows the names above, and no others
    _MODULES = {
        "Config": "config.config",
        "DuallistenError": "errors",
        "LaunchError": "errors",
        "Server": "server.server",
        "ShutdownError": "errors",
        "UsageError": "errors",
        "request_id": "sides",
        "run": "processes.launch",
        "side": "sides",
    }

    def __getattr__(name: str) -> Any:
        if name not in _MODULES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        if sys.platform == "win32" and _MODULES[name] not in ("errors", "sides"):
            raise ImportError(f"duallisten.{name} is not there on Windows: duallisten serves on Linux and macOS")
        value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return [*globals(), *__all__]
