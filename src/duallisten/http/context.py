"""The state that the connections of one listener share in a process, and the observers of their events.

Access lines, metrics, request ids and connection limits are observers. Each is a subclass of `Observer` that overrides
the methods of the events it needs. `Hooks` holds one plain function for each kind of event, or None if no observer
needs the event. Such an event costs the engine no more than a test for None.

Invariants:
    - Every begin event has its end event: `connection_lost` follows each `connection_made`, `exchange_ended` each
      `exchange_began`, `websocket_closed` each accepted handshake.
    - An observer must not raise, await, or write to the connection.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable, Iterable
from logging import getLogger
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from duallisten.http.answers import encode_fields, unavailable
from duallisten.http.flow import Clock
from duallisten.http.parsers import parser_class
from duallisten.http.settings import Settings
from duallisten.http.tasks import Tasks

if TYPE_CHECKING:
    from duallisten.http.connection import Connection
    from duallisten.http.exchange import Exchange
    from duallisten.http.head import Field
    from duallisten.http.websocket import WebSocket
    from duallisten.sides import Application, Scope

    Rewrite = Callable[[Scope], None]
    Describe = Callable[[Any, Any], dict[str, Any]]
    HandOver = Callable[[asyncio.Transport, bytes], asyncio.Protocol]

logger = getLogger("uvicorn.error")


class Observer:
    """Receives the events of one listener's connections. Methods that are not overridden are never called."""

    def connection_made(self, connection: Connection) -> None:
        """A connection was accepted; its TLS handshake, if any, is complete."""

    def connection_lost(self, connection: Connection) -> None:
        """A connection has ended, as HTTP or as a WebSocket."""

    def exchange_began(self, exchange: Exchange) -> None:
        """A request's head is complete; the application is about to be called."""

    def response_started(self, exchange: Exchange) -> None:
        """The application has begun to answer: `exchange.status` is known."""

    def exchange_ended(self, exchange: Exchange) -> None:
        """The response is complete (`exchange.complete`), or will never be."""

    def handshake_ended(self, websocket: WebSocket) -> None:
        """A WebSocket handshake was answered with `websocket.status`; 0 if the client left before the answer."""

    def websocket_closed(self, websocket: WebSocket) -> None:
        """An open WebSocket has ended."""

    def refused(self, connection: Connection, status: int, reason: str) -> None:
        """The engine has refused a request; status 0 if it closed the connection or reset the stream instead."""


class Hooks(NamedTuple):
    """The function to call for each kind of event, or None."""

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
    """Build the hooks that call these observers, in this order."""
    observers = list(observers)
    return Hooks(**{name: _combine(observers, name) for name in Hooks._fields})


def _combine(observers: list[Observer], name: str) -> Callable[..., None] | None:
    default = getattr(Observer, name)
    calls = [getattr(observer, name) for observer in observers if getattr(type(observer), name) is not default]
    if len(calls) <= 1:
        return calls[0] if calls else None

    def tell(*arguments: Any) -> None:
        for call in calls:
            call(*arguments)

    return tell


class State(Protocol):
    """The connections and tasks of a side, with the attributes of `uvicorn.server.ServerState`."""

    total_requests: int
    connections: set[Any]
    tasks: set[asyncio.Task[None]]


class Context:
    """The state that the connections of one listener share in a process.

    Args:
        loop: The running event loop.
        settings: The engine's settings for the listener.
        app: The application; it may be replaced at any time.
        state: Where connections and tasks are registered.
        clock: Checks the deadlines of connections; one for the process.
        app_state: The lifespan state, which every request gets a copy of.
        hooks: The functions to call for events.
        believe: Takes the peer's host. Returns a function that rewrites a scope by the peer's forwarded headers, or
            None if those headers are not trusted. Called once per connection.
        describe: Takes a connection and an exchange on it (or None). Returns extra fields for log records about them.

    Attributes:
        is_ending: Whether every response says `Connection: close` from now on.
        call: Calls an application for an exchange, in a task.
        default_fields: The header fields of every response, encoded for HTTP/1.1.
        default_block: The same fields, encoded for HTTP/2; empty if HTTP/2 is off.
        hand_over: Another WebSocket implementation that replaces the engine's, or None. It is called with the
            transport, and with the bytes of the handshake and those received after it.
    """

    def __init__(  # noqa: PLR0913
        self,
        loop: asyncio.AbstractEventLoop,
        settings: Settings,
        app: Application,
        state: State,
        *,
        clock: Clock | None = None,
        app_state: dict[str, Any] | None = None,
        hooks: Hooks = NO_HOOKS,
        believe: Callable[[str | None], Rewrite | None] | None = None,
        describe: Describe | None = None,
    ) -> None:
        limits = settings.limits
        self.loop = loop
        self.settings, self.limits = settings, limits
        self.app = app
        self.state = state
        self.connections, self.tasks = state.connections, state.tasks
        self.clock = clock or Clock(loop)
        self.app_state = app_state if app_state is not None else {}
        self.hooks = hooks
        self.on_begin, self.on_start, self.on_end = hooks[2:5]
        self.is_timed = hooks.exchange_ended is not None or hooks.handshake_ended is not None
        self.believe = believe
        self.describe = describe
        self.hand_over: HandOver | None = None
        self.make_parser = parser_class(settings.parser)
        self.root_path = settings.root_path
        self.raw_root_path = settings.root_path.encode("ascii", "surrogateescape")
        self.max_head = limits.head_bytes if limits.head_bytes is not None else sys.maxsize
        self.is_limited = settings.limit_concurrency is not None
        self.asgi_version = settings.asgi_version
        self.is_ending = False
        self.default_fields = self.default_block = b""
        self._held: list[Exchange] = []
        self._calls = Tasks(loop, self.tasks, reset_variables=settings.reset_contextvars)
        self.call = self._calls.call
        self.clock.watch(self.connections, settings.time_outs)
        self.keep_alive = settings.keep_alive + self.clock.interval

    def set_default_fields(self, fields: Iterable[Field]) -> None:
        """Set the header fields of every response; they are not checked."""
        fields = list(fields)
        self.default_fields = encode_fields(fields)
        if self.settings.http2:
            from duallisten.http.http2.fields import encode_block  # its library is an extra

            self.default_block = encode_block(fields)

    @property
    def is_over_limit(self) -> bool:
        """Whether a new request must be answered with 503."""
        limit = self.settings.limit_concurrency
        running = len(self.tasks) + self._calls.waiting
        return limit is not None and (len(self.connections) >= limit or running >= limit)

    def begin(self, exchange: Exchange) -> Application:
        """Tell the observers that an exchange begins; return the application to call, or `unavailable` (503)."""
        app = self.app
        if self.is_limited and self.is_over_limit:
            app = unavailable
            exchange.by_engine = True
            self.log_warning("Exceeded concurrency limit.", exchange.connection)
        if self.is_timed:
            exchange.began = time.perf_counter()
        if self.on_begin is not None:
            self.on_begin(exchange)
        return app

    def hold(self, exchange: Exchange) -> None:
        """Send the head that an exchange holds back, at the end of this turn of the event loop."""
        if not self._held:
            self.loop.call_soon(self._release)
        self._held.append(exchange)

    def _release(self) -> None:
        held, self._held = self._held, []
        for exchange in held:
            if exchange.held is not None:
                exchange.flush()

    def tell_refused(self, connection: Any, status: int, reason: str) -> None:
        """Tell the observers that the engine refuses a request; for status 0 see `Observer.refused`."""
        if self.hooks.refused is not None:
            self.hooks.refused(connection, status, reason)

    def log_error(self, message: str, *arguments: object, about: Any, error: BaseException | None = None) -> None:
        """Log an error about an exchange or a WebSocket."""
        extra = self.describe(about.connection, about) if self.describe is not None else None
        logger.error(message, *arguments, exc_info=error, extra=extra)

    def log_warning(self, message: str, connection: Any) -> None:
        """Log a warning about a connection."""
        extra = self.describe(connection, None) if self.describe is not None else None
        logger.warning(message, extra=extra)
