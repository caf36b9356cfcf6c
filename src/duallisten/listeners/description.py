"""The lines that say what is served where: one per listener, with its side, URL and process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Literal

from duallisten.config import Config
from duallisten.listeners.plan import Plan
from duallisten.listeners.sockets import BoundSocket
from duallisten.net import Address, TCPAddress, join
from duallisten.sides import Side

logger = logging.getLogger("uvicorn.error")


def log_listeners(config: Config, plan: Plan, bound: Iterable[BoundSocket], process: Callable[[Side], str]) -> None:
    """Log one line per listener, and one in uvicorn's words, for tools that wait for it.

    bound: its sockets, for the ports that the kernel chose
    process: says which processes serve a side
    """
    for note in plan.notes:
        logger.info(note)
    for warning in config.warnings:
        logger.warning(warning)
    found = places(config, plan, bound)
    for side, place in found:
        admitted = f", admits {join(plan.admission.allowed)}" if side == "private" else ""
        logger.info("Serving the %s side on %s (%s%s; press CTRL+C to quit)", side, place, process(side), admitted)
    if public := [place for side, place in found if side == "public"]:
        logger.info("Uvicorn running on %s (Press CTRL+C to quit)", public[0])


def names_of(plan: Plan | None, bound: Iterable[BoundSocket]) -> dict[Side, tuple[str, int]]:
    """Return where each side is bound: (address, port in host order), or (path, 0)."""
    found: dict[Side, tuple[str, int]] = {}
    for one in bound:
        found.setdefault(one.side, one.name)
    if plan is not None and plan.shared and "public" in found:  # one socket serves both
        found["private"] = (str(plan.admission.private_address), found["public"][1])
    return found


def places(config: Config, plan: Plan, bound: Iterable[BoundSocket]) -> list[tuple[Side, str]]:
    """Return where each side is served: a URL, or the path of a UNIX domain socket; the private side's first.

    bound: the plan's sockets, as far as they are this process's; of other workers' the plan is all there is
    """
    found: list[tuple[Side, str]] = [(one.side, url(config, one)) for one in bound]
    if plan.shared and plan.private is not None:
        found = [("private", _url(config, "private", str(plan.private))), *found]
    if plan.elsewhere is not None:
        side = plan.elsewhere.side
        found += [(side, _planned(config, side, one)) for one in plan.elsewhere.addresses]
    return found


def _planned(config: Config, side: Side, address: Address) -> str:
    if not isinstance(address, TCPAddress):
        return str(address)
    if address.port == 0:
        return f"a free port of {address.host}"
    return _url(config, side, str(address))


def url(config: Config, one: BoundSocket) -> str:
    """Return the URL of a bound socket's listener, or the path of a UNIX domain socket."""
    host, port = one.name
    if one.socket.family.name == "AF_UNIX":
        return f"unix socket {host}"
    return _url(config, one.side, str(TCPAddress(host, port)))


def _url(config: Config, side: Side, place: str) -> str:
    return f"{scheme(config, side)}://{place}"


def scheme(config: Config, side: Side) -> Literal["http", "https"]:
    """Whether a side speaks TLS."""
    if side == "public" and config.loaded:  # a program may have set it since
        return "https" if config.ssl is not None else "http"
    return "https" if config.side(side).has_tls else "http"
