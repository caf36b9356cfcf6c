"""Plain command lines: read as typer reads them, or not at all."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duallisten import UsageError
from duallisten.cli.command import ACTIONS, read_all, read_plain, refuse_twice
from duallisten.config import all_options, collect, other_servers
from duallisten.config.option import Option
from tests.support.running import PYTHON, run

OPTIONS = all_options()
NAMED = [option for option in OPTIONS if option.name != "app"]
FLAGS = sorted({flag for option in NAMED for flag in (option.flag, option.off_flag) if flag})
VALUES = ["shop:app", "1", "", "a b", "x=y", "-", "--", "-1", "--host", "10.240.0.0/22"]


def listed(said: dict[str, Any]) -> dict[str, Any]:
    """With every repeated option as a list: typer gives a tuple."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in said.items()}


def words() -> st.SearchStrategy[str]:
    flags = st.sampled_from([*FLAGS, *(f"--{name}" for name in ACTIONS), "--hots", "-h", "--help"])
    with_value = st.builds("{}={}".format, flags, st.sampled_from(VALUES))
    return st.sampled_from(VALUES) | flags | with_value


@settings(max_examples=300, deadline=None)
@given(st.lists(words(), max_size=6))
def test_what_is_read_here_is_read_by_typer_in_the_same_way(arguments: list[str]) -> None:
    plain = read_plain(OPTIONS, arguments)
    if plain is None:
        return
    try:
        theirs = read_all(OPTIONS, arguments)
    except UsageError:  # a typer that insists on its own converters sees a wrong choice before our readers do
        with pytest.raises(UsageError):
            collect(OPTIONS, plain, Path("/nonexistent"))
    else:
        assert plain == listed(theirs)


@pytest.mark.parametrize("option", NAMED, ids=lambda option: option.flag)
def test_every_option_is_plain(option: Option) -> None:
    lines: list[tuple[list[str], object]]
    if option.kind == "switch":
        lines = [([flag], value) for flag, value in ((option.flag, True), (option.off_flag, False)) if flag]
    else:
        read: object = ["1"] if option.kind == "list" else "1"
        lines = [([option.flag, "1"], read), ([f"{option.flag}=1"], read)]
    for arguments, value in lines:
        assert read_plain(OPTIONS, ["shop:app", *arguments]) == {"app": "shop:app", option.name: value}
        assert read_plain(OPTIONS, [*arguments, "shop:app"]) is not None


def test_a_list_is_collected() -> None:
    arguments = ["--private-path", "/a", "--port=1", "--private-path=/b"]
    assert read_plain(OPTIONS, arguments) == {"private_paths": ["/a", "/b"], "port": "1"}
    refuse_twice(OPTIONS, [*arguments, "--header", "-x:--port=2"])


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--port=1", "--port", "2"], "--port is given twice, as 1 and as 2: keep one of them"),
        (["--port", "1", "shop:app", "--port", "1"], "--port is given twice, as 1 and as 1"),
        (["--access-log", "--no-access-log"], "--access-log is given twice, as --access-log and as --no-access-log"),
        (["--register", "redis://:a@x", "--register=redis://:b@x"], "as (not shown) and as (not shown)"),
        (["--uds", "-1", "--uds=-2"], "--uds is given twice, as -1 and as -2"),
    ],
)
def test_what_may_be_said_once_is_not_said_twice(arguments: list[str], told: str) -> None:
    """Or the last would win, and nobody would hear that the first does not hold."""
    with pytest.raises(UsageError) as refused:
        refuse_twice(OPTIONS, arguments)
    assert told in str(refused.value)


def test_what_to_do_beside_a_launch_is_told() -> None:
    assert read_plain(OPTIONS, ["shop:app", "--check", "--json"]) == {
        "app": "shop:app",
        "check": True,
        "json": True,
    }
    assert read_plain(OPTIONS, ["--routes", "--help-all"]) == {"routes": True, "help_all": True}


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--hots", "x"],
        ["--host"],
        ["--host", "-1"],
        ["--reload=yes"],
        ["--check=yes"],
        ["-h"],
        ["--"],
        ["one:app", "two:app"],
        [""],
        ["--install-completion"],
    ],
)
def test_the_rest_is_left_to_typer(arguments: list[str]) -> None:
    assert read_plain(OPTIONS, arguments) is None


@pytest.mark.parametrize(
    ("argument", "told"),
    [
        ("--hots", "there is no option --hots: did you mean '--host'?; see duallisten --help"),
        ("--privat-port", "did you mean '--private-port'?"),
        ("--bogus", "there is no option --bogus; see duallisten --help"),
        ("--private-xyz", "there is no option --private-xyz; see duallisten --help"),
        ("-b", "that is --host and --port here"),
        ("--bind", "that is --host and --port here"),
        ("-w4", "that is --workers here"),
        ("-k", "duallisten serves ASGI applications itself"),
        ("--threads", "--workers starts processes"),
        ("--timeout", "--timeout-worker-stall"),
        ("--graceful-timeout", "that is --timeout-graceful-shutdown here"),
        ("--keep-alive", "that is --timeout-keep-alive here"),
        ("--max-requests", "that is --limit-max-requests here"),
        ("--worker-connections", "that is --limit-connections here"),
    ],
)
def test_an_unknown_option_is_answered_with_the_one_that_was_meant_or_none(argument: str, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        read_all(OPTIONS, ["shop:app", argument, "x"])
    assert told in str(refused.value)


def test_each_hint_for_another_server_s_option_names_options_that_there_are() -> None:
    known = {flag for option in OPTIONS for flag in (option.flag, option.off_flag)} | {"--check", "--help"}
    named = {flag for text in other_servers.HINTS.values() for flag in re.findall(r"--[a-z0-9-]+", text)}
    assert len(named) > 20 and named <= known
    assert {f"--{name}" for name in other_servers.HINTS} & known == {"--workers"}  # which `-w` stands for


def test_a_plain_command_line_imports_neither_typer_nor_psutil() -> None:
    code = """
import atexit, sys
atexit.register(lambda: print(sorted({"typer", "pydantic", "psutil", "rich"} & set(sys.modules))))
sys.argv = ["duallisten", "duallisten.demo:app", "--port", "0", "--private-port", "0", "--workers", "1", "--version"]
from duallisten.__main__ import main
main()
"""
    ended = run("-c", code, command=PYTHON)
    assert ended.stdout.splitlines()[-1] == "[]"
    assert ended.stdout.startswith("Running duallisten")
