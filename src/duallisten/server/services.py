"""What answers each verdict in a process: one configuration, one state and one engine context for each side."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import uvicorn

from duallisten.config import Config
from duallisten.config.uvicorn_contract import ServerState
from duallisten.http import Clock, Connection, Context, Exchange, Observer, hooks_of
from duallisten.listeners import (
    AdmissionPolicy,
    ConnectionLimit,
    ListenerService,
    ListenerSet,
    PeerLimit,
    Plan,
    Verdict,
    believing,
    engine_settings,
    listener_config,
    place_endpoints,
    trust_of,
)
from duallisten.observability import AccessLines, Cell, RequestCounter, Scoreboard, TextAccessLog, TextHandshakeLog
from duallisten.server.drain import CLOSE_HEADER
from duallisten.server.lifespan import Lifespans
from duallisten.sides import Side

if TYPE_CHECKING:
    from duallisten.admin.pages import Pages


class Process(NamedTuple):
    """What the services of a process share.

    Attributes:
        state: The public side's, or that of the only side.
        lines: The access lines of the process.
        clock: Where the time-outs of connections come from.
        board: The scoreboard, and this process's row on it; None where nothing is observed.
        listeners: What serves, for the status page.
    """

    state: ServerState
    lifespans: Lifespans
    lines: AccessLines
    clock: Clock
    board: Scoreboard | None = None
    row: int = 0
    listeners: ListenerSet | None = None


class OwnPages(Observer):
    """Marks the requests for duallisten's own pages, of which no line and no metric tells.

    Args:
        paths: The raw paths of the pages.
    """

    def __init__(self, paths: frozenset[bytes]) -> None:
        self._paths = paths

    def exchange_began(self, exchange: Exchange) -> None:
        """Mark a request."""
        exchange.is_own = exchange.scope["raw_path"] in self._paths and exchange.scope["type"] == "http"


class ConnectionLimits(Observer):
    """Tells the limits on connections of a listener when one has ended."""

    def __init__(self, room: ConnectionLimit | None, peers: PeerLimit | None) -> None:
        self._room = room
        self._peers = peers

    def connection_lost(self, connection: Connection) -> None:
        """Make room for another."""
        if self._peers is not None:
            self._peers.remove(connection.client[0] if connection.client else None)
        if self._room is not None:
            self._room.tell()


class Shared(NamedTuple):
    """What the services of one state share: both that the public side has.

    Attributes:
        recorder: What counts their requests; None where nothing does.
        room: For how many connections there is room; None where there is no limit.
        peers: How many of them one peer may have; None where there is no limit.
    """

    recorder: RequestCounter | None
    room: ConnectionLimit | None
    peers: PeerLimit | None


def make_services(config: Config, plan: Plan, process: Process) -> dict[Verdict, ListenerService]:
    """Give each side its configuration, state and context; the side door's public side shares the public state.

    Args:
        config: It must be loaded.
        plan: What is served.
        process: What the services share.
    """
    services: dict[Verdict, ListenerService] = {}
    if plan.public is not None:
        shared = _share(config, "public", process.state, process)
        services[Verdict.PUBLIC] = _make_service(config, Verdict.PUBLIC, process.state, process, shared)
        if plan.admission.side_door == "serve":
            services[Verdict.SIDE_DOOR] = _make_service(config, Verdict.SIDE_DOOR, process.state, process, shared)
    if plan.private is not None or plan.later:
        state = process.state if plan.public is None else ServerState()
        shared = _share(config, "private", state, process)
        services[Verdict.PRIVATE] = _make_service(config, Verdict.PRIVATE, state, process, shared)
    return services


def _share(config: Config, side: Side, state: ServerState, process: Process) -> Shared:
    recorder = RequestCounter(process.board.row(process.row).side(side)) if process.board is not None else None
    if not config.is_engine:  # nobody tells when a connection ends
        return Shared(recorder, None, None)
    asked = config.side(side)
    most, per_peer = asked.limit_connections, asked.limit_connections_per_peer
    return Shared(
        recorder,
        ConnectionLimit(most, lambda: len(state.connections)) if most else None,
        PeerLimit(per_peer) if per_peer else None,
    )


def _make_service(
    config: Config, verdict: Verdict, state: ServerState, process: Process, shared: Shared
) -> ListenerService:
    """Build what answers connections of one verdict."""
    side: Side = "private" if verdict is Verdict.PRIVATE else "public"
    is_believed = verdict is not Verdict.SIDE_DOOR and config.side(side).proxy_headers
    made = listener_config(config, side, proxy_headers=is_believed)
    pages = make_pages(config, process) if side == "private" else None
    recorder, room, peers = shared
    note_hidden = partial(recorder.add, Cell.HIDDEN) if recorder is not None else None
    place_endpoints(made, config, side, note_hidden=note_hidden, pages=pages)
    if side == "private" and config.options.private_hostnames:
        from duallisten.admin.hostnames import hostnames_of

        made.loaded_app = hostnames_of(config).in_front_of(made.loaded_app)
    observers = [*([OwnPages(pages.paths)] if pages is not None else ()), *_observers(config, side, made, process)]
    if recorder is not None:
        observers.append(recorder)
    if room is not None or peers is not None:
        observers.append(ConnectionLimits(room, peers))
    context = Context(
        asyncio.get_running_loop(),
        engine_settings(config, side, made),
        made.loaded_app,
        state,
        clock=process.clock,
        app_state=process.lifespans.state(side),
        hooks=hooks_of(observers),
        believe=believing(trust_of(config, side)) if is_believed else None,
        describe=_describe(config, side, made),
    )
    if made.ws_protocol_class is not None:
        context.hand_over = partial(_hand_over, made, state, context.app_state)
    return ListenerService(side, made, state, context, config.is_engine, room, peers, recorder, pages)


def _observers(config: Config, side: Side, made: uvicorn.Config, process: Process) -> Iterable[Observer]:
    """Build what hears of the requests of a side: ids first, for the lines tell them."""
    if config.request_id_header is not None:
        from duallisten.observability.request_ids import RequestIds

        # Whoever gets in on the private side is a neighbour, and an id grants nothing.
        is_private = side == "private"
        yield RequestIds(config.request_id_header, lambda connection: is_private or connection.is_trusted)
    if config.options.log_format == "json":
        from duallisten.observability.access_log_json import JSONAccessLog

        if made.access_log:
            yield JSONAccessLog(process.lines, side, made.root_path)
        return
    if made.access_log:
        yield TextAccessLog(process.lines, side)
    yield TextHandshakeLog(side)


def access_lines(config: Config) -> AccessLines:
    """Build the access lines of a process."""
    if config.options.log_format != "json":
        return AccessLines()
    from duallisten.observability.access_log_json import is_plain_json

    return AccessLines(is_plain_json)


def _describe(config: Config, side: Side, made: uvicorn.Config) -> Callable[..., dict[str, object]] | None:
    """Build what tells in log records of a connection and a request; None where lines are text."""
    if config.options.log_format != "json":
        return None
    from duallisten.observability.access_log_json import Describer

    return Describer(side, made.root_path)


def _hand_over(
    config: uvicorn.Config, state: ServerState, app_state: dict[str, object], transport: asyncio.Transport, head: bytes
) -> asyncio.Protocol:
    """Give a connection to a WebSocket protocol class that the user brings, as uvicorn's HTTP protocols do."""
    make: Callable[..., asyncio.Protocol] = config.ws_protocol_class  # type: ignore[assignment]
    protocol = make(config=config, server_state=state, app_state=app_state)
    protocol.connection_made(transport)
    protocol.data_received(head)
    transport.set_protocol(protocol)
    return protocol


def make_pages(config: Config, process: Process) -> Pages | None:
    """Build duallisten's own pages; None where there are none."""
    if process.board is None or process.listeners is None:
        return None
    from duallisten.admin.routes import page_set

    return page_set(config, process.board, process.listeners)


def trace(services: Mapping[Verdict, ListenerService]) -> None:
    """Have the spans of requests carry their side, where OpenTelemetry's SDK is; the applications have started."""
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
    if plan.later:  # what it knows of private addresses is yet to come
        return lambda local, peer: latest().admission.public(local, peer)  # noqa: PLW0108
    return admission.public


def give_headers(services: Iterable[ListenerService], *, ending: bool) -> None:
    """Give each side's answers the date, and when all ends `Connection: close`."""
    date = (b"date", formatdate(usegmt=True).encode())
    for service in services:
        dated = [date] if service.config.date_header else []
        fields = dated + service.config.encoded_headers
        service.context.set_default_fields(fields)
        service.context.is_ending = ending
        service.state.default_headers = fields + ([CLOSE_HEADER] if ending else [])
