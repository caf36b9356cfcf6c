"""Endpoint sets: what each side may reach, as a plain function between the server and the application.

The function is called once per request and returns the application's own coroutine: no task, no extra `await`. It
stamps the side into `scope["extensions"]["duallisten"]`, where only a server can write. On the public side it also
applies the path rules (`endpoints.path_rules`).

The server reads the body of a hidden request and throws it away, so that the connection stays usable. If the
connection closes after the response, the body is read here first: closing a connection with unread bytes resets it,
and the client may never see the response (RFC 9112, 9.6). A WebSocket handshake is answered with an HTTP response
(ASGI's extension `websocket.http.response`): `websocket.close` would become a 403, which reveals that the path exists.

Invariants:

- The side is fixed when the function is built, one per listener. No request can change it, and the stamp replaces any
  side that the scope already had.
- Only the path of a request decides whether it is hidden.
- A hidden request never reaches the application, and all hidden requests get the same response.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any

from duallisten.endpoints.frameworks import aliases, root_paths
from duallisten.endpoints.frameworks.i18n import languages
from duallisten.endpoints.path_rules import NO_RULES, PathMatcher, Rules
from duallisten.sides import Application, Receive, Scope, Send, Side


def _matcher(app: Application, rules: Rules) -> PathMatcher:
    """Build what decides for an application: its framework may serve a path under further ones."""
    return PathMatcher(rules.in_languages(languages()), root_paths(app), aliases(app))


def endpoint_set(
    app: Application,
    side: Side,
    rules: Rules = NO_RULES,
    *,
    is_engine: bool = False,
    remember: bool = False,
    note_hidden: Callable[[], None] | None = None,
) -> Application:
    """Build an application that stamps `side` into each scope, hides what `rules` hide from it, and calls `app`.

    Args:
        app, side: The application, and the side that its requests come from.
        rules: What is hidden from the public side. The private side reaches everything.
        is_engine: Whether our engine made the scopes: each has its own `extensions`, written only by our observers.
        remember: Whether all requests have the same root path, so that verdicts can be kept by raw path.
        note_hidden: Called for each hidden request.
    """
    hides_something = side == "public" and rules.hide_something
    matcher = _matcher(app, rules) if hides_something else PathMatcher(rules)
    known, decide = matcher.verdicts.get, matcher.decide if remember else matcher.hides
    effective, refuse = matcher.rules, refusal(rules.hidden_status, note_hidden)

    def call(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if is_engine:
            extensions = scope["extensions"]
            stamp: dict[str, Any] = extensions.get("duallisten") or {}
            stamp["side"] = side
            extensions["duallisten"] = stamp
        else:  # a new dict for each request, so that an application cannot change the next request's
            stamp = {"side": side}
            scope["extensions"] = {**(scope.get("extensions") or {}), "duallisten": stamp}
        if hides_something:
            is_hidden = known(raw := scope.get("raw_path"))
            if is_hidden or (is_hidden is None and decide(scope["path"], raw, scope.get("root_path"))):
                return refuse(scope, receive, send)
            stamp["rules"] = effective
        return app(scope, receive, send)

    return call


def refusal(status: int, note: Callable[[], None] | None = None) -> Application:
    """Build an application that answers every request with `status` and its phrase, and calls `note` each time."""
    body = HTTPStatus(status).phrase.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        if note is not None:
            note()
        answer = "http.response"
        if scope["type"] == "websocket":
            await receive()
            answer = "websocket.http.response"
            if answer not in scope.get("extensions", {}):
                await send({"type": "websocket.close"})
                return
        elif _will_close(scope):
            while (await receive()).get("more_body", False):
                pass
        await send({"type": f"{answer}.start", "status": status, "headers": headers})
        await send({"type": f"{answer}.body", "body": body})

    return refuse


def _will_close(scope: Scope) -> bool:
    """Whether the connection closes after the response (RFC 9112, 9.3)."""
    if scope.get("http_version") == "1.0":
        return True
    return any(name == b"connection" and b"close" in value.lower() for name, value in scope.get("headers", ()))
