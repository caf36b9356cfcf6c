"""What the connections of one listener share in a process."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from logging import getLogger
from typing import TYPE_CHECKING, Any, Protocol

from duallisten.http.answers import encode_fields
from duallisten.http.observer import NO_HOOKS, Hooks
from duallisten.http.parsers import parser_class
from duallisten.http.settings import Settings
from duallisten.http.tasks import Tasks
from duallisten.http.timeouts import Clock

if TYPE_CHECKING:
    from duallisten.http.exchange import Exchange

Scope = MutableMapping[str, Any]
Application = Callable[[Scope, Callable[[], Awaitable[Any]], Callable[[Any], Awaitable[None]]], Awaitable[None]]

Rewrite = Callable[[Scope], None]
"""Puts into a request's scope what a proxy that is believed says of its client."""

Describe = Callable[[Any, Any], dict[str, Any]]
"""Tells what a log record should say of a connection and of an exchange on it (or None)."""

HandOver = Callable[[asyncio.Transport, bytes], asyncio.Protocol]
"""Gives a transport, and the head of a WebSocket handshake as it came, to a protocol that is not the engine's."""

logger = getLogger("uvicorn.error")


class State(Protocol):
    """The connections and tasks of a side, as `uvicorn.server.ServerState` holds them."""

    total_requests: int
    connections: set[Any]
    tasks: set[asyncio.Task[None]]


class Context:
    """What the connections of one listener share in a process.

    Args:
        loop: The running event loop.
        settings: What the listener grants its peers.
        app: The application; it may be replaced at any time.
        state: Where connections and tasks are registered.
        clock: Where time-outs come from, one for the process.
        app_state: What the lifespan of the application shares with its requests.
        hooks: Who is told of what happens.
        believe: Given a peer's host, returns what rewrites a scope by the forwarded headers of that peer, or None
            where they are not believed. Asked once per connection.
        describe: What to add to log records; None for nothing.

    Attributes:
        is_ending: Whether every response says `Connection: close` from now on.
        call: Calls an application for an exchange, in a task.
        default_fields: The fields that every response has, as they go out.
        hand_over: Who serves WebSocket connections in the engine's place; None for nobody.
    """

    __slots__ = (
        "_held",
        "app",
        "app_state",
        "asgi_version",
        "believe",
        "call",
        "clock",
        "connections",
        "default_fields",
        "describe",
        "hand_over",
        "hooks",
        "is_ending",
        "is_limited",
        "is_timed",
        "keep_alive",
        "limits",
        "loop",
        "make_parser",
        "max_head",
        "on_begin",
        "on_end",
        "on_start",
        "raw_root_path",
        "root_path",
        "settings",
        "state",
        "tasks",
    )

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
        self.default_fields = b""
        self._held: list[Exchange] = []
        self.call = Tasks(loop, self.tasks, reset_variables=settings.reset_contextvars).call
        times = (limits.head_seconds, limits.body_seconds, limits.send_seconds, settings.keep_alive)
        self.clock.watch(self.connections, (*times, *_ping_times(settings)))
        self.keep_alive = settings.keep_alive + self.clock.interval

    def set_default_fields(self, fields: Iterable[tuple[bytes, bytes]]) -> None:
        """Set the fields that every response has; they are not checked."""
        self.default_fields = encode_fields(fields)

    @property
    def is_over_limit(self) -> bool:
        """Whether a further request is to be answered with 503."""
        limit = self.settings.limit_concurrency
        return limit is not None and (len(self.connections) >= limit or len(self.tasks) >= limit)

    def hold(self, exchange: Exchange) -> None:
        """Have the head that an exchange holds back sent when this turn of the event loop is over."""
        if not self._held:
            self.loop.call_soon(self._release)
        self._held.append(exchange)

    def _release(self) -> None:
        held, self._held = self._held, []
        for exchange in held:
            if exchange.held is not None:
                exchange.flush()

    def tell_refused(self, connection: Any, status: int, reason: str) -> None:
        """Tell the observers what the engine refuses; status 0 for a connection that is closed."""
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


def _ping_times(settings: Settings) -> tuple[float | None, ...]:
    websocket = settings.websocket
    return () if websocket is None else (websocket.ping_interval, websocket.ping_timeout)
