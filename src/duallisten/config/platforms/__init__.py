"""The platforms that duallisten knows, as data: how each is recognised and what it promises.

A new platform is a module here with one `Platform`, and a place in `PLATFORMS`; no other code names one.
"""

from __future__ import annotations

from collections.abc import Mapping

from duallisten.config.platforms.base import NONE, Platform
from duallisten.config.platforms.place import Place, place_of
from duallisten.config.platforms.scalingo import SCALINGO

__all__ = ["NONE", "PLATFORMS", "SCALINGO", "Place", "Platform", "locate"]

PLATFORMS: tuple[Platform, ...] = (SCALINGO, NONE)
"""In the order in which they are looked for."""


def locate(choice: str, environ: Mapping[str, str]) -> Place:
    """Find out from the environment where this process runs.

    choice: `auto`, or the name of a platform, which is then taken at its word
    Raises UsageError where `$PORT` is no port.
    """
    platform = next((known for known in PLATFORMS if known.name == choice), None) or _recognise(environ)
    return place_of(platform, environ)


def _recognise(environ: Mapping[str, str]) -> Platform:
    for platform in PLATFORMS:
        if any(all(name in environ for name in names) for names in platform.markers):
            return platform
    return NONE
