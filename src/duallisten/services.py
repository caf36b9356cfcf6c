"""What answers each verdict in a process: one configuration, one state and one set of limits for each side."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterable, Mapping
from email.utils import formatdate
from typing import TYPE_CHECKING, NamedTuple

import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.server import ServerState

from duallisten.acceptor import Judge, Service
from duallisten.accesslog import AccessLog
from duallisten.admission import Side, Verdict
from duallisten.config import Config
from duallisten.corking import Corks
from duallisten.drain import CLOSE_HEADER
from duallisten.lifespans import Lifespans
from duallisten.limits import Limits
from duallisten.listener_config import listener_config
from duallisten.listening import Room
from duallisten.plan import Plan
from duallisten.recorder import Recorder
from duallisten.recording import is_recorded
from duallisten.scoreboard import Scoreboard
from duallisten.serving import Placed
from duallisten.stalls import HeadWatch

if TYPE_CHECKING:
    from duallisten.pages import Pages


class Process(NamedTuple):
    """What the services of a process share.

    state: the public side's, or that of the only side
    board: the scoreboard, and this process's row on it; None where nothing is observed
    server: what serves, for the status page
    """

    state: ServerState
    lifespans: Lifespans
    access_log: AccessLog
    board: Scoreboard | None = None
    row: int = 0
    server: Placed | None = None


def make_services(config: Config, plan: Plan, process: Process) -> dict[Verdict, Service]:
    """Give each side its configuration and state; the public side of the side door shares the public state.

    config: loaded already
    """
    corks = Corks(asyncio.get_running_loop())
    pages = make_pages(config, process)
    services: dict[Verdict, Service] = {}

    def add(verdict: Verdict, side: Side, its: ServerState) -> None:
        recorder = make_recorder(config, side, process)
        its_pages = pages if side == "private" else None
        side_door = verdict is Verdict.SIDE_DOOR
        one = listener_config(config, side, side_door=side_door, recorder=recorder, pages=its_pages)
        if recorder is not None and recorder.naming is not None:
            recorder.trusts = _trusting(one, side)
            if recorder.is_told:
                _log_as_json(recorder, one, side, process.access_log)
        asked = limits(config, side)
        room = next((other.room for other in services.values() if other.state is its), None)
        if room is None and asked.connections is not None:
            room = Room(asked.connections)
            its.connections = room.connections
        state, log = process.lifespans.state(side), process.access_log
        services[verdict] = Service(side, one, its, state, log, corks, asked, room, recorder, its_pages)

    if plan.public is not None:
        add(Verdict.PUBLIC, "public", process.state)
        if plan.admission.side_door == "serve":
            add(Verdict.SIDE_DOOR, "public", process.state)
    if plan.private is not None or plan.later:
        add(Verdict.PRIVATE, "private", process.state if plan.public is None else ServerState())
    return services


def make_recorder(config: Config, side: Side, process: Process) -> Recorder | None:
    """Make what records the requests of a side; None where there is no need to."""
    cells = process.board.row(process.row).side(side) if process.board is not None else None
    if config.request_id_header is not None:
        from duallisten.requestids import naming

        is_told = config.options.log_format == "json"
        return Recorder(cells, naming=naming(config.request_id_header), is_told=is_told)
    return Recorder(cells) if cells is not None else None


def make_pages(config: Config, process: Process) -> Pages | None:
    """Make duallisten's own pages; None where there are none."""
    if process.board is None or process.server is None:
        return None
    from duallisten.page_set import page_set

    return page_set(config, process.board, process.server)


def _trusting(config: uvicorn.Config, side: Side) -> Callable[[str | None], bool]:
    """Make what tells whose ids are kept: those of neighbours, and of whoever's forwarded headers are believed.

    config: the listener's own, loaded
    """
    if side == "private":  # whoever gets in is a neighbour, and an id grants nothing
        return lambda host: True
    app = config.loaded_app
    if isinstance(app, ProxyHeadersMiddleware):
        return lambda host: host in app.trusted_hosts
    return lambda host: False


def _log_as_json(recorder: Recorder, config: uvicorn.Config, side: Side, log: AccessLog) -> None:
    """Have the access lines of a side written as JSON, where there are to be any, in place of uvicorn's.

    config: the listener's own, loaded
    """
    from duallisten.jsonaccess import connecting, finishing

    recorder.connected = connecting(log.lines, side, config.root_path)
    if config.access_log and is_recorded(config.http_protocol_class):
        recorder.finished = finishing(log.lines, side, config.root_path)
        config.access_log = False


def trace(services: Mapping[Verdict, Service]) -> None:
    """Have the spans of requests carry their side, where OpenTelemetry's SDK is; the applications have started."""
    if "opentelemetry.sdk.trace" in sys.modules:
        from duallisten.opentelemetry.sides import write_sides

        write_sides(services.values())


def judge_of(side: Side, plan: Plan, latest: Callable[[], Plan]) -> Judge:
    """Give the rule by which a socket of `side` judges its connections.

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


def give_headers(services: Iterable[Service], *, ending: bool) -> None:
    """Give each side's answers the date, and when all ends `Connection: close`."""
    date = (b"date", formatdate(usegmt=True).encode())
    for service in services:
        dated = [date] if service.config.date_header else []
        closing = [CLOSE_HEADER] if ending else []
        service.state.default_headers = dated + service.config.encoded_headers + closing


def limits(config: Config, side: Side) -> Limits:
    """Tell what the peers of a side may take up."""
    return Limits(
        head_seconds=config.value("timeout_request_header", side) or None,
        head_bytes=config.value("max_head_size", side) or None,
        connections=config.value("limit_connections", side) or None,
    )


def head_watches(services: Mapping[Verdict, Service]) -> Iterable[HeadWatch]:
    """Make what ends the connections whose heads do not end, for each state that has such a limit."""
    states = {id(service.state): service for service in services.values()}
    for service in states.values():
        if service.limits.head_seconds is not None:
            yield HeadWatch(service.state, service.limits.head_seconds)
