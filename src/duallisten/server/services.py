"""Builds the service of each verdict in a process: one configuration, one state and one engine context per side."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, NamedTuple

from duallisten.config import Config, keeps_request_ids
from duallisten.config.uvicorn_contract import ServerState, UvicornConfig
from duallisten.http import Connection, Context, Exchange, Observer, hooks_of
from duallisten.listeners import (
    AdmissionPolicy,
    ConnectionLimit,
    ListenerService,
    Plan,
    Trust,
    Verdict,
    believing,
    engine_settings,
    listener_config,
    place_endpoints,
    proxies_of,
    trust_of,
)
from duallisten.net import InheritedSocket
from duallisten.observability import AccessLines, Cell, RequestCounter, TextAccessLog, TextHandshakeLog

if TYPE_CHECKING:
    import socket

    from duallisten.admin.pages import Pages
    from duallisten.listeners.sockets import Share
    from duallisten.observability.access_log_json import JSONAccessLog
    from duallisten.observability.slow_requests import SlowRequests
    from duallisten.server.server import Server
    from duallisten.sides import Side


class Shared(NamedTuple):
    """What all verdicts of a side share.

    Attributes:
        state: The side's connections and tasks.
        counter: Counts the requests; None where they are not counted.
        limit: The side's connection limits.
        slow: Logs slow requests; None where that is off.
    """

    state: ServerState
    counter: RequestCounter | None
    limit: ConnectionLimit
    slow: SlowRequests | None


class OwnPages(Observer):
    """Marks requests for duallisten's own pages, which get no access log line and are not counted.

    Args:
        paths: The raw paths of the pages.
    """

    def __init__(self, paths: frozenset[bytes]) -> None:
        self._paths = paths

    def exchange_began(self, exchange: Exchange) -> None:
        """Mark a request for an own page."""
        exchange.is_own = exchange.scope["raw_path"] in self._paths and exchange.scope["type"] == "http"


class FreedConnections(Observer):
    """Tells a side's `ConnectionLimit` when a connection is closed."""

    def __init__(self, limit: ConnectionLimit) -> None:
        self._limit = limit

    def connection_lost(self, connection: Connection) -> None:
        """Stop counting the connection."""
        self._limit.leave(connection.client[0] if connection.client else None)


def make_services(server: Server, plan: Plan) -> dict[Verdict, ListenerService]:
    """Build a server's service of each verdict; the side door shares the public side's state, counter and limits.

    The server's configuration must be loaded, and its `lifespans`, `lines` and `clock` must be set.
    """
    verdicts: dict[Side, list[Verdict]] = {}
    if plan.public is not None:
        verdicts["public"] = [Verdict.PUBLIC, *([Verdict.SIDE_DOOR] if plan.admission.side_door == "serve" else [])]
    if plan.private is not None or plan.later:
        verdicts["private"] = [Verdict.PRIVATE]
    services: dict[Verdict, ListenerService] = {}
    while server.slow_requests:  # left from before, where the server is started again
        server.slow_requests.pop().stop()
    for side, of_side in verdicts.items():
        state = ServerState() if services else server.server_state
        counter = RequestCounter(server.observation.row.side(side)) if server.observation is not None else None
        limit = _connection_limit(server.config, side, state)
        shared = Shared(state, counter, limit, _slow_requests(server, side, state))
        for verdict in of_side:
            services[verdict] = _make_service(server, verdict, shared)
    return services


def _slow_requests(server: Server, side: Side, state: ServerState) -> SlowRequests | None:
    """Build the log of a side's slow requests; None where it is off. The server stops it at its end."""
    seconds = server.config.options.log_slow_requests
    if seconds is None or not server.config.is_engine:
        return None
    from duallisten.observability.slow_requests import SlowRequests

    slow = SlowRequests(seconds, side, state.connections, asyncio.get_running_loop())
    server.slow_requests.append(slow)
    return slow


def _connection_limit(config: Config, side: Side, state: ServerState) -> ConnectionLimit:
    asked = config.side(side)
    limits = (asked.limit_connections, asked.limit_connections_per_peer)
    if not config.is_engine:  # no observer is called when a connection ends
        limits = (None, None)
    return ConnectionLimit(lambda: len(state.connections), *limits)


def _make_service(server: Server, verdict: Verdict, shared: Shared) -> ListenerService:
    """Build the service for connections of one verdict."""
    config, counter = server.config, shared.counter
    side: Side = "private" if verdict is Verdict.PRIVATE else "public"
    asked, is_side_door = config.side(side), verdict is Verdict.SIDE_DOOR
    is_believed = asked.proxy_headers and not is_side_door
    believe = believing(trust_of(config, side), only_listed=asked.proxy_protocol) if is_believed else None
    made = listener_config(config, side)
    pages = _pages(server, side)
    note_hidden = partial(counter.add, Cell.HIDDEN) if counter is not None else None
    place_endpoints(made, config, side, note_hidden=note_hidden, pages=pages, believe=believe)
    if side == "private" and config.options.private_hostnames:
        from duallisten.admin.hostnames import hostnames_of

        made.loaded_app = hostnames_of(config).in_front_of(made.loaded_app)
    json_log = _json_log(server, side, made)
    observers: list[Observer] = [OwnPages(pages.paths)] if pages is not None else []
    observers.extend(_observers(server, side, made, json_log))
    observers.extend(one for one in (counter, shared.slow) if one is not None)
    if shared.limit.is_set:
        observers.append(FreedConnections(shared.limit))
    context = Context(
        asyncio.get_running_loop(),
        engine_settings(config, side, made),
        made.loaded_app,
        shared.state,
        clock=server.clock,
        app_state=server.lifespans.state(side),
        hooks=hooks_of(observers),
        believe=believe,
        describe=json_log.describe if json_log is not None else None,
    )
    if made.ws_protocol_class is not None:
        context.hand_over = partial(_hand_over, made, shared.state, context.app_state)
    service = ListenerService(side, made, shared.state, context, config.is_engine, shared.limit, counter, pages)
    if asked.proxy_protocol:
        from duallisten.listeners.proxy_protocol import speaking

        service.proxies = speaking(Trust() if is_side_door else proxies_of(config, side))
    return service


def _pages(server: Server, side: Side) -> Pages | None:
    """Build duallisten's own pages of a side; None where there are none."""
    if server.observation is None or not server.config.has_pages:
        return None
    from duallisten.admin.routes import page_set

    return page_set(server.config, side, server.observation.board, server.listeners)


def _observers(server: Server, side: Side, made: UvicornConfig, json_log: JSONAccessLog | None) -> Iterable[Observer]:
    """Build the observers of a side's requests; the ids come first, because the log lines contain them."""
    header = server.config.request_id_header
    if header is not None:
        from duallisten.observability.request_ids import RequestIds

        # Every peer on the private side is a neighbour, and an id gives no rights.
        is_private, is_believed = side == "private", keeps_request_ids(server.config)
        yield RequestIds(header, lambda connection: is_private or (is_believed and connection.is_trusted))
    if made.access_log:
        yield json_log or TextAccessLog(server.lines, side)
    if json_log is None:
        yield TextHandshakeLog(side)


def _json_log(server: Server, side: Side, made: UvicornConfig) -> JSONAccessLog | None:
    """Build the JSON access log of a side; None where lines are text."""
    if server.config.options.log_format != "json":
        return None
    from duallisten.observability.access_log_json import JSONAccessLog

    return JSONAccessLog(server.lines, side, made.root_path)


def access_lines(config: Config) -> AccessLines:
    """Build the access lines of a process."""
    if config.options.log_format != "json":
        return AccessLines()
    from duallisten.observability.access_log_json import is_plain_json

    return AccessLines(is_plain_json)


def _hand_over(
    config: UvicornConfig, state: ServerState, app_state: dict[str, object], transport: asyncio.Transport, head: bytes
) -> asyncio.Protocol:
    """Pass a connection to the user's own WebSocket protocol class, as uvicorn's HTTP protocols do."""
    make: Callable[..., asyncio.Protocol] = config.ws_protocol_class  # type: ignore[assignment]
    protocol = make(config=config, server_state=state, app_state=app_state)
    protocol.connection_made(transport)
    protocol.data_received(head)
    transport.set_protocol(protocol)
    return protocol


def trace(services: Mapping[Verdict, ListenerService]) -> None:
    """Add the side to request spans where OpenTelemetry's SDK is imported; call it after the applications started."""
    if "opentelemetry.sdk.trace" in sys.modules:
        from duallisten.observability.spans import make_spans, with_side

        if make_spans():
            for service in services.values():
                service.context.app = service.config.loaded_app = with_side(service.context.app, service.side)


def judge_of(side: Side, plan: Plan, latest: Callable[[], Plan]) -> AdmissionPolicy:
    """Return the admission policy for the connections of a socket.

    Args:
        side: The side of the socket's listener.
        plan: The plan when the socket is opened.
        latest: Returns the current plan, where `plan` waits for a private listener.
    """
    admission = plan.admission
    if plan.shared:
        return admission.shared
    if side == "private":
        return lambda local, peer: admission.private(peer)
    if plan.later:  # the private addresses are not known yet
        return lambda local, peer: latest().admission.public(local, peer)  # noqa: PLW0108
    return admission.public


def set_default_fields(services: Iterable[ListenerService], *, is_ending: bool) -> None:
    """Set the default header fields of responses: the date, and `Connection: close` during shutdown."""
    date = (b"date", formatdate(usegmt=True).encode())
    for service in services:
        fields = [*([date] if service.config.date_header else []), *service.config.encoded_headers]
        service.context.set_default_fields(fields)
        service.context.is_ending = is_ending
        service.state.default_headers = fields + ([(b"connection", b"close")] if is_ending else [])


def import_websockets(config: Config) -> None:
    """Import the WebSocket modules in a thread: at the first handshake they would block the event loop for 30 ms."""
    if config.has_websockets and "duallisten.http.websocket" not in sys.modules:
        name = "duallisten-imports"
        threading.Thread(target=import_module, args=("duallisten.http.websocket",), name=name, daemon=True).start()


def share_of(plan: Plan, sockets: list[socket.socket] | None = None) -> Share | None:
    """Return the function that shares the private port with processes that got the same public socket, if any."""
    addresses = plan.public.addresses if plan.public is not None else ()
    if not sockets and not any(isinstance(one, InheritedSocket) for one in addresses):
        return None
    from duallisten.listeners.shared_port import sharing

    return sharing(plan, sockets)
