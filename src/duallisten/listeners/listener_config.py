"""What the connections of one listener are served by: a `uvicorn.Config` for each side, and its endpoint set.

So trust, TLS, limits, keep-alive and headers are each listener's own at no cost to a request. Nothing of uvicorn's
`Config.load` is copied: a listener's configuration is loaded by uvicorn itself. What a program has set on the loaded
public configuration (`ssl`, `http_protocol_class`, `ws_protocol_class`, `encoded_headers`) is taken over.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from duallisten.config import Config, bare, uvicorn_defaults
from duallisten.config.uvicorn_contract import ProxyHeadersMiddleware, UvicornConfig
from duallisten.endpoints import endpoint_set, hidden_paths
from duallisten.endpoints.frameworks import root_paths
from duallisten.errors import LaunchError
from duallisten.http import Settings, WebSocketSettings
from duallisten.listeners.forwarded import believe, trust_of
from duallisten.sides import Application, Side

if TYPE_CHECKING:
    from duallisten.admin.pages import Pages

PROCESS_WIDE = frozenset(
    {
        "app",
        "host",
        "port",
        "uds",
        "fd",
        "loop",
        "http",
        "http2",
        "ws",
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
    """Build the application that requests of `side` reach whose root path may be any: a test client's.

    Args:
        config: It must be loaded.
        side: Whose requests.
    """
    app = bare(config.source(side).loaded_app)
    return endpoint_set(app, side, hidden_paths(side, config.rules, _roots(config, side, app)))


def _roots(config: Config, side: Side, app: Application) -> tuple[str, ...]:
    """Return the path prefixes that an application takes off by itself; path rules alone ask for them."""
    return tuple(root_paths(app)) if side == "public" and config.rules.hide_something else ()


def listener_config(config: Config, side: Side, *, proxy_headers: bool = True) -> UvicornConfig:
    """Build the `uvicorn.Config` that connections of `side` are served by.

    Args:
        config: It must be loaded.
        side: Whose connections.
        proxy_headers: Whether uvicorn's middleware is to read forwarded headers, where the engine does not.

    Raises:
        LaunchError: Its TLS cannot be set up.
    """
    assert config.loaded  # noqa: S101
    source = config.source(side)
    values = _values(config, side)
    values["proxy_headers"] = proxy_headers and not config.is_engine
    access_log = values.pop("access_log")
    made = UvicornConfig(bare(source.loaded_app), log_config=None, interface="asgi3", workers=1, **values)
    try:
        made.load()
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise LaunchError(f"TLS of the {side} listener: {error}; look at {config.side(side).tls_files}") from None
    if side == "public":
        made.ssl = config.ssl
    if side == "public" or not config.has_own("headers", "server_header"):
        made.encoded_headers = config.encoded_headers
    made.interface = source.interface
    made.access_log = access_log
    return made


def _values(config: Config, side: Side) -> dict[str, Any]:
    """Return the values of a listener for the parameters of `uvicorn.Config`."""
    names = uvicorn_defaults().keys() - PROCESS_WIDE
    values = {name: getattr(config, name) for name in names if hasattr(config, name)} | dict(config.side(side).uvicorn)
    if side == "public":  # its TLS is loaded already
        loaded = ("ssl_keyfile", "ssl_certfile", "ssl_ca_certs", "ssl_context_factory")
        values |= dict.fromkeys(name for name in loaded if name in values)
    return values | {"http": config.http_protocol_class, "ws": config.ws_protocol_class or "none"}


def place_endpoints(
    made: UvicornConfig,
    config: Config,
    side: Side,
    *,
    note_hidden: Callable[[], None] | None = None,
    pages: Pages | None = None,
) -> None:
    """Put the endpoint set of `side` between the server and the application.

    Args:
        made: The listener's configuration, as `listener_config` makes it.
        config: The configuration of all.
        side: Whose endpoint set.
        note_hidden: Is called for each request that is hidden.
        pages: duallisten's own, which are answered in front of the application.
    """
    loaded: Any = made.loaded_app
    middleware = loaded if isinstance(loaded, ProxyHeadersMiddleware) else None
    app: Any = middleware.app if middleware is not None else loaded
    hidden = hidden_paths(side, config.rules, _roots(config, side, bare(app)), remember=True, note_hidden=note_hidden)
    placed: Any = endpoint_set(app, side, hidden, is_engine=config.is_engine)
    placed = placed if pages is None else pages.in_front_of(placed)
    if middleware is None:
        made.loaded_app = placed
    else:
        middleware.app = placed
        believe(middleware, trust_of(config, side))


def engine_settings(config: Config, side: Side, made: UvicornConfig) -> Settings:
    """Return what the engine has to know of a listener.

    Args:
        config: The configuration of all.
        side: The listener's side.
        made: Its own configuration.
    """
    limits = config.side(side).limits
    incomplete = made.h11_max_incomplete_event_size
    if incomplete is not None and config.parser == "h11":
        limits = limits._replace(head_bytes=min(incomplete, limits.head_bytes or incomplete))
    websocket = WebSocketSettings(
        max_size=made.ws_max_size,
        max_queue=made.ws_max_queue,
        ping_interval=made.ws_ping_interval,
        ping_timeout=made.ws_ping_timeout,
        per_message_deflate=made.ws_per_message_deflate,
    )
    return Settings(
        parser=config.parser,
        limits=limits,
        keep_alive=made.timeout_keep_alive,
        websocket=websocket if config.has_websockets else None,
        root_path=made.root_path,
        asgi_version=made.asgi_version,
        limit_concurrency=made.limit_concurrency,
        reset_contextvars=bool(getattr(made, "reset_contextvars", False)),
    )
