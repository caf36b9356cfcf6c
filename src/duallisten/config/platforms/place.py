"""The place of this process: what the platform's variables say, and the defaults that follow from the platform."""

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
"""Seconds of a platform's grace that are kept for the application's own shutdown; at most a quarter of the grace."""

LONGEST_GRACEFUL = 30
"""The largest default of --timeout-graceful-shutdown, in seconds."""

KEEP_ALIVE_MARGIN = 15
"""Seconds that idle connections are kept longer than the router keeps them, so that always the router closes them."""


class Place(NamedTuple):
    """Where this process runs: the platform, and the values of its variables in this container.

    Attributes:
        platform: The platform.
        port: The value of `$PORT`; None where it is not set.
        process_type: The type in the Procfile; None where the platform has no types or does not say.
        private_hostname: This container's name on the private network.
        private_addresses: Its addresses on the private network, where variables have them.
        in_private_network: Whether it is in a private network; None where the platform does not say.
        application: The platform's name of the application.
        container: The platform's name of this container.
        version: The platform's name of the deployment.
        asked_grace: The platform's grace in seconds, where the user has set it there.
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
        """Whether the platform is unknown."""
        return self.platform.name == NONE.name

    @property
    def grace(self) -> float:
        """Seconds from the stop signal to SIGKILL; 0 where they are unknown."""
        return self.platform.grace if self.asked_grace is None else self.asked_grace

    @property
    def is_routed(self) -> bool:
        """Whether outside connections come from the platform's routers, which write the forwarded headers."""
        types = self.platform.routed_process_types
        return self.platform.is_routed and (not types or self.process_type is None or self.process_type in types)

    def overwrites(self, header: str) -> bool:
        """Whether the routers overwrite a request header, so that no client can set it."""
        platform = self.platform
        return platform.is_request_id_own and header.lower() == platform.request_id_header.lower()

    def complete(self, options: Options, origins: dict[str, str]) -> Options:
        """Fill in the platform's defaults of duallisten's options.

        Args:
            options: duallisten's options as given.
            origins: The origins of the options; those of the platform's defaults are added.
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
        """Fill in the platform's defaults of uvicorn's options, and keep them within the platform's grace.

        Returns:
            A warning for the user, or an empty string.
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
        if platform.grace_setting and self.asked_grace is None:  # the user may have raised it, which cannot be read
            longer = f"--timeout-graceful-shutdown {asked or 'without a limit'}"
            return f"{longer}: {killed}, unless that is raised, too: {platform.grace_setting}"
        given["timeout_graceful_shutdown"] = longest
        return f"--timeout-graceful-shutdown lowered from {asked or 'no limit'} to {longest} s: {killed}"

    def _uvicorn_defaults(self) -> list[tuple[str, Any, str]]:
        """Return defaults of uvicorn's options, as (name, value, origin); the first one of a name is used."""
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
    """Read a platform's variables in this container; raises UsageError where `$PORT` is not a port."""

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
    """Read lists of addresses, separated by commas or spaces; anything else is left out."""
    found: dict[IPAddress, None] = {}
    for text in texts:
        for part in text.replace(",", " ").split():
            with suppress(ValueError):
                found[canonical(ip_address(part))] = None  # each once
    return tuple(found)


def _seconds(text: str | None) -> float | None:
    """Read a number of seconds; None where it is 0 or not a number."""
    return float(text) or None if text is not None and text.isascii() and text.isdigit() else None


def _port(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise UsageError(f"$PORT is {text!r}: it must be a port, a number from 0 to 65535")
    return int(text)
