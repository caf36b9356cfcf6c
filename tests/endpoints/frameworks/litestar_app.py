"""A Litestar application with some of its handlers under /internal."""

from __future__ import annotations

from typing import Any

from litestar import Litestar, Request, Router, WebSocket, get, post, websocket

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


def make_app(hooks: Hooks | None = None) -> Litestar:
    hooks = hooks or Hooks()
    return Litestar(
        [home, item, feed, INTERNAL], on_startup=[hooks.start], on_shutdown=[hooks.stop], logging_config=None
    )


app = make_app()
