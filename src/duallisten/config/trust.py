"""The part of the configuration that decides which peers are believed about a request's client, scheme and id."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from duallisten.config.uvicorn_options import CONFIG_VARIABLES

if TYPE_CHECKING:
    from duallisten.config.config import Config
    from duallisten.config.platforms import Place


def own_trust(place: Place, given: dict[str, Any], origins: dict[str, str]) -> tuple[bool, tuple[str, ...]]:
    """Return whether the user has said whose forwarded headers are believed, and notes for `--check`.

    Where the platform itself sets the variable in every container, the variable is ignored.
    """
    variable = CONFIG_VARIABLES["forwarded_allow_ips"]
    is_asked = given.get("forwarded_allow_ips") is not None
    is_from_variable = variable in os.environ and (not is_asked or origins.get("forwarded_allow_ips") == f"${variable}")
    if not (is_from_variable and place.platform.exports_trust):
        return is_asked or is_from_variable, ()
    given["forwarded_allow_ips"] = "127.0.0.1"  # uvicorn's default without the variable
    origins.pop("forwarded_allow_ips", None)
    name = place.platform.name
    return False, (f"${variable} is set aside, for {name} itself sets it; --forwarded-allow-ips says otherwise",)


def keeps_request_ids(config: Config) -> bool:
    """Whether the public side keeps request ids from peers whose forwarded headers it believes.

    It does not where these peers are routers that pass on a client's id.
    """
    header = config.request_id_header
    return header is not None and (not config.place.is_routed or config.place.overwrites(header))
