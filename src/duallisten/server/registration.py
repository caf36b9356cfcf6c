"""The entry of a launch in a registry (`--register`): one, whatever processes there are.

It is made of the sockets that were really bound, when everything that there is to be accepts: so nobody is sent to a
port that is not open. That this launch drains is told before anything else is done for its end, for whoever hears of it
goes elsewhere; the entry goes when the last connection has ended. All of that is a `registry.Registrar`'s, in a thread
of its own; here is only what it is told.

What it must never do: stop a launch, or hold up its end for longer than `PATIENCE`; say the URL, which has a password
in it, anywhere.
"""

from __future__ import annotations

import secrets
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING

from duallisten.config import Config
from duallisten.errors import UsageError
from duallisten.listeners import BoundSocket, Plan, served_listeners
from duallisten.logs import utc_timestamp, wall_clock
from duallisten.net import LOOPBACK, Host, covers, read_address, read_host

if TYPE_CHECKING:
    from duallisten.registry import Instance, Registrar

PATIENCE = 2.0
"""Seconds that the end of a launch waits for a registry to be told."""


def registration_of(config: Config) -> Registration | None:
    """Return the registration that is asked for, if any; raises UsageError or LaunchError where it cannot be made."""
    if config.options.register is None:
        return None
    from duallisten.registry.backend import check_url

    check_url(config.options.register)
    return Registration(config, service_of(config))


def service_of(config: Config) -> str:
    """Return the name that others find this service by; raises UsageError where there is none."""
    from duallisten.registry.entry import is_service

    asked, place = config.options.service, config.place
    name = asked or "-".join(part for part in (place.application, place.process_type) if part)
    if not name:
        raise UsageError("--register needs the name that others find this service by: give --service NAME")
    if not is_service(name):
        raise UsageError(
            f"--service {name}: must be at most 100 letters, digits, '.', '_' and '-', and begin and end with one of "
            "the first two"
        )
    return name


class Registration:
    """The entry of one launch, as far as the launch is concerned.

    service: what it is found by
    """

    def __init__(self, config: Config, service: str) -> None:
        self._config = config
        self.service = service
        self._registrar: Registrar | None = None

    def begin(self, plan: Plan, bound: Iterable[BoundSocket]) -> None:
        """Register, now that all of it accepts; returns at once, and does nothing the second time."""
        if self._registrar is None:
            from duallisten.registry import Registrar

            self._registrar = Registrar(self._config.options.register or "", self._instance(plan, bound))
            self._registrar.ready()

    def drain(self) -> None:
        """Tell that it drains; waits for that to be written, not long."""
        if self._registrar is not None:
            self._registrar.draining(PATIENCE)

    def end(self) -> None:
        """Take the entry out; waits for that, not long."""
        if self._registrar is not None:
            self._registrar.remove(PATIENCE)

    def _instance(self, plan: Plan, bound: Iterable[BoundSocket]) -> Instance:
        from duallisten.registry import Instance

        place = self._config.place
        container = place.container or socket.gethostname()
        served = {one.side: one for one in served_listeners(self._config, plan, bound) if one.bound}
        port = {side: one.bound[0][1] or None for side, one in served.items()}  # a UNIX domain socket has none
        private = served.get("private")
        return Instance(
            service=self.service,
            id=f"{container}-{secrets.token_hex(4)}",
            address=private.bound[0][0] if private else reachable(served["public"].bound[0][0], read_host()),
            private_port=port.get("private"),
            public_port=port.get("public"),
            scheme=(private or served["public"]).scheme,
            host=place.private_hostname or "",
            container=container,
            version=place.version or "",
            started_at=utc_timestamp(wall_clock()),
        )


def reachable(bound: str, host: Host) -> str:
    """Return the address by which a public listener is reached: the host's first, where it is bound to all of them."""
    address = read_address(bound)
    if address is not None and not address.is_unspecified:
        return str(address)
    others = [one for one in host.addresses if not covers(LOOPBACK, one) and not one.is_link_local]
    return str(next(iter(others), "127.0.0.1"))
