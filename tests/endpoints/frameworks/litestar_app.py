"""A Litestar application with some of its handlers under /internal."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, Request, Router, WebSocket, asgi, get, post, websocket
from litestar.types import Receive, Scope, Send

from duallisten import side
from tests.endpoints.frameworks.hooks import Hooks


@get("/")
async def home(request: Request[Any, Any, Any]) -> dict[str, str]:
    return {"side": side(request)}


@get("/items/{item:int}")
async def item(request: Request[Any, Any, Any]) -> dict[str, int]:
    return {"item": request.path_params["item"]}


@websocket("/feed")
async def feed(socket: WebSocket[Any, Any, Any]) -> None:
    await socket.accept()
    await socket.send_text(side(socket))
    await socket.close()


@get("/stock")
async def stock() -> dict[str, int]:
    return {"apples": 3}


@post("/stock")
async def restock(request: Request[Any, Any, Any]) -> Any:
    return await request.json()


INTERNAL = Router("/internal", route_handlers=[stock, restock, feed])


@asgi("/internal", is_mount=True, copy_scope=True)
async def told(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the path that a mounted application gets."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": scope["path"].encode(), "more_body": False})


@get("/internals", sync_to_thread=False)
def internals() -> str:
    return "everybody's"


def make_mounting_app() -> Litestar:
    """Make an application with one mounted at /internal, and a route whose path begins alike."""
    return Litestar([told, internals], logging_config=None)


def make_app(hooks: Hooks | None = None) -> Litestar:
    hooks = hooks or Hooks()
    return Litestar(
        [home, item, feed, INTERNAL], on_startup=[hooks.start], on_shutdown=[hooks.stop], logging_config=None
    )


app = make_app()
