"""Warnings about a valid configuration, one line each, for the log and for `--check`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from duallisten.config.config import Config


def warnings_of(config: Config) -> Iterator[str]:
    """Warn of protocol classes other than the engine's, of a private side open to all, and of useless options."""
    for option in _brought_protocols(config):
        yield (
            f"{option} serves connections with a protocol class of its own: duallisten's limits, time-outs, refusals, "
            "request ids, JSON access lines and request metrics do not hold for them"
        )
    for network in config.options.private_allow or ():
        if network.prefixlen == 0:
            yield (
                f"--private-allow {network} admits every IPv{network.version} peer to the private side: whoever can "
                "reach its address is a neighbour"
            )
    for option, needs in _idle_options(config):
        yield f"{option} does nothing without {needs}"
    most = config.graceful_seconds / 2
    asked = {"--public-linger": config.options.public_linger, "--private-linger": config.options.private_linger}
    for option, seconds in asked.items():
        if seconds is not None and seconds > most:
            yield (
                f"{option} lowered from {seconds:g} to {most:g} s: half of --timeout-graceful-shutdown is for what is "
                "accepted last"
            )


def _brought_protocols(config: Config) -> Iterator[str]:
    if not config.is_engine:
        yield f"--http {_name_of(config.http)}"
    if not (config.is_websocket_engine or config.ws == "none"):
        yield f"--ws {_name_of(config.ws)}"


def _name_of(protocol: Any) -> str:
    return protocol if isinstance(protocol, str) else f"{protocol.__module__}:{protocol.__qualname__}"


def _needs(config: Config) -> Iterator[tuple[bool, str, tuple[str, ...]]]:
    """Yield the options that depend on others: whether the condition holds, its text, and the options that need it."""
    options = config.options
    several = config.workers > 1 or options.private_workers > 0
    reload_options = ("reload_dirs", "reload_includes", "reload_excludes", "reload_delay")
    is_probed = options.private_health is not None or options.public_health is not None
    yield is_probed, "--private-health or --public-health", ("health_stall",)
    yield options.register is not None, "--register", ("service",)
    yield several, "several workers", ("preload", "timeout_worker_stall", "limit_worker_memory", "limit_worker_age")
    yield config.rules.hide_something, "--private-path or --public-path", ("hidden_status",)
    yield config.reload, "--reload", reload_options
    yield config.limit_max_requests is not None, "--limit-max-requests", ("limit_max_requests_jitter",)
    believes = config.proxy_headers or config.side("private").proxy_headers
    yield believes, "--proxy-headers", ("client_ip_header",)
    yield config.side("public").has_tls, "--ssl-certfile", ("ssl_keyfile_password", "ssl_ca_certs")
    private = ("private_ssl_keyfile_password", "private_ssl_ca_certs")
    yield config.side("private").has_tls, "--private-ssl-certfile", private


def _idle_options(config: Config) -> Iterator[tuple[str, str]]:
    """Yield the options that were given but have no effect, with the text of what they need."""
    for is_there, needs, names in _needs(config):
        given = [] if is_there else [name for name in names if _is_given(config, name)]
        if given:
            from duallisten.config.options import all_options

            flags = {option.name: option.flag for option in all_options()}
            yield from ((flags.get(name, name), needs) for name in given)


def _is_given(config: Config, name: str) -> bool:
    """Whether an option was given; an option that was given in code counts only if it is not at its default."""
    options = config.options
    if name in config.origins:
        return getattr(options, name, None) is not False
    return name in options._fields and getattr(options, name) != options._field_defaults[name]
