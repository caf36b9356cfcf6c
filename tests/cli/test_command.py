"""Plain command lines: read as typer reads them, or not at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duallisten import UsageError
from duallisten.cli.command import ACTIONS, read_all, read_plain
from duallisten.config import all_options, collect
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


def test_a_list_is_collected_and_of_a_single_value_the_last_one_counts() -> None:
    arguments = ["--private-path", "/a", "--port=1", "--private-path=/b", "--port", "2"]
    assert read_plain(OPTIONS, arguments) == {"private_paths": ["/a", "/b"], "port": "2"}


def test_what_to_do_beside_a_launch_is_told() -> None:
    assert read_plain(OPTIONS, ["shop:app", "--check", "--json"]) == {
        "app": "shop:app",
        "check": True,
        "json": True,
    }
    assert read_plain(OPTIONS, ["--routes"]) == {"routes": True}


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


def test_typer_tells_of_a_mistake() -> None:
    with pytest.raises(UsageError, match=r"--hots.*--host"):
        read_all(OPTIONS, ["shop:app", "--hots", "x"])


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
