"""Endpoint sets: what each side may reach, as a plain function between uvicorn and the application.

The function is called once a request and returns the application's own coroutine: no task, no extra `await`. It
stamps the side into `scope["extensions"]["duallisten"]`, where only a server can write; whatever stood there is
replaced. Until rules say otherwise both sides reach the whole application.

It never makes a request private: the side is fixed when the function is made, one function a listener.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Protocol

from duallisten.admission import Side

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class HasScope(Protocol):
    """A request or connection object of a framework: anything that carries its ASGI scope."""

    @property
    def scope(self) -> Any: ...  # noqa: D102


def endpoint_set(app: Application, side: Side) -> Application:
    """Make the application that `side` reaches: `app`, told on which side it was asked."""

    def ask(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # New dicts for each request, which no application can change for the next; written out for speed.
        if "extensions" in scope:
            scope["extensions"] = {**scope["extensions"], "duallisten": {"side": side}}
        else:
            scope["extensions"] = {"duallisten": {"side": side}}
        return app(scope, receive, send)

    return ask


def side(scope_or_request: Scope | HasScope) -> Side:
    """Tell on which side a request came in.

    scope_or_request: an ASGI scope, or any object with one as its `scope` (a Starlette, FastAPI, Litestar, Quart or
        Django ASGI request, a WebSocket)

    Returns `"private"` where duallisten's private listener accepted the connection, and `"public"` in every other
    case: another server, a test client, a scope without the stamp.
    """
    scope: Any = getattr(scope_or_request, "scope", scope_or_request)
    try:
        stamped = scope["extensions"]["duallisten"]["side"]
    except (KeyError, TypeError):
        return "public"
    return "private" if stamped == "private" else "public"
