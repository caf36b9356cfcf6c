"""The output of `--check`: the plan as a table for people, and as JSON for programs."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, fields
from typing import Any

from duallisten.config import NOT_SHOWN, Config, all_options, is_secret
from duallisten.endpoints.routes import describe_public
from duallisten.errors import LaunchError
from duallisten.listeners.description import ServedListener, served_listeners
from duallisten.listeners.forwarded import Trust, proxies_of, trust_of
from duallisten.listeners.plan import Plan, Pool, make_pools
from duallisten.logs import print_line, print_rows
from duallisten.net import InheritedSocket
from duallisten.sides import Side


@dataclass(frozen=True, slots=True)
class ListenerReport:
    """One listener as `--check` shows it.

    Attributes:
        client_header: The header that names the client; None where no peer is believed.
        proxy_protocol: The peers that must send a PROXY header; None where the protocol is off.
        health: The path of its health endpoint; None where it has none.
        endpoint_set: Its endpoints, in words; None where the application could not be loaded.
        workers: How many workers serve it; None where the plan cannot be served.
    """

    side: Side
    address: str
    peers_admitted: str
    proxies_trusted: str
    client_header: str | None
    proxy_protocol: str | None
    health: str | None
    tls: bool
    http2: bool
    endpoint_set: str | None
    workers: int | None
    origin: str


@dataclass(frozen=True, slots=True)
class ValueReport:
    """An option that is not at its default, and where its value came from."""

    option: str
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a launch would do, as far as that is known.

    Attributes:
        fence: What tells the sides apart, `address` or `port`; None where there is no plan.
        error: Why the launch would fail; None where it would not.
    """

    application: str
    platform: str
    process_type: str | None
    workers: int
    fence: str | None
    fence_reason: str | None
    listeners: tuple[ListenerReport, ...]
    values: tuple[ValueReport, ...]
    notes: tuple[str, ...]
    error: str | None = None


def make_report(config: Config, plan: Plan | None, error: str | None = None) -> Report:
    """Describe a plan and the option values that it was made from.

    Args:
        config: The configuration.
        plan: The plan; None where it could not be made.
        error: Why the launch would fail; None where it would not.
    """
    pools: tuple[Pool, ...] = ()
    if plan is not None:
        with suppress(LaunchError):  # `error` then has its message
            pools = make_pools(plan, config.workers, config.options.private_workers)
    return Report(
        application=config.app_name,
        platform=config.place.platform.name,
        process_type=config.place.process_type,
        workers=sum(pool.size for pool in pools) or config.workers,
        fence=plan.fence.kind if plan is not None else None,
        fence_reason=plan.fence.why if plan is not None else None,
        listeners=tuple(_listener(config, one, pools) for one in served_listeners(config, plan)) if plan else (),
        values=tuple(
            ValueReport(name, _value(config, name), origin) for name, origin in sorted(config.origins.items())
        ),
        notes=(
            *(plan.notes if plan else ()),
            *config.notes,
            *config.warnings,
            *filter(None, [config.unused_rules if config.loaded else ""]),
        ),
        error=error,
    )


def _listener(config: Config, served: ServedListener, pools: tuple[Pool, ...]) -> ListenerReport:
    side = served.side
    names = ("host", "port", "uds", "fd")
    if side == "private":
        names = ("private_host", "private_port", "private_network", "platform")
    origins = [f"{name.replace('_', '-')}: {config.origins[name]}" for name in names if name in config.origins]
    if any(isinstance(one, InheritedSocket) and one.address is not None for one in served.planned.addresses):
        origins = ["LISTEN_FDS"]
    trust = trust_of(config, side)
    return ListenerReport(
        side=side,
        address=str(served.planned),
        peers_admitted=served.admits,
        proxies_trusted=str(trust),
        proxy_protocol=f"from {proxies_of(config, side).peers}" if config.side(side).proxy_protocol else None,
        health=config.options.public_health if side == "public" else config.options.private_health,
        client_header=trust.client_header if trust != Trust() else None,
        tls=served.scheme == "https",
        http2=config.side(side).http2,
        endpoint_set=_endpoint_set(config, side) if config.loaded else None,
        workers=next((pool.size for pool in pools if side in pool.sides), None),
        origin=", ".join(origins) or "default",
    )


def _endpoint_set(config: Config, side: Side) -> str:
    if side == "public":
        return describe_public(config.public_section)
    own = config.source("private")
    return "all" if own is config else f"all of {own.app_name}"


def _value(config: Config, name: str) -> Any:
    if is_secret(name):
        return NOT_SHOWN
    twin = name.removeprefix("private_")
    if hasattr(config.options, name):
        value = getattr(config.options, name)
    else:
        value = getattr(config, name, None) if twin == name else config.private.get(twin)
    if isinstance(value, tuple | list):
        return [":".join(item) if isinstance(item, tuple) else str(item) for item in value]
    return value if isinstance(value, str | int | float | bool | None) else str(value)


def as_json(report: Report) -> str:
    """Return the report as JSON; the keys are the fields of the dataclasses."""
    return json.dumps(asdict(report), indent=2)


def print_table(report: Report) -> None:
    """Print the report as tables on standard output, without its error."""
    kind = f", process type {report.process_type}" if report.process_type else ""
    workers = "1 worker" if report.workers == 1 else f"{report.workers} workers"
    fence = f"; fence: {report.fence} ({report.fence_reason})" if report.fence else ""
    print_line(f"{report.application} with {workers}; platform: {report.platform}{kind}{fence}")
    rows = [
        (field.name.replace("_", " "), *(_cell(getattr(one, field.name)) for one in report.listeners))
        for field in fields(ListenerReport)[1:]  # all but the side
    ]
    if report.listeners:
        known = [row for row in rows if any(row[1:])]
        print_rows(("", *(one.side for one in report.listeners)), known)
    flags = {option.name: option.flag for option in all_options()}
    values = [(flags.get(one.option, one.option), _cell(one.value), one.origin) for one in report.values]
    print_rows(("option", "value", "from"), values)
    for note in report.notes:
        print_line(note)


def _cell(value: Any) -> str:
    """Return a value as text for a table cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
