"""Helpers for tests of your application: a test client for one side, and a real server on loopback.

`as_side` lets any ASGI test client act on a side, without a socket:

    TestClient(as_side(app, "private"))                          # Starlette, FastAPI
    httpx.AsyncClient(transport=ASGITransport(as_side(app, "public", private_paths=["/internal"])))
    ApplicationCommunicator(as_side(app, "private"), scope)      # asgiref

`serve` starts both listeners on free loopback ports, in a thread:

    with serve(app, private_paths=["/internal"]) as served:
        assert httpx.get(f"{served.public}/internal").status_code == 404

Both apply the rules of a launch, so tests see what a launch would serve. Neither takes an address from the environment,
because a test must not depend on the machine.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from duallisten.config import Config, bare, takes_options
from duallisten.config.uvicorn_contract import run_server
from duallisten.endpoints import endpoint_set
from duallisten.errors import LaunchError, UsageError
from duallisten.server import Server
from duallisten.sides import Application, Receive, Scope, Send, Side

if TYPE_CHECKING:
    from typing import Unpack

    from duallisten.config.keywords import Keywords

LOOPBACK = "127.0.0.1"

ONE_PROCESS = {"workers": 1, "private_workers": 0, "reload": False}
"""Options with the only value that `serve` accepts, because it serves in one process."""


@takes_options("platform", "proxy_headers", "log_config")
def as_side(app: Any, name: Side, **options: Unpack[Keywords]) -> Application:
    """Build an ASGI application that answers as `app` does on a side.

    Args:
        app: The application, or `"module:attribute"`.
        name: `"public"` or `"private"`.
        options: Options of `duallisten.Config`. Only those for endpoint sets have an effect: `private_paths`,
            `public_paths`, `hidden_status`, `private_app`, `strict_routes`, `factory`, `interface`.

    Returns:
        The application for a test client. Its lifespan is the application's own.

    Raises:
        LaunchError: The application cannot be imported, or the launch would be refused.
        UsageError: An option cannot be read.
        ValueError: There is no such side.
        TypeError: There is no option of this name.
    """
    if name not in get_args(Side):
        raise ValueError(f"{name!r} is no side: 'public' or 'private'")
    given: dict[str, Any] = dict(options)
    config = Config(app, platform="none", proxy_headers=False, log_config=None, **given)
    config.load()
    lifespan = config.source(name).loaded_app
    endpoints = endpoint_set(bare(lifespan), name, config.rules)

    async def serve_side(scope: Scope, receive: Receive, send: Send) -> None:
        await (lifespan if scope["type"] == "lifespan" else endpoints)(scope, receive, send)

    return serve_side


class Served(NamedTuple):
    """The running server of `serve`.

    Attributes:
        public: The base URL of the public side, without a slash at its end; empty where it is not open.
        private: The base URL of the private side, in the same form.
        server: The server, which runs in a thread.
    """

    public: str
    private: str
    server: Server


class ThreadedServer(Server):
    """A server in a thread.

    Attributes:
        ready: Set when it serves, and when it has ended.
        error: The exception that ended it; None without one.
    """

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.ready = threading.Event()
        self.error: BaseException | None = None
        self.thread = threading.Thread(target=self._run_and_tell, name="duallisten-testing", daemon=True)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start the server, and set `ready`."""
        await super().startup(sockets)
        self.ready.set()

    def finish(self, timeout: float) -> None:
        """Stop the server; raises LaunchError where that takes longer than `timeout` seconds."""
        self.should_exit = True
        self.thread.join(timeout)
        if self.thread.is_alive():
            self.force_exit = True
            raise LaunchError(f"the application did not stop within {timeout:g} s")

    def _run_and_tell(self) -> None:
        try:
            run_server(self)
        except BaseException as error:
            self.error = error
        finally:
            self.ready.set()


class serve:  # noqa: N801  # read as a verb: with serve(app) as served
    """Serve an application on free loopback ports in a `with` or `async with` block.

    Entering the block returns a `Served`; leaving it stops the server.

    Args:
        app: The application, or `"module:attribute"`.
        timeout: Seconds that the server may take to start, and to stop.
        options: Options of `duallisten.Config`.

    Raises:
        UsageError: An option cannot be read, or needs more than one process.
        TypeError: There is no option of this name.
        LaunchError: The server does not start or stop within `timeout`; or a launch would be refused.
    """

    @takes_options(*ONE_PROCESS)
    def __init__(self, app: Any, *, timeout: float = 30.0, **options: Unpack[Keywords]) -> None:
        for name, only in ONE_PROCESS.items():
            if (asked := options.get(name) or only) != only:
                raise UsageError(f"{name}={asked!r}: serve has one process, which serves both sides")
        given: dict[str, Any] = {
            "host": LOOPBACK,
            "port": 0,
            "private_host": LOOPBACK,
            "private_port": 0,
            "platform": "none",
        }
        self._server = ThreadedServer(Config(app, **{"log_config": None, **given, **options}))
        self._timeout = timeout

    def __enter__(self) -> Served:
        server = self._server
        server.thread.start()
        is_ready = server.ready.wait(self._timeout)
        if server.error is not None:
            raise server.error
        if not is_ready:
            server.should_exit = True
            raise LaunchError(f"the application did not start within {self._timeout:g} s")
        return Served(server.url("public"), server.url("private"), server)

    def __exit__(self, *raised: object) -> None:
        self._server.finish(self._timeout)

    async def __aenter__(self) -> Served:
        return await asyncio.to_thread(self.__enter__)

    async def __aexit__(self, *raised: object) -> None:
        await asyncio.to_thread(self.__exit__)
