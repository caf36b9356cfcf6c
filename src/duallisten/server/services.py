"""What answers each verdict in a process: one configuration, one state and one engine context for each side."""

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

    counter, slow: what counts its requests, and what logs slow ones; None where nobody asks for it
    """

    state: ServerState
    counter: RequestCounter | None
    limit: ConnectionLimit
    slow: SlowRequests | None


class OwnPages(Observer):
    """Marks the requests for duallisten's own pages, which have no access line and are not counted.

    Args:
        paths: The raw paths of the pages.
    """

    def __init__(self, paths: frozenset[bytes]) -> None:
        self._paths = paths

    def exchange_began(self, exchange: Exchange) -> None:
        """Mark a request."""
        exchange.is_own = exchange.scope["raw_path"] in self._paths and exchange.scope["type"] == "http"


class FreedConnections(Observer):
    """Tells the limit on the connections of a side when one has ended."""

    def __init__(self, limit: ConnectionLimit) -> None:
        self._limit = limit

    def connection_lost(self, connection: Connection) -> None:
        """Make room for another."""
        self._limit.leave(connection.client[0] if connection.client else None)


def make_services(server: Server, plan: Plan) -> dict[Verdict, ListenerService]:
    """Build what answers each verdict in a server; the side door shares the public side's state, counter and limits.

    Its configuration must be loaded, and its `lifespans`, `lines` and `clock` be there.
    """
    verdicts: dict[Side, list[Verdict]] = {}
    if plan.public is not None:
        verdicts["public"] = [Verdict.PUBLIC, *([Verdict.SIDE_DOOR] if plan.admission.side_door == "serve" else [])]
    if plan.private is not None or plan.later:
        verdicts["private"] = [Verdict.PRIVATE]
    services: dict[Verdict, ListenerService] = {}
    while server.slow_requests:  # of a server that is started again
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
    """Build what logs the slow requests of a side, which the server stops; None where nobody asks for it."""
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
    if not config.is_engine:  # no observer hears when a connection ends
        limits = (None, None)
    return ConnectionLimit(lambda: len(state.connections), *limits)


def _make_service(server: Server, verdict: Verdict, shared: Shared) -> ListenerService:
    """Build what answers connections of one verdict."""
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
    """Build duallisten's own pages of a side, if any are asked for."""
    if server.observation is None or not server.config.has_pages:
        return None
    from duallisten.admin.routes import page_set

    return page_set(server.config, side, server.observation.board, server.listeners)


def _observers(server: Server, side: Side, made: UvicornConfig, json_log: JSONAccessLog | None) -> Iterable[Observer]:
    """Build what hears of the requests of a side: ids first, for the lines tell them."""
    header = server.config.request_id_header
    if header is not None:
        from duallisten.observability.request_ids import RequestIds

        # Whoever gets in on the private side is a neighbour, and an id grants nothing.
        is_private, is_believed = side == "private", keeps_request_ids(server.config)
        yield RequestIds(header, lambda connection: is_private or (is_believed and connection.is_trusted))
    if made.access_log:
        yield json_log or TextAccessLog(server.lines, side)
    if json_log is None:
        yield TextHandshakeLog(side)


def _json_log(server: Server, side: Side, made: UvicornConfig) -> JSONAccessLog | None:
    """Build the access log of a side; None where lines are text."""
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
    """Hand a connection to a WebSocket protocol class that the user brings, as uvicorn's HTTP protocols do."""
    make: Callable[..., asyncio.Protocol] = config.ws_protocol_class  # type: ignore[assignment]
    protocol = make(config=config, server_state=state, app_state=app_state)
    protocol.connection_made(transport)
    protocol.data_received(head)
    transport.set_protocol(protocol)
    return protocol


def trace(services: Mapping[Verdict, ListenerService]) -> None:
    """Add the side to the spans of requests, where OpenTelemetry's SDK is imported; call it when applications run."""
    if "opentelemetry.sdk.trace" in sys.modules:
        from duallisten.observability.spans import make_spans, with_side

        if make_spans():
            for service in services.values():
                service.context.app = service.config.loaded_app = with_side(service.context.app, service.side)


def judge_of(side: Side, plan: Plan, latest: Callable[[], Plan]) -> AdmissionPolicy:
    """Return the rule by which a socket of `side` judges its connections.

    latest: gives the plan as it now is, where `plan` waits for a private listener
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
    """Set the date that answers have, and when all ends `Connection: close`."""
    date = (b"date", formatdate(usegmt=True).encode())
    for service in services:
        fields = [*([date] if service.config.date_header else []), *service.config.encoded_headers]
        service.context.set_default_fields(fields)
        service.context.is_ending = is_ending
        service.state.default_headers = fields + ([(b"connection", b"close")] if is_ending else [])


def import_websockets(config: Config) -> None:
    """Import what WebSockets need, beside the event loop: the first handshake would stop it for 30 ms."""
    if config.has_websockets and "duallisten.http.websocket" not in sys.modules:
        name = "duallisten-imports"
        threading.Thread(target=import_module, args=("duallisten.http.websocket",), name=name, daemon=True).start()


def share_of(plan: Plan, sockets: list[socket.socket] | None = None) -> Share | None:
    """Return what shares the private port with other processes that were given the same public socket."""
    addresses = plan.public.addresses if plan.public is not None else ()
    if not sockets and not any(isinstance(one, InheritedSocket) for one in addresses):
        return None
    from duallisten.listeners.shared_port import sharing

    return sharing(plan, sockets)
