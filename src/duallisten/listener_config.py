"""What the connections of one listener are served by: a `uvicorn.Config` for each, and the endpoint set of its side.

So trust, TLS, limits, keep-alive and headers are each listener's own at no cost to a request. Nothing of uvicorn's
`Config.load` is copied: a listener's configuration is loaded by uvicorn itself, with the endpoint set of its side as
the application.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from duallisten.admission import Side
from duallisten.board_layout import Cell
from duallisten.config import Config, bare
from duallisten.endpoints import Application, endpoint_set, hiding
from duallisten.errors import LaunchError
from duallisten.forwarded import believe
from duallisten.frameworks import root_paths
from duallisten.keywords import uvicorn_defaults
from duallisten.recorded_endpoints import recorded_endpoint_set
from duallisten.recorder import Recorder
from duallisten.recording import is_recorded
from duallisten.uvicorn_options import is_per_listener

if TYPE_CHECKING:
    from duallisten.pages import Pages

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


def endpoints_of(config: Config, side: Side) -> Application:
    """Make the application that requests of `side` reach whose root path may be any: a test client's.

    config: loaded already
    """
    app = bare(config.source(side).loaded_app)
    return endpoint_set(app, side, hiding(side, config.rules, _roots(config, side, app)))


def _roots(config: Config, side: Side, app: Application) -> tuple[str, ...]:
    """Give the path prefixes that an application takes off by itself; path rules alone ask for them."""
    return tuple(root_paths(app)) if side == "public" and config.rules.hide_something else ()


def listener_config(
    config: Config,
    side: Side,
    *,
    side_door: bool = False,
    recorder: Recorder | None = None,
    pages: Pages | None = None,
) -> uvicorn.Config:
    """Make the `uvicorn.Config` that connections of `side` are served by; raises LaunchError.

    config: loaded already
    side_door: for connections that came to the public listener on a private address: believes no header
    recorder: what records its requests; None where nothing does
    pages: duallisten's own, which are answered in front of the application
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
    made = uvicorn.Config(bare(source.loaded_app), log_config=None, interface="asgi3", workers=1, **values)
    try:
        made.load()
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise LaunchError(f"TLS of the {side} listener: {error}; look at {config.tls_files(side)}") from None
    _place_endpoints(made, config, side, recorder, pages)
    made.interface = source.interface
    made.access_log = access_log
    if source.ws_protocol_class is None:
        made.ws_protocol_class = None
    return made


def _place_endpoints(
    made: uvicorn.Config, config: Config, side: Side, recorder: Recorder | None, pages: Pages | None
) -> None:
    """Put the endpoint set of `side` where it hears of a request when the client's address is known.

    made: the listener's configuration, loaded with the bare application
    """
    loaded: Any = made.loaded_app
    middleware = loaded if isinstance(loaded, ProxyHeadersMiddleware) else None
    app: Any = middleware.app if middleware is not None else loaded
    note_hidden = None if recorder is None else partial(recorder.add, Cell.HIDDEN)
    roots = _roots(config, side, bare(app))
    hidden = hiding(side, config.rules, roots, remember=True, note_hidden=note_hidden)
    if recorder is not None and is_recorded(made.http_protocol_class):
        placed: Any = recorded_endpoint_set(app, side, recorder, hidden, pages)
    else:
        placed = endpoint_set(app, side, hidden)
        placed = placed if pages is None else pages.in_front_of(placed)
    if middleware is None:
        made.loaded_app = placed
    else:
        middleware.app = placed
        believe(middleware, config.trust(side))
