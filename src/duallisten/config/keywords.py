"""The keyword arguments of the API: whose they are, what they say, and what the platform adds.

A `Config` is called with uvicorn's options, duallisten's own and the private twins in one; this sorts and reads them.
No option is listed here: uvicorn's are those of the installed `uvicorn.Config`, ours the fields of `Options`.
"""

from __future__ import annotations

import inspect
import os
from collections.abc import Mapping
from functools import cache
from typing import Any

import uvicorn

from duallisten.config.option import NOT_SHOWN, is_secret
from duallisten.config.options import Options, own_options
from duallisten.config.platforms import Place
from duallisten.config.sources import nearest
from duallisten.config.uvicorn_contract import LOGGING_CONFIG
from duallisten.config.uvicorn_options import CONFIG_VARIABLES, is_per_listener
from duallisten.endpoints import Rules, contradiction
from duallisten.errors import UsageError


@cache
def uvicorn_defaults() -> Mapping[str, Any]:
    """The parameters of the installed `uvicorn.Config` with their defaults."""
    parameters = inspect.signature(uvicorn.Config.__init__).parameters
    return {name: parameter.default for name, parameter in parameters.items() if name not in ("self", "app")}


def read_rules(options: Options) -> Rules:
    """Return the path rules; raises UsageError where one of them could never match."""
    rules = Rules(options.private_paths, options.public_paths, options.hidden_status)
    if found := contradiction(rules):
        raise UsageError(f"--public-path {found[0]} lies inside --private-path {found[1]}, so it could never be served")
    return rules


def sort(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """Sort keyword arguments into duallisten's own, the private twins (under the public names), and uvicorn's."""
    known = set(Options._fields)
    twins = {option.name: option.twin_of for option in own_options() if option.twin_of}
    own: dict[str, Any] = {}
    private: dict[str, Any] = {}
    given: dict[str, Any] = {}
    for name, value in options.items():
        twin = name.removeprefix("private_")
        if name in known:
            own[name] = value
        elif name in twins:
            private[twins[name]] = value
        elif name in uvicorn_defaults():
            given[name] = value
        elif twin != name and twin in uvicorn_defaults() and is_per_listener(twin):
            private[twin] = value
        else:
            hint = nearest(name, [key.replace("_", "-") for key in (*known, *uvicorn_defaults())])
            raise TypeError(f"unknown option {name!r}{hint.replace('-', '_')}")
    return own, private, given


def read_own(own: Mapping[str, Any], private: dict[str, Any]) -> Options:
    """Read duallisten's own options, and in `private` their twins; raises UsageError where one cannot be read."""
    values: dict[str, Any] = {}
    for option in own_options():
        said, key, read = (private, option.twin_of, private) if option.twin_of else (own, option.name, values)
        if key in said:
            try:
                read[key] = None if option.twin_of and said[key] is None else option.read(said[key])
            except ValueError as error:
                shown = NOT_SHOWN if is_secret(option.name) else repr(said[key])
                raise UsageError(f"{option.name}={shown}: {error}") from None
    return Options(**values)


def with_platform(options: Options, place: Place) -> Options:
    """Fill in what the platform decides where nothing was asked."""
    if options.private_missing == "auto":
        must = place.platform.private_required or place.port is not None
        options = options._replace(private_missing="fail" if must else "loopback")
    if options.private_wait is None:
        options = options._replace(private_wait=place.platform.private_wait)
    if options.private_linger is None:
        options = options._replace(private_linger=place.platform.private_dns_ttl)
    return options


SHUTDOWN_RESERVE = 5.0
"""Seconds of a platform's grace that are left, when all connections have ended, for the application's own shutdown."""


def take_platform_values(given: dict[str, Any], origins: dict[str, str], place: Place) -> str:
    """Fill in uvicorn's options that have another default on this platform, and keep within its grace.

    Returns what a user should be told, or nothing.
    """
    platform = place.platform
    for name, value in platform.defaults:
        if given.get(name) is None:
            given[name] = value
            origins.setdefault(name, f"platform {platform.name}")
    longest, asked = int(platform.grace - SHUTDOWN_RESERVE), given.get("timeout_graceful_shutdown")
    if not platform.grace or not isinstance(asked, int | float) or asked <= longest:
        return ""
    given["timeout_graceful_shutdown"] = longest
    return (
        f"--timeout-graceful-shutdown lowered from {asked} to {longest} s: {platform.name} sends SIGKILL "
        f"{platform.grace:g} s after SIGTERM"
    )


def check_logging(given: Mapping[str, Any], options: Options) -> None:
    """Ensure that one thing alone says what lines look like; raises UsageError."""
    asked = given.get("log_config")
    if options.log_format == "json" and asked is not None and asked is not LOGGING_CONFIG:
        raise UsageError(
            "--log-format json and --log-config both say what log lines look like: leave one of them out, or name "
            "duallisten.logs.JSONFormatter as the formatter in the latter"
        )


def check_workers(given: Mapping[str, Any]) -> None:
    """Ensure that uvicorn will be able to read the number of workers; raises UsageError."""
    variable = CONFIG_VARIABLES["workers"]
    text = os.environ.get(variable)
    if given.get("workers") is not None or text is None:
        return
    if not (text.isascii() and text.isdigit()):
        raise UsageError(f"${variable} is {text!r}: it must be a number of workers")
