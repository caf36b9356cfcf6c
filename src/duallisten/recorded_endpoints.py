"""Endpoint sets whose requests are recorded: what `endpoints` does, and the beginning of each request's record.

One function, for every further one that a request passes costs about a quarter of all that is noted of it; and one that
knows as little as it can of what is rare, for Python touches all that a function might use each time it is called.

It finds the record of the connection by uvicorn's own ways: `send`, which an application is called with, is a method of
what uvicorn has made for the request, whose flow control has the connection's transport; that is the record
(`records.Recorded`).
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from duallisten.admission import Side
from duallisten.endpoints import Application, Hiding, Receive, Scope, Send
from duallisten.recorder import PASSED_OVER, Recorder, clock
from duallisten.requestids import claimed

if TYPE_CHECKING:
    from duallisten.pages import Pages


def recorded_endpoint_set(
    app: Application, side: Side, recorder: Recorder, hidden: Hiding | None = None, pages: Pages | None = None
) -> Application:
    """Make the application that `side` reaches, as `endpoints.endpoint_set` does, and have its requests recorded.

    recorder: of the side; it knows whether they get ids, too
    hidden: what is hidden from the public side
    pages: duallisten's own, of the private side, which are neither recorded nor in the access log
    """
    return _asking(app, side, recorder, hidden, pages)


def _asking(
    app: Application, side: Side, recorder: Recorder, hidden: Hiding | None, pages: Pages | None
) -> Application:
    header, make_id = recorder.naming or (b"", None)
    gets = recorder.kinds_of("GET")

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
        if pages is not None and scope["raw_path"] in pages.paths and method != "websocket":
            record.kinds = PASSED_OVER
            return pages.serve(scope, receive, send)
        if make_id is None:
            stamp: dict[str, Any] = {"side": side}
        else:
            identity = (record.trusted and claimed(scope["headers"], header)) or make_id()
            if recorder.is_told:
                cycle.request_id = identity
            stamp = {"side": side, "request_id": identity}
        if "extensions" in scope:
            scope["extensions"] = {**scope["extensions"], "duallisten": stamp}
        else:
            scope["extensions"] = {"duallisten": stamp}
        if hidden is not None:
            rules, known, decide, refuse = hidden
            is_hidden = known(scope["raw_path"])
            if is_hidden or (is_hidden is None and decide(scope["path"], scope["raw_path"], scope["root_path"])):
                return refuse(scope, receive, send)
            stamp["rules"] = rules
        return app(scope, receive, send)

    return ask
