"""Endpoint sets: what each side may reach, as a plain function between uvicorn and the application.

The function is called once a request and returns the application's own coroutine: no task, no extra `await`. It
stamps the side into `scope["extensions"]["duallisten"]`, where only a server can write; whatever stood there is
replaced. On the public side it also applies the path rules (`duallisten.rules`): a hidden request never reaches the
application, and every hidden path and method is answered alike.

It never makes a request private: the side is fixed when the function is made, one function a listener. It never
looks at anything of a request but its path.

A hidden request's body is left to the server, which reads on and throws it away, so that the connection stays usable
(RFC 9110, 9.3.1: an answer may come before the body has). A WebSocket handshake is answered with an HTTP response
(ASGI's extension `websocket.http.response`), for closing it would be a 403 and say that something is there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from http import HTTPStatus
from typing import Any, Protocol

from duallisten.admission import Side
from duallisten.rules import LONGEST_REMEMBERED, NO_RULES, Judge, Rules

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class HasScope(Protocol):
    """A request or connection object of a framework: anything that carries its ASGI scope."""

    @property
    def scope(self) -> Any: ...  # noqa: D102


def endpoint_set(app: Application, side: Side, rules: Rules = NO_RULES, roots: Iterable[str] = ()) -> Application:
    """Make the application that `side` reaches: `app`, told on which side it was asked, without what is hidden.

    rules: what is hidden from the public side; the private side reaches everything
    roots: path prefixes that `app` takes off by itself (`duallisten.rules.Judge`)
    """

    def ask(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        # New dicts for each request, which no application can change for the next; written out for speed.
        if "extensions" in scope:
            scope["extensions"] = {**scope["extensions"], "duallisten": {"side": side}}
        else:
            scope["extensions"] = {"duallisten": {"side": side}}
        return app(scope, receive, send)

    if side == "private" or not rules.hide_something:
        return ask
    return _hiding(app, rules, Judge(rules, roots))


def _hiding(app: Application, rules: Rules, judge: Judge) -> Application:
    """Make the public side's application: `app` without what `rules` hide."""
    hides, remembered = judge.hides, judge.remembered
    refuse = refusal(rules.hidden_status)

    def ask(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        path, raw, root = scope["path"], scope.get("raw_path"), scope.get("root_path")
        if (remembered if len(path) <= LONGEST_REMEMBERED else hides)(path, raw, root):
            return refuse(scope, receive, send)
        if "extensions" in scope:
            scope["extensions"] = {**scope["extensions"], "duallisten": {"side": "public", "rules": rules}}
        else:
            scope["extensions"] = {"duallisten": {"side": "public", "rules": rules}}
        return app(scope, receive, send)

    return ask


def refusal(status: int) -> Application:
    """Make the application that answers everything with `status` and nothing that tells one request from another."""
    body = HTTPStatus(status).phrase.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        kind = "http.response"
        if scope["type"] == "websocket":
            await receive()
            if "websocket.http.response" not in scope.get("extensions", {}):
                await send({"type": "websocket.close"})
                return
            kind = "websocket.http.response"
        await send({"type": f"{kind}.start", "status": status, "headers": headers})
        await send({"type": f"{kind}.body", "body": body})

    return refuse


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
