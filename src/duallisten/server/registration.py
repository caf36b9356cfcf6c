"""The entry of a launch in a registry (`--register`): one entry, however many processes the launch has.

The entry is made from the bound sockets when every listener accepts, so no client is sent to a port that is not open.
Shutdown first sets the entry to `draining`, so that clients choose other instances, and removes it when the last
connection is closed. A `registry.Registrar` writes the entry, in its own thread.

A server calls `hear` with its phases. A supervisor calls `begin`, `drain` and `end`. The control socket calls `hold`.

Invariants:
    - A registry never stops a launch, and never delays its end by more than `PATIENCE` per write.
    - The URL, which may contain a password, is never shown.
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
"""Seconds that a shutdown waits for each write to the registry."""


def registration_of(config: Config, listeners: ListenerSet | None = None) -> Registration | None:
    """Return the registration for `--register`; None without it.

    Args:
        config: The configuration.
        listeners: The server's listeners, where the server calls `hear`; None with a supervisor.

    Raises:
        UsageError: The service has no name, or the URL is missing or invalid.
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
    """Return the service's name in the registry; raises UsageError where there is none."""
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
    """The registry entry of one launch.

    Args:
        config: The configuration.
        service: The service's name in the registry.
        url: The registry's URL, already read where a variable's name was given.
        listeners: The server's listeners, where the server calls `hear`.
    """

    def __init__(self, config: Config, service: str, url: str, listeners: ListenerSet | None = None) -> None:
        self._config = config
        self._listeners = listeners
        self._url = url
        self.service = service
        self._registrar: Registrar | None = None
        self._has_begun = self._is_held = False

    def hear(self, phase: Phase) -> Awaitable[None] | None:
        """Register, drain or remove the entry when the server enters a phase."""
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
        """Register, now that every listener accepts; returns at once, and does nothing the second time."""
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
        """Set the entry to `draining` while the launch serves on, or back to ready; returns at once."""
        self._is_held = is_held
        if self._registrar is not None and is_held:
            self._registrar.draining(0)
        elif self._registrar is not None:
            self._registrar.ready()

    def drain(self) -> None:
        """Set the entry to `draining`, and wait at most `PATIENCE` seconds for the write."""
        if self._registrar is not None:
            self._registrar.draining(PATIENCE)

    def end(self) -> None:
        """Remove the entry, and wait at most `PATIENCE` seconds for the write."""
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
    """Return a listener's first address that is not loopback; else its first."""
    names = ((read_address(host), (host, port)) for host, port in bound)
    return next((name for address, name in names if address is None or not address.is_loopback), bound[0])


def reachable(bound: str, host: Host) -> str:
    """Return the address that clients can use for a public listener: for a wildcard, the host's first address."""
    address = read_address(bound)
    if address is not None and not address.is_unspecified:
        return str(address)
    others = [one for one in host.addresses if not covers(LOOPBACK, one) and not one.is_link_local]
    return str(next(iter(others), "127.0.0.1"))
