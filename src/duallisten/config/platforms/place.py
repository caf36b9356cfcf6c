"""What a platform says of this process, and what it decides where nothing was asked."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, NamedTuple

from duallisten.config.platforms.base import NONE, Platform
from duallisten.errors import UsageError
from duallisten.net import canonical

if TYPE_CHECKING:
    from duallisten.config.options import Options
    from duallisten.net import IPAddress

SHUTDOWN_RESERVE = 5.0
"""Seconds of a platform's grace that are left, when all connections have ended, for the application's own shutdown; a
quarter of it where it is short."""

LONGEST_GRACEFUL = 30
"""Seconds that connections have to end at most where nobody has asked for more."""

KEEP_ALIVE_MARGIN = 15
"""Seconds that an idle connection is kept for longer than a router keeps it, so that the router is who closes it."""


class Place(NamedTuple):
    """Where this process runs: the platform, and what its variables say of this container.

    Attributes:
        port: The value of `$PORT`; None where it is not set.
        process_type: The type in the Procfile; None where the platform has none or does not say.
        private_hostname: This container's name on the private network.
        private_addresses: Its addresses there, as far as variables say so.
        in_private_network: Whether there is one; None where the platform does not say.
        application: What the platform calls the application.
        container: What it calls this container.
        version: What it calls the deployment.
        asked_grace: The platform's grace where the user has set it there, in seconds.
    """

    platform: Platform = NONE
    port: int | None = None
    process_type: str | None = None
    private_hostname: str | None = None
    private_addresses: tuple[IPAddress, ...] = ()
    in_private_network: bool | None = None
    application: str | None = None
    container: str | None = None
    version: str | None = None
    asked_grace: float | None = None

    @property
    def is_unknown(self) -> bool:
        """Whether this is no platform that is known."""
        return self.platform.name == NONE.name

    @property
    def grace(self) -> float:
        """Seconds from the stop signal to SIGKILL; 0 where nobody says."""
        return self.platform.grace if self.asked_grace is None else self.asked_grace

    @property
    def is_routed(self) -> bool:
        """Whether what comes in from outside comes from the platform's routers, which write the forwarded headers."""
        types = self.platform.routed_process_types
        return self.platform.is_routed and (not types or self.process_type is None or self.process_type in types)

    def overwrites(self, header: str) -> bool:
        """Whether a request header that came in from outside is the routers' word, and no client's."""
        platform = self.platform
        return platform.is_request_id_own and header.lower() == platform.request_id_header.lower()

    def complete(self, options: Options, origins: dict[str, str]) -> Options:
        """Fill in those of duallisten's options that the platform decides where nothing was asked.

        origins: where options came from; what the platform says is added
        """
        platform = self.platform
        is_deployed = platform.private_required or options.fence == "port"
        is_deployed = is_deployed or (self.is_unknown and self.port is not None)
        values: dict[str, Any] = {
            "private_network": platform.private_networks,
            "private_missing": "fail" if is_deployed else "loopback",
            "private_wait": platform.private_wait,
            "private_linger": platform.private_dns_ttl,
            "public_linger": platform.public_linger,
        }
        missing = {name: value for name, value in values.items() if getattr(options, name) in (None, "auto")}
        if not self.is_unknown:
            origins.update({name: f"platform {platform.name}" for name, value in missing.items() if value})
        return options._replace(**missing)

    def complete_uvicorn(self, given: dict[str, Any], origins: dict[str, str]) -> str:
        """Fill in uvicorn's options that have another default here, and keep them within the platform's grace.

        Returns what a user should be told, or nothing.
        """
        for name, value, origin in self._uvicorn_defaults():
            if given.get(name) is None:
                given[name] = value
                origins.setdefault(name, origin)
        platform, grace = self.platform, self.grace
        if platform.sets_concurrency and origins.get("workers") == "$WEB_CONCURRENCY":
            origins["workers"] += f", which {platform.name} sets"
        asked = given.get("timeout_graceful_shutdown")
        longest = max(1, int(grace - min(SHUTDOWN_RESERVE, grace / 4)))
        if not grace or not isinstance(asked, int | float) or 0 < asked <= longest:
            return ""
        killed = f"{platform.name} sends SIGKILL {grace:g} s after {platform.stop_signal}"
        if platform.grace_setting and self.asked_grace is None:  # nobody knows whether it was raised there
            longer = f"--timeout-graceful-shutdown {asked or 'without a limit'}"
            return f"{longer}: {killed}, unless that is raised, too: {platform.grace_setting}"
        given["timeout_graceful_shutdown"] = longest
        return f"--timeout-graceful-shutdown lowered from {asked or 'no limit'} to {longest} s: {killed}"

    def _uvicorn_defaults(self) -> list[tuple[str, Any, str]]:
        """Return uvicorn's options with their values here and where these come from; the first of a name holds."""
        platform = self.platform
        here = f"platform {platform.name}"
        defaults = [(name, value, here) for name, value in platform.defaults]
        if self.port is not None:
            defaults += [("host", "0.0.0.0", "$PORT"), ("port", self.port, "$PORT")]  # noqa: S104
        elif platform.port:
            defaults += [("host", "0.0.0.0", here), ("port", platform.port, here)]  # noqa: S104
        if platform.keep_alive:
            defaults.append(("timeout_keep_alive", int(platform.keep_alive) + KEEP_ALIVE_MARGIN, here))
        if self.grace:
            graceful = min(LONGEST_GRACEFUL, max(1, int(self.grace * 2 / 3)))
            defaults.append(("timeout_graceful_shutdown", graceful, here))
        return defaults


def place_of(platform: Platform, environ: Mapping[str, str]) -> Place:
    """Read what a platform's variables say of this container; raises UsageError where `$PORT` is no port."""

    def said(variable: str) -> str | None:
        return environ.get(variable) or None if variable else None

    named = said(platform.container_variable)
    process_type = said(platform.process_type_variable)
    if named is not None:
        process_type = named.rpartition(platform.container_separator)[0] or named
    return Place(
        platform=platform,
        port=_port(environ.get("PORT", "")),
        process_type=process_type,
        private_hostname=(said(platform.hostname_variable) or "").rstrip(".") or None,
        private_addresses=_addresses(said(variable) or "" for variable in platform.private_variables),
        in_private_network=(platform.network_variable in environ) if platform.network_variable else None,
        application=said(platform.application_variable),
        container=named or said(platform.instance_variable),
        version=said(platform.version_variable),
        asked_grace=_seconds(said(platform.grace_variable)),
    )


def _addresses(texts: Iterable[str]) -> tuple[IPAddress, ...]:
    """Read lists of addresses, with commas or spaces between them; what is no address is left out."""
    found: dict[IPAddress, None] = {}
    for text in texts:
        for part in text.replace(",", " ").split():
            with suppress(ValueError):
                found[canonical(ip_address(part))] = None  # each once
    return tuple(found)


def _seconds(text: str | None) -> float | None:
    """Read a number of seconds; None where it is none, or 0."""
    return float(text) or None if text is not None and text.isascii() and text.isdigit() else None


def _port(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise UsageError(f"$PORT is {text!r}: it must be a port, a number from 0 to 65535")
    return int(text)
