"""uvicorn's options, read from uvicorn itself, and their private twins.

No list of uvicorn's options stands here: `uvicorn.main` is the click command of the installed uvicorn, and its
parameters carry name, default, help and type; uvicorn's command reads `UVICORN_<NAME>` (click's
`auto_envvar_prefix`). A newer uvicorn's options so appear by themselves, and mean what they mean there: a value is read
by the click type that uvicorn declared.

Two things uvicorn does not declare and this module has to know: the two variables that `uvicorn.Config` reads on its
own, and which options make sense for one listener rather than for the process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import click
import uvicorn

from duallisten.config.option import Option, private_twin
from duallisten.config.options import own_options

CONFIG_VARIABLES = {"workers": "WEB_CONCURRENCY", "forwarded_allow_ips": "FORWARDED_ALLOW_IPS"}
"""What `uvicorn.Config` itself reads from the environment, by the option that it stands for."""

PER_LISTENER = (
    "root_path",
    "headers",
    "server_header",
    "date_header",
    "access_log",
    "limit_concurrency",
    "backlog",
    "timeout_keep_alive",
    "proxy_headers",
    "forwarded_allow_ips",
)
"""The options, beside `ssl_*`, of which each listener may have its own."""

PRIVATE_OFF = ("proxy_headers",)
"""Twins that, like `ssl_*`, are off on the private side unless asked for, and do not follow the public value."""


def is_per_listener(name: str) -> bool:
    """Whether each listener may have a value of its own for uvicorn's option `name`."""
    return name in PER_LISTENER or name.startswith("ssl_")


def is_inherited(name: str) -> bool:
    """Whether the private side takes the public value of `name` where it has none of its own."""
    return name not in PRIVATE_OFF and not name.startswith("ssl_")


def uvicorn_options() -> tuple[Option, ...]:
    """Every option of the installed uvicorn's command line, the application and `--version` included."""
    context = click.Context(uvicorn.main, info_name="duallisten", resilient_parsing=True)
    return tuple(_as_option(parameter, context) for parameter in uvicorn.main.params)


def all_options() -> tuple[Option, ...]:
    """Return every option of the command line, ours and uvicorn's, in the order of `--help`."""
    theirs, ours = uvicorn_options(), own_options()
    names = {option.name for option in ours}
    return (*ours, *private_twins(theirs), *(option for option in theirs if option.name not in names))


def private_twins(options: tuple[Option, ...]) -> Iterator[Option]:
    """Build the private twin of each of uvicorn's `options` that makes sense for one listener."""
    for option in options:
        if not is_per_listener(option.name):
            continue
        yield private_twin(option, "the public value" if is_inherited(option.name) else "off")


def _as_option(parameter: click.Parameter, context: click.Context) -> Option:
    name = parameter.name or ""
    variables = [f"UVICORN_{name.upper()}"]
    if name in CONFIG_VARIABLES:
        variables.append(CONFIG_VARIABLES[name])
    is_option = isinstance(parameter, click.Option)
    switch = isinstance(parameter, click.Option) and parameter.is_flag
    return Option(
        name=name,
        flag=parameter.opts[0] if is_option else name,
        off_flag=parameter.secondary_opts[0] if parameter.secondary_opts else None,
        kind="switch" if switch else "list" if getattr(parameter, "multiple", False) else "value",
        read=partial(_read, parameter, context),
        variables=tuple(variables),
        default=_plain(parameter.get_default(context, call=False)),
        help=getattr(parameter, "help", None) or "",
        metavar=parameter.metavar or _type_name(parameter.type),
        choices=tuple(map(str, getattr(parameter.type, "choices", ()))),
        split=_splitter(parameter.type),
    )


def _read(parameter: click.Parameter, context: click.Context, value: Any) -> Any:
    if getattr(parameter, "multiple", False) and isinstance(value, str):
        value = [value]
    try:
        read = parameter.type_cast_value(context, value)
    except click.BadParameter as error:
        raise ValueError(error.message.rstrip(".")) from None
    except TypeError:
        raise ValueError("has the wrong type") from None
    if parameter.name == "headers":
        return [_header(text) for text in read]
    return list(read) if isinstance(read, tuple) else read


def _header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise ValueError("must be Name:Value")
    return name, value


def _splitter(kind: click.ParamType[Any]) -> Callable[[str], list[str]]:
    return lambda text: list(kind.split_envvar_value(text))


def _type_name(kind: click.ParamType[Any]) -> str | None:
    return kind.name.upper() if not getattr(kind, "choices", ()) else None


def _plain(default: Any) -> Any:
    """Return None for click's own mark of a missing default, whose name has changed between its versions."""
    return default if default is None or isinstance(default, str | int | float | tuple | list) else None
