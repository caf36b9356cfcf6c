"""Small applications that tests serve."""

from __future__ import annotations

from typing import Any

from duallisten.sides import Receive, Scope, Send, side


async def answer(send: Send, body: bytes, status: int = 200) -> None:
    """Send a whole HTTP response."""
    headers = [(b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


class Observed:
    """Answers with its side, keeps what it saw, counts its lifespans; a WebSocket is told its side, then echoed."""

    def __init__(self) -> None:
        self.started = 0
        self.stopped = 0
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(scope, receive, send)
            return
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await self._echo(scope, receive, send)
            return
        await answer(send, side(scope).encode())

    async def _live(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        self.started += 1
        scope["state"]["token"] = self
        await send({"type": "lifespan.startup.complete"})
        await receive()
        self.stopped += 1
        await send({"type": "lifespan.shutdown.complete"})

    async def _echo(self, scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.send", "text": side(scope)})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"]})


async def fails_to_start(scope: Scope, receive: Receive, send: Send) -> None:
    """An application whose start-up fails."""
    await receive()
    await send({"type": "lifespan.startup.failed", "message": "no database"})


def wsgi_app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
    """A WSGI application."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "4")])
    return [b"wsgi"]
