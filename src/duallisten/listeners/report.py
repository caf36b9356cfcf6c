"""The plan as a person reads it (a table) and as a machine does (JSON): the answer of `--check`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from duallisten.config import NOT_SHOWN, Config, all_options, is_secret
from duallisten.endpoints.routes import describe_public
from duallisten.listeners.description import ServedListener, served_listeners
from duallisten.listeners.forwarded import trust_of
from duallisten.listeners.plan import Plan, Pool, make_pools
from duallisten.net import InheritedSocket
from duallisten.sides import Side


@dataclass(frozen=True, slots=True)
class ListenerReport:
    """One listener as `--check` shows it; every value is text."""

    side: Side
    address: str
    peers_admitted: str
    proxies_trusted: str
    tls: str
    endpoint_set: str
    workers: str
    origin: str


@dataclass(frozen=True, slots=True)
class ValueReport:
    """An option that is not at its default, and where its value came from."""

    option: str
    value: Any
    origin: str


@dataclass(frozen=True, slots=True)
class Report:
    """What a launch would do."""

    application: str
    platform: str
    process_type: str | None
    workers: int
    listeners: tuple[ListenerReport, ...]
    values: tuple[ValueReport, ...]
    notes: tuple[str, ...]


def make_report(config: Config, plan: Plan) -> Report:
    """Describe `plan` and the values that it was made from; raises LaunchError where no workers can serve it."""
    pools = make_pools(plan, config.workers, config.options.private_workers)
    return Report(
        application=config.app_name,
        platform=config.place.platform.name,
        process_type=config.place.process_type,
        workers=sum(pool.size for pool in pools),
        listeners=tuple(_listener(config, one, pools) for one in served_listeners(config, plan)),
        values=tuple(
            ValueReport(name, _value(config, name), origin) for name, origin in sorted(config.origins.items())
        ),
        notes=(*plan.notes, *config.warnings, *filter(None, [config.unused_rules])),
    )


def _listener(config: Config, served: ServedListener, pools: tuple[Pool, ...]) -> ListenerReport:
    side = served.side
    names = ("host", "port", "uds", "fd")
    if side == "private":
        names = ("private_host", "private_port", "private_network", "platform")
    origins = [f"{name.replace('_', '-')}: {config.origins[name]}" for name in names if name in config.origins]
    if any(isinstance(one, InheritedSocket) and one.address is not None for one in served.planned.addresses):
        origins = ["LISTEN_FDS"]
    size = next(pool.size for pool in pools if side in pool.sides)
    return ListenerReport(
        side=side,
        address=str(served.planned),
        peers_admitted=served.admits,
        proxies_trusted=str(trust_of(config, side)),
        tls="yes" if served.scheme == "https" else "no",
        endpoint_set=_endpoint_set(config, side),
        workers=f"{size} of its own" if len(pools) > 1 else str(size),
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
    """Return the report as JSON, its keys those of the dataclasses."""
    return json.dumps(asdict(report), indent=2)


def print_table(report: Report) -> None:
    """Print the report as tables on standard output."""
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    console = Console(soft_wrap=False)
    kind = f", process type {report.process_type}" if report.process_type else ""
    console.print(
        f"{escape(report.application)} with {report.workers} worker(s); platform: {report.platform}{kind}",
        highlight=False,
    )
    listeners = Table("", *(listener.side for listener in report.listeners), show_lines=False)
    for row in fields(ListenerReport)[1:]:  # all but the side
        cells = (escape(getattr(listener, row.name)) for listener in report.listeners)
        listeners.add_row(row.name.replace("_", " "), *cells)
    console.print(listeners)
    if report.values:
        flags = {option.name: option.flag for option in all_options()}
        values = Table("option", "value", "from")
        for value in report.values:
            values.add_row(flags.get(value.option, value.option), escape(str(value.value)), escape(value.origin))
        console.print(values)
    for note in report.notes:
        console.print(escape(note), highlight=False)
