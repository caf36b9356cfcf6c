"""The known platforms, as data: how each is recognised and what it promises.

A new platform needs a module here with one `Platform`, and its rule in `recognition`. No other code names platforms.
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

    Args:
        choice: `auto`, or the name of a platform, which is then not checked.
        environ: The environment.

    Raises:
        UsageError: A variable, such as `$PORT`, cannot be read.
    """
    return place_of(load(choice if choice in NAMES else recognise(environ)), environ)


def networks_of_interface(interface: str) -> tuple[IPNetwork, ...]:
    """Return the networks of the overlay network that an interface belongs to by its name; empty where none is known.

    They do not depend on the platform, because any machine may be in an overlay network.
    """
    from duallisten.config.platforms.tailscale import TAILSCALE  # few launches name an interface

    return next((one.private_networks for one in (TAILSCALE,) if interface in one.private_interfaces), ())
