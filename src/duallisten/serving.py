"""The lines that say what is served where: one per listener, with its side, URL and process."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Literal

from duallisten.addresses import TCPAddress
from duallisten.admission import Side
from duallisten.config import Config
from duallisten.network import join
from duallisten.plan import Plan
from duallisten.sockets import BoundSocket

logger = logging.getLogger("uvicorn.error")


def log_listeners(config: Config, plan: Plan, bound: Iterable[BoundSocket], process: Callable[[Side], str]) -> None:
    """Log one line per listener.

    bound: its sockets, for the ports that the kernel chose
    process: says which processes serve a side
    """
    for note in plan.notes:
        logger.info(note)
    places: list[tuple[Side, str]] = [(one.side, url(config, one)) for one in bound]
    if plan.shared and plan.private is not None:
        places = [("private", _url(config, "private", str(plan.private))), *places]
    for side, place in places:
        admitted = f", admits {join(plan.admission.allowed)}" if side == "private" else ""
        logger.info("Serving the %s side on %s (%s%s; press CTRL+C to quit)", side, place, process(side), admitted)


def names_of(plan: Plan | None, bound: Iterable[BoundSocket]) -> dict[Side, tuple[str, int]]:
    """Tell where each side is bound: (address, port in host order), or (path, 0)."""
    found: dict[Side, tuple[str, int]] = {}
    for one in bound:
        found.setdefault(one.side, one.name)
    if plan is not None and plan.shared and "public" in found:  # one socket serves both
        found["private"] = (str(plan.admission.private_address), found["public"][1])
    return found


def url(config: Config, one: BoundSocket) -> str:
    """Give the URL of a bound socket's listener, or the path of a UNIX domain socket."""
    host, port = one.name
    if one.socket.family.name == "AF_UNIX":
        return f"unix socket {host}"
    return _url(config, one.side, str(TCPAddress(host, port)))


def _url(config: Config, side: Side, place: str) -> str:
    return f"{scheme(config, side)}://{place}"


def scheme(config: Config, side: Side) -> Literal["http", "https"]:
    """Tell whether a side speaks TLS."""
    secure = any(config.value(name, side) for name in ("ssl_keyfile", "ssl_certfile", "ssl_context_factory"))
    return "https" if secure else "http"
