"""The entry of a launch in a registry (`--register`): one, however many processes it has.

The entry is made when every listener accepts, of the sockets that were really bound: so no client is sent to a port
that is not open. At the end of the launch it says `draining` before anything else happens, so that clients go to
others, and it is removed when the last connection has ended. A `registry.Registrar` writes it, in its own thread.

A server calls `hear` with its phases, a supervisor calls `begin`, `drain` and `end`, the control socket `hold`.

Invariants:
    - A registry never stops a launch, and never holds up its end for longer than `PATIENCE`.
    - The URL, which may have a password in it, is never shown.
"""

from __future__ import annotations

import logging
import os
import socket
from asyncio import to_thread
from collections.abc import Awaitable, Iterable, Sequence
from typing import TYPE_CHECKING

from duallisten.errors import UsageError
from duallisten.listeners import served_listeners
from duallisten.logs import utc_timestamp, wall_clock
from duallisten.net import LOOPBACK, Host, covers, read_address, read_host
from duallisten.observability import Phase

if TYPE_CHECKING:
    from duallisten.config import Config
    from duallisten.listeners import BoundSocket, ListenerSet, Plan
    from duallisten.registry import Instance, Registrar

logger = logging.getLogger("uvicorn.error")

PATIENCE = 2.0
"""Seconds that the end of a launch waits for each write to the registry."""


def registration_of(config: Config, listeners: ListenerSet | None = None) -> Registration | None:
    """Return the registration that is asked for, if any.

    listeners: those of the server whose phases it will hear, if it does

    Raises:
        UsageError: It has no name, no URL or one that cannot be read.
        LaunchError: The library for that registry is missing.
    """
    if config.options.register is None:
        return None
    from duallisten.registry.backend import check_url, has_password, read_url

    try:
        url = read_url(config.options.register)
    except UsageError as error:
        raise UsageError(f"--register: {error}") from None
    check_url(url)
    service = service_of(config)
    if has_password(url) and config.origins.get("register") == "--register" and "://" in config.options.register:
        logger.warning(
            "--register: the URL's password is visible in the process list; put the URL into an "
            "environment variable and give the variable's name: --register REGISTRY_URL"
        )
    return Registration(config, service, url, listeners)


def service_of(config: Config) -> str:
    """Return the name that others find this service by; raises UsageError where there is none."""
    from duallisten.registry.entry import is_service

    asked, place = config.options.service, config.place
    name = asked or "-".join(part for part in (place.application, place.process_type) if part)
    if not name:
        raise UsageError("--register needs the name of this service: give --service NAME")
    if not is_service(name):
        raise UsageError(
            f"--service {name}: must be at most 100 letters, digits, '.', '_' and '-', and begin and end with a "
            "letter or digit"
        )
    return name


class Registration:
    """The entry of one launch.

    service: the name that it is found by
    url: the registry's, no longer the name of a variable
    listeners: those of the server whose phases it hears
    """

    def __init__(self, config: Config, service: str, url: str, listeners: ListenerSet | None = None) -> None:
        self._config = config
        self._listeners = listeners
        self._url = url
        self.service = service
        self._registrar: Registrar | None = None
        self._has_begun = self._is_held = False

    def hear(self, phase: Phase) -> Awaitable[None] | None:
        """Register, drain and leave as a server enters its phases."""
        listeners = self._listeners
        if phase is Phase.READY and listeners is not None and listeners.plan is not None:
            self.begin(listeners.plan, listeners.bound or ())
        elif phase is Phase.DRAINING and self._registrar is not None:
            logger.info("Draining: marking this service as draining in the registry")
            return to_thread(self.drain)
        elif phase is Phase.STOPPED:
            return to_thread(self.end)
        return None

    def begin(self, plan: Plan, bound: Iterable[BoundSocket]) -> None:
        """Register, now that all of it accepts; returns at once, and does nothing the second time."""
        if self._has_begun:
            return
        self._has_begun = True
        from duallisten.registry import PRIVATE_NETWORKS, Registrar
        from duallisten.registry.finding import is_followed

        instance = self._instance(plan, bound)
        try:
            self._registrar = Registrar(self._url, instance)
        except UsageError as error:
            logger.warning("Not registered: %s; serving continues", error)
            return
        if instance.private_port is not None and not is_followed(instance.address, PRIVATE_NETWORKS):
            logger.warning(
                "Registering the address %s, which is not private: clients use it only if their `networks=` covers it",
                instance.address,
            )
        self._registrar.ready()
        if self._is_held:
            self._registrar.draining(0)

    def hold(self, is_held: bool) -> None:
        """Have clients go elsewhere while everything goes on, or come back; returns at once."""
        self._is_held = is_held
        if self._registrar is not None and is_held:
            self._registrar.draining(0)
        elif self._registrar is not None:
            self._registrar.ready()

    def drain(self) -> None:
        """Change the entry to `draining`, and wait at most `PATIENCE` for that."""
        if self._registrar is not None:
            self._registrar.draining(PATIENCE)

    def end(self) -> None:
        """Remove the entry, and wait at most `PATIENCE` for that."""
        if self._registrar is not None:
            self._registrar.remove(PATIENCE)

    def _instance(self, plan: Plan, bound: Iterable[BoundSocket]) -> Instance:
        from duallisten.registry import Instance

        place = self._config.place
        container = place.container or socket.gethostname()
        served = {one.side: one for one in served_listeners(self._config, plan, bound) if one.bound}
        name = {side: reached_first(one.bound) for side, one in served.items()}
        port = {side: port or None for side, (_, port) in name.items()}  # a UNIX domain socket has none
        private = served.get("private")
        return Instance(
            service=self.service,
            id=f"{container}-{os.urandom(4).hex()}",
            address=name["private"][0] if private else reachable(name["public"][0], read_host()),
            private_port=port.get("private"),
            public_port=port.get("public"),
            scheme=(private or served["public"]).scheme,
            host=place.private_hostname or "",
            container=container,
            version=place.version or "",
            started_at=utc_timestamp(wall_clock()),
        )


def reached_first(bound: Sequence[tuple[str, int]]) -> tuple[str, int]:
    """Return the first name of a listener's that others can reach, and on loopback alone the first."""
    names = ((read_address(host), (host, port)) for host, port in bound)
    return next((name for address, name in names if address is None or not address.is_loopback), bound[0])


def reachable(bound: str, host: Host) -> str:
    """Return the address by which a public listener is reached: the host's first, where it is bound to all of them."""
    address = read_address(bound)
    if address is not None and not address.is_unspecified:
        return str(address)
    others = [one for one in host.addresses if not covers(LOOPBACK, one) and not one.is_link_local]
    return str(next(iter(others), "127.0.0.1"))
