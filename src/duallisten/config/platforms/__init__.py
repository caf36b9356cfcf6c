"""The platforms that duallisten knows, as data: how each is recognised and what it promises.

A new platform is a module here with one `Platform`, and its rule in `recognition`; no other code names one.
"""

from __future__ import annotations

from collections.abc import Mapping

from duallisten.config.platforms.base import NONE, Platform
from duallisten.config.platforms.place import Place, place_of
from duallisten.config.platforms.recognition import NAMES, every, load, recognise
from duallisten.net import IPNetwork

__all__ = ["NAMES", "NONE", "Place", "Platform", "every", "load", "locate", "networks_of_interface", "recognise"]


def locate(choice: str, environ: Mapping[str, str]) -> Place:
    """Find out from the environment where this process runs.

    choice: `auto`, or the name of a platform, which is then taken at its word
    Raises UsageError where a variable, such as `$PORT`, cannot be read.
    """
    return place_of(load(choice if choice in NAMES else recognise(environ)), environ)


def networks_of_interface(interface: str) -> tuple[IPNetwork, ...]:
    """Return the networks of the overlay network that an interface belongs to by its name; empty where none is known.

    A machine may be in an overlay network wherever it runs.
    """
    from duallisten.config.platforms.tailscale import TAILSCALE  # few launches name an interface

    return next((one.private_networks for one in (TAILSCALE,) if interface in one.private_interfaces), ())
