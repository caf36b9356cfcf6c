"""The platforms that duallisten knows, as data: how each is recognised and what it promises.

A new platform is a module here with one `Platform`, and a place in `PLATFORMS`; no other code names one.
"""

from __future__ import annotations

from collections.abc import Mapping

from duallisten.config.platforms.base import NONE, Place, Platform
from duallisten.config.platforms.scalingo import SCALINGO
from duallisten.errors import UsageError
from duallisten.net import IPNetwork

__all__ = ["FALLBACK_NETWORKS", "NONE", "PLATFORMS", "SCALINGO", "Place", "Platform", "locate", "networks_of_interface"]

PLATFORMS: tuple[Platform, ...] = (SCALINGO, NONE)
"""In the order in which they are looked for."""

FALLBACK_NETWORKS = SCALINGO.private_networks
"""The default of `--private-network` where the platform has none."""


def locate(choice: str, environ: Mapping[str, str]) -> Place:
    """Find out from the environment where this process runs.

    choice: `auto`, or the name of a platform, which is then taken at its word
    Raises UsageError where `$PORT` is no port.
    """
    platform = next((known for known in PLATFORMS if known.name == choice), None) or _recognise(environ)

    def said(variable: str) -> str:
        return environ.get(variable, "")  # no platform's "" is set

    container = said(platform.container_variable)
    return Place(
        platform=platform,
        port=_port(said("PORT")),
        process_type=container.rpartition("-")[0] or container or None,
        private_hostname=said(platform.hostname_variable).rstrip(".") or None,
        in_private_network=(platform.network_variable in environ) if platform.network_variable else None,
        application=said(platform.application_variable) or None,
        container=container or None,
        version=said(platform.version_variable) or None,
    )


def networks_of_interface(interface: str) -> tuple[IPNetwork, ...]:
    """Return the networks of the overlay network that an interface belongs to by its name; empty where none is known.

    A machine may be in an overlay network wherever it runs.
    """
    from duallisten.config.platforms.tailscale import TAILSCALE  # few launches name an interface

    return next((one.private_networks for one in (TAILSCALE,) if interface in one.private_interfaces), ())


def _recognise(environ: Mapping[str, str]) -> Platform:
    for platform in PLATFORMS:
        if any(all(name in environ for name in names) for names in platform.markers):
            return platform
    return NONE


def _port(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise UsageError(f"$PORT is {text!r}: it must be a port, a number from 0 to 65535")
    return int(text)
