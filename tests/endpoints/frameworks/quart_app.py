"""A Quart application with some of its views under /internal."""

from __future__ import annotations

from typing import Any

from quart import Blueprint, Quart, request, websocket

from duallisten import side
from tests.endpoints.frameworks.hooks import Hooks


async def home() -> dict[str, str]:
    return {"side": side(request)}


async def item(number: int) -> dict[str, int]:
    return {"item": number}


async def feed() -> None:
    await websocket.send(side(websocket))


async def stock() -> dict[str, int]:
    return {"apples": 3}


async def restock() -> Any:
    return await request.get_json()


def make_app(hooks: Hooks | None = None) -> Quart:
    hooks = hooks or Hooks()
    internal = Blueprint("internal", __name__, url_prefix="/internal")
    internal.add_url_rule("/stock", view_func=stock, methods=["GET"])
    internal.add_url_rule("/stock", view_func=restock, methods=["POST"])
    internal.add_websocket("/feed", view_func=feed)
    app = Quart(__name__)
    app.add_url_rule("/", view_func=home)
    app.add_url_rule("/items/<int:number>", view_func=item)
    app.add_websocket("/feed", view_func=feed)
    app.register_blueprint(internal)
    app.before_serving(hooks.start)
    app.after_serving(hooks.stop)
    return app


app = make_app()
