"""The keywords of `Config` and `run`, for type checkers.

Made by `python -m tests.contracts.keywords`, and not to be edited: uvicorn's first, then those of `Options`, then the
private listener's own values of uvicorn's. A launch does not import it.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Iterable
from configparser import RawConfigParser
from typing import IO, Any, Literal, TypedDict

from uvicorn import Config

from duallisten.net import IPNetwork


class Keywords(TypedDict, total=False):
    """What can be asked for by keyword."""

    host: str | Iterable[str]
    port: int
    uds: str | None
    fd: int | None
    loop: Literal["none", "auto", "asyncio", "uvloop", "zuvloop"] | str
    http: type[asyncio.Protocol] | Literal["auto", "h11", "httptools", "zttp"] | str
    http2: bool
    ws: type[asyncio.Protocol] | Literal["auto", "none", "websockets", "websockets-sansio", "wsproto"] | str
    ws_max_size: int
    ws_max_queue: int
    ws_ping_interval: float | None
    ws_ping_timeout: float | None
    ws_per_message_deflate: bool
    lifespan: Literal["auto", "on", "off"]
    env_file: str | os.PathLike[str] | None
    log_config: dict[str, Any] | str | os.PathLike[str] | RawConfigParser | IO[Any] | None
    log_level: str | int | None
    access_log: bool
    use_colors: bool | None
    interface: Literal["auto", "asgi3", "asgi2", "wsgi"]
    reload: bool
    reload_dirs: list[str] | str | None
    reload_delay: float
    reload_includes: list[str] | str | None
    reload_excludes: list[str] | str | None
    workers: int | None
    proxy_headers: bool
    server_header: bool
    date_header: bool
    forwarded_allow_ips: list[str] | str | None
    root_path: str
    limit_concurrency: int | None
    limit_max_requests: int | None
    limit_max_requests_jitter: int
    backlog: int
    timeout_keep_alive: int
    timeout_notify: int
    timeout_graceful_shutdown: int | None
    timeout_worker_healthcheck: int
    callback_notify: Callable[..., Awaitable[None]] | None
    ssl_keyfile: str | os.PathLike[str] | None
    ssl_certfile: str | os.PathLike[str] | None
    ssl_keyfile_password: str | None
    ssl_version: int
    ssl_cert_reqs: int
    ssl_ca_certs: str | os.PathLike[str] | None
    ssl_ciphers: str | None
    ssl_context_factory: Callable[[Config, Callable[[], ssl.SSLContext]], ssl.SSLContext] | None
    headers: list[tuple[str, str]] | None
    factory: bool
    h11_max_incomplete_event_size: int | None
    reset_contextvars: bool
    listeners: Literal["auto", "both", "public", "private"]
    private_host: Iterable[str]
    private_port: int
    private_network: Iterable[str | IPNetwork]
    private_allow: Iterable[str | IPNetwork] | None
    private_hostnames: Iterable[str]
    private_missing: Literal["auto", "fail", "loopback", "later"]
    private_wait: float | None
    private_linger: float | None
    public_linger: float | None
    fence: Literal["auto", "address", "port"]
    side_door: Literal["serve", "refuse"]
    platform: Literal[
        "auto",
        "app-runner",
        "app-service",
        "beanstalk",
        "caprover",
        "clever-cloud",
        "cloud-foundry",
        "cloud-run",
        "container-apps",
        "coolify",
        "digitalocean",
        "docker",
        "dokku",
        "ecs",
        "fly",
        "heroku",
        "heroku-private",
        "koyeb",
        "kubernetes",
        "nomad",
        "northflank",
        "openshift",
        "railway",
        "render",
        "scalingo",
        "tailscale",
        "upsun",
        "wireguard",
        "none",
    ]
    private_paths: Iterable[str]
    public_paths: Iterable[str]
    hidden_status: Literal[404, 403]
    private_app: Any
    strict_routes: bool
    private_workers: int
    preload: bool
    timeout_worker_stall: float | None
    limit_worker_memory: int
    limit_worker_age: float
    timeout_request_header: float | None
    private_timeout_request_header: float | None
    timeout_request_body: float | None
    private_timeout_request_body: float | None
    timeout_send: float | None
    private_timeout_send: float | None
    max_head_size: int
    private_max_head_size: int | None
    max_head_fields: int
    private_max_head_fields: int | None
    max_body_size: int
    private_max_body_size: int | None
    limit_connections: int
    private_limit_connections: int | None
    limit_connections_per_peer: int
    private_limit_connections_per_peer: int | None
    proxy_protocol: bool
    private_proxy_protocol: bool | None
    client_ip_header: str | None
    private_client_ip_header: str | None
    private_health: str | None
    public_health: str | None
    health_stall: float
    private_metrics: str | None
    control: str | None
    log_format: Literal["text", "json"]
    log_slow_requests: float | None
    request_id_header: str | None
    register: str | None
    service: str | None
    private_http2: bool | None
    private_access_log: bool | None
    private_proxy_headers: bool | None
    private_server_header: bool | None
    private_date_header: bool | None
    private_forwarded_allow_ips: list[str] | str | None
    private_root_path: str | None
    private_limit_concurrency: int | None
    private_backlog: int | None
    private_timeout_keep_alive: int | None
    private_ssl_keyfile: str | os.PathLike[str] | None
    private_ssl_certfile: str | os.PathLike[str] | None
    private_ssl_keyfile_password: str | None
    private_ssl_version: int | None
    private_ssl_cert_reqs: int | None
    private_ssl_ca_certs: str | os.PathLike[str] | None
    private_ssl_ciphers: str | None
    private_ssl_context_factory: Callable[[Config, Callable[[], ssl.SSLContext]], ssl.SSLContext] | None
    private_headers: list[tuple[str, str]] | None
