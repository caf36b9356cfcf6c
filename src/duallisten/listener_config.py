"""What the connections of one listener are served by: a `uvicorn.Config` for each, and the endpoint set of its side.

So trust, TLS, limits, keep-alive and headers are each listener's own at no cost to a request. Nothing of uvicorn's
`Config.load` is copied: a listener's configuration is loaded by uvicorn itself, with the endpoint set of its side as
the application.
"""

from __future__ import annotations

from collections.abc import Callable

import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from duallisten.admission import Side
from duallisten.config import Config, bare
from duallisten.endpoints import Application, endpoint_set
from duallisten.errors import LaunchError
from duallisten.forwarded import believe
from duallisten.frameworks import root_paths
from duallisten.keywords import uvicorn_defaults
from duallisten.uvicorn_options import is_per_listener

PROCESS_WIDE = frozenset(
    {
        "app",
        "host",
        "port",
        "uds",
        "fd",
        "loop",
        "lifespan",
        "env_file",
        "log_config",
        "log_level",
        "use_colors",
        "interface",
        "reload",
        "reload_dirs",
        "reload_delay",
        "reload_includes",
        "reload_excludes",
        "workers",
        "factory",
    }
)
"""The parameters of `uvicorn.Config` that are the process's, not a listener's."""


def endpoints_of(
    config: Config, side: Side, *, remember: bool = True, note_hidden: Callable[[], None] | None = None
) -> Application:
    """Make the application that connections of `side` reach.

    config: loaded already
    remember: whether they all have the root path of the listener
    note_hidden: is called for each request that is hidden
    """
    app = bare(config.source(side).loaded_app)
    rules = config.rules
    roots = root_paths(app) if side == "public" and rules.hide_something else ()  # rules alone ask for them
    return endpoint_set(app, side, rules, roots, remember=remember, note_hidden=note_hidden)


def listener_config(
    config: Config, side: Side, *, side_door: bool = False, note_hidden: Callable[[], None] | None = None
) -> uvicorn.Config:
    """Make the `uvicorn.Config` that connections of `side` are served by; raises LaunchError.

    config: loaded already
    side_door: for connections that came to the public listener on a private address: believes no header
    note_hidden: is called for each request that is hidden
    """
    assert config.loaded  # noqa: S101
    values = {
        name: config.value(name, side) if is_per_listener(name) else getattr(config, name)
        for name in uvicorn_defaults().keys() - PROCESS_WIDE
        if is_per_listener(name) or hasattr(config, name)
    }
    if side_door:
        values["proxy_headers"] = False
    access_log = values.pop("access_log")
    source = config.source(side)
    endpoints = endpoints_of(config, side, note_hidden=note_hidden)
    made = uvicorn.Config(endpoints, log_config=None, interface="asgi3", workers=1, **values)
    try:
        made.load()
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise LaunchError(f"TLS of the {side} listener: {error}; look at {config.tls_files(side)}") from None
    if isinstance(made.loaded_app, ProxyHeadersMiddleware):
        believe(made.loaded_app, config.trust(side))
    made.interface = source.interface
    made.access_log = access_log
    if source.ws_protocol_class is None:
        made.ws_protocol_class = None
    return made
