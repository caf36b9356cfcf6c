"""The settings of one listener: a frozen value for each side, with the private listener's own values resolved.

The private side has its own value of an option where one was given. Otherwise it takes the public value, with these
exceptions: TLS and forwarded headers are off there unless they are asked for (`uvicorn_options.is_inherited`).

A program may change a `Config` until it serves. So a `SideConfig` is made on demand and shows the current values.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from duallisten.config.uvicorn_options import PRIVATE_OFF, is_inherited, is_per_listener, uvicorn_defaults
from duallisten.http.settings import Limits
from duallisten.sides import Side

if TYPE_CHECKING:
    from duallisten.config.config import Config


class SideConfig(NamedTuple):
    """The settings of one side's listener.

    Attributes:
        side: The side of the listener.
        backlog: The most connections that wait in its accept queue.
        root_path: The path prefix that a proxy in front of the listener removes.
        proxy_headers: Whether forwarded headers are read.
        forwarded_allow_ips: The trusted proxies, in the form of uvicorn's option.
        client_ip_header: The header that names the client; None where the option is not given.
        proxy_protocol: Whether connections begin with a header of the PROXY protocol.
        limits: The engine's limits per connection.
        http2: Whether the listener speaks HTTP/2, too.
        limit_connections: The most connections; None for no limit.
        limit_connections_per_peer: The most connections of one peer; None for no limit.
        has_tls: Whether the listener speaks TLS.
        tls_files: Its TLS files with their options, for a message.
        uvicorn: Its values of uvicorn's options that may differ per listener, by name.
    """

    side: Side
    backlog: int
    root_path: str
    proxy_headers: bool
    forwarded_allow_ips: list[str] | str
    client_ip_header: str | None
    proxy_protocol: bool
    limits: Limits
    http2: bool
    limit_connections: int | None
    limit_connections_per_peer: int | None
    has_tls: bool
    tls_files: str
    uvicorn: Mapping[str, Any]


def side_config(config: Config, side: Side) -> SideConfig:
    """Return the settings of `side`'s listener in a configuration."""

    def value(name: str) -> Any:
        if side == "private":
            own = config.private.get(name)
            if own is not None:
                return own
            if not is_inherited(name):
                return False if name in PRIVATE_OFF else uvicorn_defaults()[name]
        return getattr(config.options if name in config.options._fields else config, name)

    uvicorn = {name: value(name) for name in uvicorn_defaults() if is_per_listener(name)}
    prefix = "--private-ssl" if side == "private" else "--ssl"
    files = {name: uvicorn[f"ssl_{name}"] for name in ("keyfile", "certfile", "ca_certs")}
    return SideConfig(
        side=side,
        backlog=int(uvicorn["backlog"]),
        root_path=uvicorn["root_path"],
        proxy_headers=bool(uvicorn["proxy_headers"]),
        forwarded_allow_ips=uvicorn["forwarded_allow_ips"],
        client_ip_header=value("client_ip_header"),
        proxy_protocol=value("proxy_protocol"),
        limits=Limits(
            head_bytes=value("max_head_size") or None,
            head_fields=value("max_head_fields") or None,
            body_bytes=value("max_body_size") or None,
            head_seconds=value("timeout_request_header") or None,
            body_seconds=value("timeout_request_body") or None,
            send_seconds=value("timeout_send") or None,
        ),
        http2=bool(uvicorn["http2"]),
        limit_connections=value("limit_connections") or None,
        limit_connections_per_peer=value("limit_connections_per_peer") or None,
        has_tls=any(map(uvicorn.get, ("ssl_keyfile", "ssl_certfile", "ssl_context_factory"))),
        tls_files=", ".join(f"{prefix}-{name.replace('_', '-')} {file}" for name, file in files.items() if file),
        uvicorn=uvicorn,
    )
