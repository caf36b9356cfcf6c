"""The platforms that duallisten knows, as data: how each is recognised and what it promises.

A new platform is a module here with one `Platform`, and its rule in `recognition`; no other code names one.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Network

from duallisten.config.platforms.base import NONE, Place, Platform
from duallisten.config.platforms.recognition import NAMES, every, load, recognise
from duallisten.errors import UsageError

__all__ = ["FALLBACK_NETWORKS", "NAMES", "NONE", "Place", "Platform", "every", "load", "locate", "recognise"]

FALLBACK_NETWORKS = (IPv4Network("10.240.0.0/22"),)
"""The default of `--private-network` where the platform has none."""


def locate(choice: str, environ: Mapping[str, str]) -> Place:
    """Find out from the environment where this process runs.

    choice: `auto`, or the name of a platform, which is then taken at its word
    Raises UsageError where `$PORT` is no port.
    """
    platform = load(choice if choice in NAMES else recognise(environ))

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


def _port(text: str) -> int | None:
    if not text:
        return None
    if not text.isascii() or not text.isdigit() or int(text) > 65535:
        raise UsageError(f"$PORT is {text!r}: it must be a port, a number from 0 to 65535")
    return int(text)
