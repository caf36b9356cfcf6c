"""Describes what is served where.

The log lines, `--check`, the status page, `Server.addresses` and the entry in a registry are made from it.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Literal, NamedTuple

from duallisten.net import TCPAddress, join

if TYPE_CHECKING:
    from duallisten.config import Config
    from duallisten.listeners.plan import Listener, Plan
    from duallisten.listeners.sockets import BoundSocket
    from duallisten.sides import Side

logger = logging.getLogger("uvicorn.error")


class ServedListener(NamedTuple):
    """The listener of one side.

    Attributes:
        planned: The planned listener.
        bound: Its sockets' addresses: (address, port in host order), or (path, 0) for a UNIX domain socket; empty where
            the sockets are not this process's.
        scheme: `https` where it speaks TLS.
        admits: The peers that it admits, in words.
    """

    planned: Listener
    bound: tuple[tuple[str, int], ...]
    scheme: Literal["http", "https"]
    admits: str

    @property
    def side(self) -> Side:
        """The side."""
        return self.planned.side

    @property
    def urls(self) -> tuple[str, ...]:
        """A URL for each address, or the path of a UNIX domain socket, in words."""
        if self.bound:
            return tuple(self._url(TCPAddress(*name)) if name[1] else f"unix socket {name[0]}" for name in self.bound)
        return tuple(self._url(one) if isinstance(one, TCPAddress) else str(one) for one in self.planned.addresses)

    def _url(self, address: TCPAddress) -> str:
        return f"{self.scheme}://{address}" if address.port else f"a free port of {address.host}"


def served_listeners(config: Config, plan: Plan, bound: Iterable[BoundSocket] = ()) -> Iterator[ServedListener]:
    """Describe the listeners of a launch, the private one first.

    Args:
        plan: The plan of the launch, or of one pool of workers.
        bound: The plan's sockets that this process has, for the ports that the kernel chose.
    """
    names: dict[Side, list[tuple[str, int]]] = {"public": [], "private": []}
    for one in bound:
        names[one.side].append(one.name)
    for listener in plan.whole.listeners:
        side = listener.side
        if side == "private":
            admits = join(plan.admission.allowed)
        elif plan.admission.side_door == "refuse" and plan.fence.kind == "address":
            admits = f"all, except on an address in {join(plan.admission.private_networks) or 'the private network'}"
        else:
            admits = "all"
        if side == "private" and plan.shared and names["public"]:  # one socket serves both
            port = names["public"][0][1]
            names["private"] = [(one.host, port) for one in listener.addresses if isinstance(one, TCPAddress)]
        yield ServedListener(listener, tuple(names[side]), _scheme(config, side), admits)


def _scheme(config: Config, side: Side) -> Literal["http", "https"]:
    if side == "public" and config.loaded:  # a program may have set `ssl` since
        return "https" if config.ssl is not None else "http"
    return "https" if config.side(side).has_tls else "http"


def log_listeners(config: Config, plan: Plan, bound: Iterable[BoundSocket], process: Callable[[Side], str]) -> None:
    """Log where each side is served, a line for each address.

    Args:
        bound: The sockets of the listeners to log.
        process: Returns which processes serve a side, in words.
    """
    for note in plan.notes:
        logger.info(note)
    for warning in config.warnings:
        logger.warning(warning)
    for one in served_listeners(config, plan, bound):
        admitted = f", admits {one.admits}; fence: {plan.fence}" if one.side == "private" else ""
        for url in one.urls if one.bound else ():
            logger.info(
                "Serving the %s side on %s (%s%s; press CTRL+C to quit)", one.side, url, process(one.side), admitted
            )
        if one.side == "public" and one.bound:  # in uvicorn's words, for tools that wait for them
            logger.info("Uvicorn running on %s (Press CTRL+C to quit)", one.urls[0])
