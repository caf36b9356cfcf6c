"""The engine: it turns the bytes of a connection into exchanges (a request and its response), and back.

It speaks HTTP/1.1 and WebSocket, with well-maintained parser libraries, and HTTP/2. It knows no configuration, no
platform and no scoreboard. The code that opens a listener builds a `Context` from `Settings`, an application and
`Observer`s, and a `Connection` for each accepted connection.

    settings, observers  ->  context  ->  connection  ->  exchange   ->  the application
                                                      ->  websocket  ->  the application
                                                      ->  http2      ->  exchanges, a channel for each
    used by connections: flow, request, head and chunks (they decide what is refused), parsers, answers, tls
"""

from duallisten.http.channel import Channel, exchanges_of
from duallisten.http.connection import Connection
from duallisten.http.context import Context, Hooks, Observer, hooks_of
from duallisten.http.exchange import Abort, Exchange
from duallisten.http.flow import Clock
from duallisten.http.settings import Limits, Settings, WebSocketSettings

__all__ = [
    "Abort",
    "Channel",
    "Clock",
    "Connection",
    "Context",
    "Exchange",
    "Hooks",
    "Limits",
    "Observer",
    "Settings",
    "WebSocketSettings",
    "exchanges_of",
    "hooks_of",
]
