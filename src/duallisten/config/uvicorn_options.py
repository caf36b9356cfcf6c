"""uvicorn's options, read from uvicorn itself.

There is no list of them here. `uvicorn.main` is the click command of the installed uvicorn. Its parameters have name,
default, help and type, and their variables are `UVICORN_<NAME>` (click's `auto_envvar_prefix`). So options of a newer
uvicorn appear automatically, and their values are read by the click types that uvicorn declares.

This module adds what uvicorn does not declare: the two variables that `uvicorn.Config` reads on its own, and the
options that may differ per listener.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import cache, partial
from typing import Any

import click

from duallisten.config.option import Option, hosts, split_list
from duallisten.config.option import port as read_port
from duallisten.config.uvicorn_contract import UvicornConfig, uvicorn_command

CONFIG_VARIABLES = {"workers": "WEB_CONCURRENCY", "forwarded_allow_ips": "FORWARDED_ALLOW_IPS"}
"""The variables that `uvicorn.Config` itself reads, by option."""

PER_LISTENER = (
    "root_path",
    "headers",
    "server_header",
    "date_header",
    "access_log",
    "limit_concurrency",
    "backlog",
    "timeout_keep_alive",
    "http2",
    "proxy_headers",
    "forwarded_allow_ips",
)
"""The options, in addition to `ssl_*`, that each listener may have its own value of."""

PRIVATE_OFF = ("proxy_headers", "proxy_protocol")
"""Options, ours included, that are off on the private side unless asked for there, as `ssl_*` are. The private side
does not take the public value."""

LATER = {"http2": False}
"""Options that older supported versions of uvicorn do not have, with their defaults. The engine serves them anyway."""

MORE_HELP = {
    "host": " May be repeated.",
    "version": " It displays duallisten's, too.",
    "timeout_graceful_shutdown": " 0: no limit. [default: 30, or two thirds of the platform's grace]",
    "timeout_worker_healthcheck": " 0: no limit.",
    "workers": " 0: one, as under uvicorn.",
    "http2": " The engine speaks it, too, with duallisten[http2]: with TLS where a client chooses it, else where it "
    "begins with it (prior knowledge).",
}
"""Text that is appended to uvicorn's help of an option."""


def is_per_listener(name: str) -> bool:
    """Whether each listener may have its own value of uvicorn's option `name`."""
    return name in PER_LISTENER or name.startswith("ssl_")


def is_inherited(name: str) -> bool:
    """Whether the private side takes the public value of `name` where it has no own one."""
    return name not in PRIVATE_OFF and not name.startswith("ssl_")


@cache
def uvicorn_defaults() -> Mapping[str, Any]:
    """Return the parameters of the installed `uvicorn.Config` with their defaults."""
    parameters = inspect.signature(UvicornConfig.__init__).parameters
    known = {name: parameter.default for name, parameter in parameters.items() if name not in ("self", "app")}
    return known | {name: default for name, default in LATER.items() if name not in known}


def uvicorn_options() -> tuple[Option, ...]:
    """Return every option of the installed uvicorn's command line, including the application and `--version`."""
    context = click.Context(uvicorn_command, info_name="duallisten", resilient_parsing=True)
    parameters = [*uvicorn_command.params]
    known = {parameter.name for parameter in parameters}
    later = [click.Option([f"--{name}"], is_flag=True, help="Speak HTTP/2.") for name in LATER if name not in known]
    return tuple(_as_option(parameter, context) for parameter in (*parameters, *later))


def _as_option(parameter: click.Parameter, context: click.Context) -> Option:
    name, kind = parameter.name or "", parameter.type
    choices = getattr(kind, "choices", ())
    default = parameter.get_default(context, call=False)
    is_switch = isinstance(parameter, click.Option) and parameter.is_flag
    is_list = name == "host" or getattr(parameter, "multiple", False)
    return Option(
        name=name,
        flag=parameter.opts[0] if isinstance(parameter, click.Option) else name,
        off_flag=parameter.secondary_opts[0] if parameter.secondary_opts else None,
        kind="switch" if is_switch else "list" if is_list else "value",
        read=partial(_read, parameter, context),
        variables=tuple(filter(None, (f"UVICORN_{name.upper()}", CONFIG_VARIABLES.get(name)))),
        # click's sentinel for a missing default has another name in each version
        default=default if isinstance(default, str | int | float | tuple | list) else None,
        help=(getattr(parameter, "help", None) or "") + MORE_HELP.get(name, ""),
        metavar=parameter.metavar or (None if choices else kind.name.upper()),
        choices=tuple(map(str, choices)),
        split=split_list if name == "host" else lambda text: list(kind.split_envvar_value(text)),
    )


def _read(parameter: click.Parameter, context: click.Context, value: Any) -> Any:
    if parameter.name == "host":
        return hosts(value)
    if getattr(parameter, "multiple", False) and isinstance(value, str):
        value = [value]
    try:
        read = parameter.type_cast_value(context, value)
    except click.BadParameter as error:
        raise ValueError(error.message.rstrip(".")) from None
    except TypeError:
        raise ValueError("has the wrong type") from None
    if parameter.name == "port":
        return read_port(read)
    if isinstance(read, int | float) and read < 0:  # click takes any number; none of uvicorn's may be negative
        raise ValueError("must be a number, 0 or more")
    if parameter.name == "headers":
        return [_header(text) for text in read]
    return list(read) if isinstance(read, tuple) else read


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError("must be Name:Value")
    return name, value
