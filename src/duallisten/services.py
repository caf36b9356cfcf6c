"""What answers each verdict in a process: one configuration, one state and one set of limits for each side."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

import uvicorn
from uvicorn.server import ServerState

from duallisten.acceptor import Service
from duallisten.accesslog import AccessLog
from duallisten.admission import Side, Verdict
from duallisten.config import Config
from duallisten.corking import Corks
from duallisten.lifespans import Lifespans
from duallisten.limits import Limits
from duallisten.listener_config import listener_config
from duallisten.listening import Room
from duallisten.plan import Plan
from duallisten.stalls import HeadWatch


def make_services(
    config: Config, plan: Plan, state: ServerState, lifespans: Lifespans, access_log: AccessLog
) -> dict[Verdict, Service]:
    """Give each side its configuration and state; the public side of the side door shares the public state.

    config: loaded already
    state: the public side's, or that of the only side
    """
    corks = Corks(asyncio.get_running_loop())
    services: dict[Verdict, Service] = {}

    def add(verdict: Verdict, side: Side, one: uvicorn.Config, its: ServerState) -> None:
        asked = limits(config, side)
        room = next((other.room for other in services.values() if other.state is its), None)
        if room is None and asked.connections is not None:
            room = Room(asked.connections)
            its.connections = room.connections
        services[verdict] = Service(side, one, its, lifespans.state(side), access_log, corks, asked, room)

    if plan.public is not None:
        add(Verdict.PUBLIC, "public", listener_config(config, "public"), state)
        if plan.admission.side_door == "serve":
            add(Verdict.SIDE_DOOR, "public", listener_config(config, "public", side_door=True), state)
    if plan.private is not None or plan.later:
        own = state if plan.public is None else ServerState()
        add(Verdict.PRIVATE, "private", listener_config(config, "private"), own)
    return services


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
