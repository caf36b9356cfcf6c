"""The engine: what turns the bytes of a connection into exchanges, and back.

It speaks HTTP/1.1 and WebSocket by well-kept parsers. It knows no configuration, no platform and no scoreboard: whoever
opens a listener makes a `Context` from `Settings`, an application and `Observer`s, and a `Connection` for each
connection that is accepted.

    settings, observer  ->  context  ->  connection  ->  exchange   ->  the application
                                                     ->  websocket  ->  the application
    what a connection rests on: head, chunks (what is refused), parsers, timeouts, answers, tls
"""

from duallisten.http.connection import Connection
from duallisten.http.context import Context
from duallisten.http.exchange import Abort, Exchange
from duallisten.http.observer import Hooks, Observer, hooks_of
from duallisten.http.settings import Limits, Settings, WebSocketSettings
from duallisten.http.timeouts import Clock

__all__ = [
    "Abort",
    "Clock",
    "Connection",
    "Context",
    "Exchange",
    "Hooks",
    "Limits",
    "Observer",
    "Settings",
    "WebSocketSettings",
    "hooks_of",
]
