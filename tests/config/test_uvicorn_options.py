"""Parity: whatever the installed uvicorn's command takes, ours takes, under the same name and with the same meaning."""

from __future__ import annotations

import inspect
from typing import Any

import click
import pytest
import uvicorn

from duallisten.cli.command import typer_command
from duallisten.config import all_options
from duallisten.config.options import Options
from duallisten.config.uvicorn_options import (
    CONFIG_VARIABLES,
    MORE_HELP,
    PER_LISTENER,
    PRIVATE_OFF,
    uvicorn_defaults,
    uvicorn_options,
)

THEIRS: list[click.Parameter] = uvicorn.main.params
READ: dict[str, Any] = {parameter.name: parameter for parameter in typer_command(all_options()).params}
OURS = {option.name: option for option in all_options()}
CONTEXT = click.Context(uvicorn.main, resilient_parsing=True)


@pytest.mark.parametrize("parameter", THEIRS, ids=lambda parameter: str(parameter.name))
def test_each_of_uvicorn_s_options_arrives_unchanged(parameter: click.Parameter) -> None:
    read, ours = READ[str(parameter.name)], OURS[str(parameter.name)]
    default = parameter.get_default(CONTEXT, call=False)
    known_default = default if isinstance(default, str | int | float) and default != "" else None
    if isinstance(parameter, click.Option):
        assert read.opts == parameter.opts
        assert read.secondary_opts == parameter.secondary_opts
        assert ours.help == " ".join((parameter.help or "").split()) + MORE_HELP.get(str(parameter.name), "")
        assert bool(read.is_flag) == parameter.is_flag
        assert bool(read.multiple) == (parameter.multiple or parameter.name == "host")
        known = None if isinstance(ours.default, list | tuple) or ours.default == "" else ours.default
        assert known == known_default or (parameter.is_flag and not known and not known_default)
    assert f"UVICORN_{str(parameter.name).upper()}" in ours.variables


def test_uvicorn_has_no_option_that_ours_would_hide() -> None:
    assert not {parameter.name for parameter in THEIRS} & {*Options._fields, "check", "json"}


@pytest.mark.parametrize("parameter", THEIRS, ids=lambda parameter: str(parameter.name))
def test_each_of_uvicorn_s_defaults_is_read_as_itself(parameter: click.Parameter) -> None:
    option = next(option for option in uvicorn_options() if option.name == parameter.name)
    if option.default is not None and option.kind != "list":
        assert option.read(str(option.default)) == option.default


def test_what_makes_sense_per_listener_is_a_parameter_of_uvicorn_s_config() -> None:
    assert set(PER_LISTENER) <= uvicorn_defaults().keys()
    assert set(PRIVATE_OFF) <= uvicorn_defaults().keys() | set(Options._fields)
    assert CONFIG_VARIABLES.keys() <= uvicorn_defaults().keys()


def test_the_variables_that_uvicorn_s_config_reads_are_the_ones_we_know() -> None:
    source = inspect.getsource(uvicorn.Config.__init__)
    for variable in CONFIG_VARIABLES.values():
        assert f'"{variable}"' in source
    assert source.count("os.environ") == 3


def test_each_per_listener_option_has_a_private_twin() -> None:
    names = {parameter.name for parameter in THEIRS}
    twins = {option.name: option for option in all_options() if option.twin_of in names}
    expected = {name for name in names if name in PER_LISTENER or str(name).startswith("ssl_")}
    assert twins.keys() == {f"private_{name}" for name in expected}
    assert twins["private_headers"].flag == "--private-header"
    assert twins["private_access_log"].off_flag == "--no-private-access-log"
    assert twins["private_backlog"].variables == ("DUALLISTEN_PRIVATE_BACKLOG",)
