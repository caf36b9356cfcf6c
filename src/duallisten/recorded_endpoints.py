"""Endpoint sets whose requests are recorded: what `endpoints` does, and the beginning of each request's record.

One function, for every further one that a request passes costs about a quarter of all that is noted of it; and one that
knows as little as it can of what is rare, for Python touches all that a function might use each time it is called.

It finds the record of the connection by uvicorn's own ways: `send`, which an application is called with, is a method of
what uvicorn has made for the request, whose flow control has the connection's transport; that is the record
(`records.Recorded`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from duallisten.admission import Side
from duallisten.endpoints import Application, Hiding, Receive, Scope, Send
from duallisten.recorder import PASSED_OVER, Recorder, clock
from duallisten.requestids import claimed
from duallisten.rules import Rules

if TYPE_CHECKING:
    from duallisten.pages import Pages


class _Else(NamedTuple):
    """What of a side is not the application's to answer.

    known: tells of a raw path whether it is, or a second value where nothing is known of it
    unknown: that value; None if it has to be decided
    decide: decides about a request, from its path, raw path and root path
    answer: answers it
    rules: what else the application is told
    """

    known: Callable[[Any, Any], bool | None]
    unknown: bool | None
    decide: Callable[[str, bytes | None, str | None], bool]
    answer: Application
    rules: Rules | None


def recorded_endpoint_set(
    app: Application, side: Side, recorder: Recorder, hidden: Hiding | None = None, pages: Pages | None = None
) -> Application:
    """Make the application that `side` reaches, as `endpoints.endpoint_set` does, and have its requests recorded.

    recorder: of the side; it knows whether they get ids, too
    hidden: what is hidden from the public side
    pages: duallisten's own, of the private side, which are neither recorded nor in the access log
    """
    return _asking(app, side, recorder, _instead_of(app, hidden, pages))


def _asking(app: Application, side: Side, recorder: Recorder, instead: Any) -> Application:
    known, unknown = (instead.known, instead.unknown) if instead is not None else (None, None)
    header, make_id = recorder.naming or (b"", None)
    gets, is_told = recorder.kinds_of("GET"), recorder.is_told

    def ask(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        cycle: Any = send.__self__  # type: ignore[attr-defined]
        try:
            record, method = cycle.flow._transport, scope["method"]
        except AttributeError:
            record, method = cycle.transport, "websocket"  # a WebSocket's protocol
        if record.cycle is not None:  # complete, and its turn is not over: an eager task does not wait for that
            record.settle()
        record.cycle = cycle
        record.kinds = gets if method == "GET" else recorder.kinds_of(method)
        record.began = clock()
        if make_id is None:
            stamp: dict[str, Any] = {"side": side}
        else:
            identity = (record.trusted and claimed(scope["headers"], header)) or make_id()
            if is_told:
                cycle.request_id = identity
            stamp = {"side": side, "request_id": identity}
        if "extensions" in scope:
            scope["extensions"] = {**scope["extensions"], "duallisten": stamp}
        else:
            scope["extensions"] = {"duallisten": stamp}
        if known is not None:
            raw = scope["raw_path"]
            is_else = known(raw, unknown)
            if is_else or (is_else is None and instead.decide(scope["path"], raw, scope["root_path"])):
                return instead.answer(scope, receive, send)  # type: ignore[no-any-return]
            if instead.rules is not None:
                stamp["rules"] = instead.rules
        return app(scope, receive, send)

    return ask


def _instead_of(app: Application, hidden: Hiding | None, pages: Pages | None) -> _Else | None:
    """Make what is not for `app`; None where all is. A side has hidden paths or pages, never both."""
    if hidden is not None:
        return _Else(hidden.known, None, hidden.decide, hidden.refuse, hidden.rules)
    if pages is None:
        return None

    def answer(scope: Scope, receive: Receive, send: Any) -> Awaitable[None]:
        if scope["type"] != "http":
            return app(scope, receive, send)
        send.__self__.flow._transport.kinds = PASSED_OVER
        return pages.serve(scope, receive, send)

    return _Else(dict.fromkeys(pages.paths, True).get, False, lambda path, raw, root: False, answer, None)
