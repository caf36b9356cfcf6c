"""Endpoint sets: what each side may reach, as a plain function between uvicorn and the application.

The function is called once a request and returns the application's own coroutine: no task, no extra `await`. It
stamps the side into `scope["extensions"]["duallisten"]`, where only a server can write; whatever stood there is
replaced. On the public side it also applies the path rules (`endpoints.path_rules`): a hidden request never reaches the
application, and every hidden path and method is answered alike.

It never makes a request private: the side is fixed when the function is made, one function a listener. It never
looks at anything of a request but its path.

A hidden request's body is left to the server, which reads on and throws it away, so that the connection stays usable.
Where the connection ends with the answer it is read here first: closed with bytes unread, a connection is reset, and
the client may never see the answer (RFC 9112, 9.6). A WebSocket handshake is answered with an HTTP response (ASGI's
extension `websocket.http.response`), for closing it would be a 403 and say that something is there.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from http import HTTPStatus
from typing import Any, NamedTuple

from duallisten.endpoints.path_rules import PathMatcher, Rules
from duallisten.sides import Application, Receive, Scope, Send, Side


class HiddenPaths(NamedTuple):
    """What is hidden from the public side.

    known: gives what has been decided about a raw path; None where nothing has been
    decide: decides about a request, from its path, raw path and root path
    refuse: answers what is hidden
    """

    rules: Rules
    known: Callable[[bytes | None], bool | None]
    decide: Callable[[str, bytes | None, str | None], bool]
    refuse: Application


def hidden_paths(
    side: Side,
    rules: Rules,
    roots: Iterable[str] = (),
    *,
    remember: bool = False,
    note_hidden: Callable[[], None] | None = None,
) -> HiddenPaths | None:
    """Build what decides about the requests of `side`; None where nothing is hidden.

    rules: what is hidden from the public side; the private side reaches everything
    roots: path prefixes that the application takes off by itself (`endpoints.path_rules.Judge`)
    remember: whether all requests that it will get have one root path, so that a verdict holds for a raw path
    note_hidden: is called for each request that is hidden
    """
    if side == "private" or not rules.hide_something:
        return None
    judge = PathMatcher(rules, roots)
    refuse = refusal(rules.hidden_status)
    if note_hidden is not None:
        refuse = _noting(refuse, note_hidden)
    return HiddenPaths(rules, judge.verdicts.get, judge.decide if remember else judge.hides, refuse)


def endpoint_set(
    app: Application, side: Side, hidden: HiddenPaths | None = None, *, is_engine: bool = False
) -> Application:
    """Build the application that `side` reaches: `app`, told on which side it was asked, without what is hidden.

    is_engine: whether scopes are the engine's: with extensions of their own, in which an observer of ours may have put
        the id of the request
    """
    if hidden is None:
        rules, known, decide, refuse = None, None, None, None
    else:
        rules, known, decide, refuse = hidden

    def ask(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        if is_engine:
            extensions = scope["extensions"]
            stamp: dict[str, Any] = extensions.get("duallisten") or {}
            stamp["side"] = side
            extensions["duallisten"] = stamp
        else:  # a new dict for each request, which no application can change for the next
            stamp = {"side": side}
            scope["extensions"] = {**(scope.get("extensions") or {}), "duallisten": stamp}
        if known is not None:
            raw = scope.get("raw_path")
            is_hidden = known(raw)
            if is_hidden or (is_hidden is None and decide(scope["path"], raw, scope.get("root_path"))):  # type: ignore[misc]
                return refuse(scope, receive, send)  # type: ignore[misc]
            stamp["rules"] = rules
        return app(scope, receive, send)

    return ask


def _noting(app: Application, note: Callable[[], None]) -> Application:
    def ask(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        note()
        return app(scope, receive, send)

    return ask


def refusal(status: int) -> Application:
    """Build the application that answers everything with `status` and nothing that tells one request from another."""
    body = HTTPStatus(status).phrase.encode()
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(body))]

    async def refuse(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await refuse_handshake(scope, receive, send)
            return
        if _will_close(scope):
            while (await receive()).get("more_body", False):
                pass
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def refuse_handshake(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        if "websocket.http.response" not in scope.get("extensions", {}):
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.http.response.start", "status": status, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": body})

    return refuse


def _will_close(scope: Scope) -> bool:
    """Whether a request's connection ends with its answer (RFC 9112, 9.3)."""
    if scope.get("http_version") == "1.0":
        return True
    return any(name == b"connection" and b"close" in value.lower() for name, value in scope.get("headers", ()))
