"""duallisten: an ASGI server launcher with two listeners in one process.

One listener is for the world, one for the private network; the listener on which a connection came in decides which
endpoints it reaches. In place of uvicorn: `duallisten.run`, `duallisten.Config`, `duallisten.Server`.
"""

from duallisten.config import Config
from duallisten.endpoints import side
from duallisten.errors import DuallistenError, LaunchError, UsageError
from duallisten.launch import run
from duallisten.server import Server

__version__ = "0.1.0"

__all__ = ["Config", "DuallistenError", "LaunchError", "Server", "UsageError", "run", "side"]
