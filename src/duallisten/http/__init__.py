"""The engine: what turns the bytes of a connection into exchanges, and back.

It speaks HTTP/1.1 and WebSocket by well-kept parsers, and HTTP/2. It knows no configuration, no platform and no
scoreboard: whoever opens a listener makes a `Context` from `Settings`, an application and `Observer`s, and a
`Connection` for each connection that is accepted.

    settings, observers  ->  context  ->  connection  ->  exchange   ->  the application
                                                      ->  websocket  ->  the application
                                                      ->  http2      ->  exchanges, a channel for each
    what a connection rests on: flow, request, head, chunks (what is refused), parsers, answers, tls
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
