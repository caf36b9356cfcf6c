"""What the connections of one listener are served by: a `uvicorn.Config` for each side, and its endpoint set.

So trust, TLS, limits, keep-alive and headers are each listener's own at no cost to a request. Nothing of uvicorn's
`Config.load` is copied: a listener's configuration is loaded by uvicorn itself. What a program has set on the loaded
public configuration (`ssl`, `http_protocol_class`, `ws_protocol_class`, `encoded_headers`) is taken over.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from duallisten.config import Config, bare
from duallisten.config.uvicorn_contract import UvicornConfig
from duallisten.endpoints import endpoint_set
from duallisten.errors import LaunchError
from duallisten.http import Settings, WebSocketSettings
from duallisten.listeners.forwarded import Rewrite, rewriting
from duallisten.sides import Side

if TYPE_CHECKING:
    from duallisten.admin.pages import Pages


def listener_config(config: Config, side: Side) -> UvicornConfig:
    """Build the `uvicorn.Config` that connections of `side` are served by.

    Args:
        config: It must be loaded.
        side: Whose connections.

    Raises:
        LaunchError: Its TLS cannot be set up.
    """
    assert config.loaded  # noqa: S101
    source, asked = config.source(side), config.side(side)
    made = copy.copy(config)
    for name, value in asked.uvicorn.items():
        setattr(made, name, value)
    if side == "public":  # its TLS is loaded already
        made.ssl_keyfile = made.ssl_certfile = made.ssl_ca_certs = made.ssl_context_factory = None
    made.app, made.factory, made.interface, made.loaded = bare(source.loaded_app), False, "asgi3", False
    made.http, made.ws = config.http_protocol_class, config.ws_protocol_class or "none"
    made.http2 = False  # its protocol class is loaded already
    made.proxy_headers = False  # the engine reads forwarded headers, or `rewriting`
    try:
        UvicornConfig.load(made)
    except (OSError, RuntimeError, TypeError, ValueError) as error:
        raise LaunchError(f"TLS of the {side} listener: {error}; look at {asked.tls_files}") from None
    if side == "public":
        made.ssl = config.ssl
    if asked.http2 and config.is_engine and made.ssl is not None:
        made.ssl.set_alpn_protocols(["h2", "http/1.1"])
    if side == "public" or not config.has_own("headers", "server_header"):
        made.encoded_headers = config.encoded_headers
    made.interface = source.interface
    return made


def place_endpoints(
    made: UvicornConfig,
    config: Config,
    side: Side,
    *,
    note_hidden: Callable[[], None] | None = None,
    pages: Pages | None = None,
    believe: Callable[[str | None], Rewrite | None] | None = None,
) -> None:
    """Put the endpoint set of `side` between the server and the application.

    Args:
        made: The listener's configuration, as `listener_config` makes it.
        config: The configuration of all.
        side: Whose endpoint set.
        note_hidden: Is called for each request that is hidden.
        pages: duallisten's own, which are answered in front of the application.
        believe: Decides whose forwarded headers are heeded, where the engine does not ask; None for nobody's.
    """
    app: Any = made.loaded_app
    placed: Any = endpoint_set(
        app, side, config.rules, is_engine=config.is_engine, remember=True, note_hidden=note_hidden
    )
    placed = placed if pages is None else pages.in_front_of(placed)
    made.loaded_app = placed if believe is None or config.is_engine else rewriting(placed, believe)


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
        http2=config.side(side).http2,
        reset_contextvars=bool(getattr(made, "reset_contextvars", False)),
    )
