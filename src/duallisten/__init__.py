"""duallisten: an ASGI server launcher with two listeners in one process.

One listener is public, one is for the private network. The listener that accepts a connection decides which endpoints
the connection reaches. In place of uvicorn's: `duallisten.run`, `duallisten.Config`, `duallisten.Server`.

The names are imported on first use, so an application that only uses `side` does not load the server.
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
