"""Observers: who is told what the engine does.

Access lines, metrics, request ids and limits on connections are observers. Each is an `Observer` that overrides what
it wants to hear of; `Hooks` holds for each kind of event one plain function, or None where nobody listens. So an event
that nobody listens to costs the engine the question whether there is a hook.

Invariants:
    - Whatever begins also ends: `connection_lost` follows each `connection_made`, `exchange_ended` each
      `exchange_began`, `websocket_closed` each handshake that was accepted.
    - An observer must not raise, await, or write to the connection.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from duallisten.http.connection import Connection
    from duallisten.http.exchange import Exchange
    from duallisten.http.websocket import WebSocket


class Observer:
    """Hears of what happens on the connections of one listener. What is not overridden is not asked for."""

    def connection_made(self, connection: Connection) -> None:
        """A connection was accepted, and its TLS handshake is complete."""

    def connection_lost(self, connection: Connection) -> None:
        """It has ended, as HTTP or as a WebSocket."""

    def exchange_began(self, exchange: Exchange) -> None:
        """A request's head is complete; its application is about to be called."""

    def response_started(self, exchange: Exchange) -> None:
        """The application has begun to answer: `exchange.status` is known."""

    def exchange_ended(self, exchange: Exchange) -> None:
        """The answer is complete (`exchange.complete`), or will never be."""

    def handshake_ended(self, websocket: WebSocket) -> None:
        """A WebSocket handshake was answered, with `websocket.status`; 0 where the client left before that."""

    def websocket_closed(self, websocket: WebSocket) -> None:
        """A WebSocket that was open has ended."""

    def refused(self, connection: Connection, status: int, reason: str) -> None:
        """The engine has refused a request before there was an exchange; status 0 for a connection that was closed."""


class Hooks(NamedTuple):
    """For each kind of event what is to be called, or None."""

    connection_made: Callable[[Connection], None] | None = None
    connection_lost: Callable[[Connection], None] | None = None
    exchange_began: Callable[[Exchange], None] | None = None
    response_started: Callable[[Exchange], None] | None = None
    exchange_ended: Callable[[Exchange], None] | None = None
    handshake_ended: Callable[[WebSocket], None] | None = None
    websocket_closed: Callable[[WebSocket], None] | None = None
    refused: Callable[[Connection, int, str], None] | None = None


NO_HOOKS = Hooks()


def hooks_of(observers: Iterable[Observer]) -> Hooks:
    """Build the hooks that tell these observers, in this order."""
    observers = tuple(observers)
    return Hooks(**{name: _combine([one for one in observers if _listens(one, name)], name) for name in Hooks._fields})


def _listens(observer: Observer, name: str) -> bool:
    return getattr(type(observer), name) is not getattr(Observer, name)


def _combine(observers: list[Observer], name: str) -> Callable[..., None] | None:
    if not observers:
        return None
    calls = [getattr(observer, name) for observer in observers]
    if len(calls) == 1:
        call: Callable[..., None] = calls[0]
        return call

    def tell(*arguments: Any) -> None:
        for call in calls:
            call(*arguments)

    return tell
