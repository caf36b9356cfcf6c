"""The README's examples, served as it says."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import httpx
import pytest

from duallisten.config.options import own_options
from tests.support.running import FREE, launched, run

README = (Path(__file__).parents[2] / "README.md").read_text()
EXAMPLES = {
    name: (text, tuple(arguments.split()))
    for name, arguments, text in re.findall(r"<!-- example: (\w+\.py)(.*?) -->\n```python\n(.*?)```", README, re.DOTALL)
}
"""The text of each example, and what is said on the command line for it."""


@pytest.mark.parametrize("name", ["fastapi_app", "starlette_app", "django_app"])
def test_an_example_hides_its_private_endpoint_from_the_world(name: str, tmp_path: Path) -> None:
    text, arguments = EXAMPLES[f"{name}.py"]
    (tmp_path / f"{name}.py").write_text(text)
    with launched(f"{name}:app", *arguments, *FREE, cwd=tmp_path) as server:
        public, private = server.url("public"), server.url("private")
        assert httpx.get(public + "/").json() == {"side": "public"}
        assert httpx.get(private + "/").json() == {"side": "private"}
        assert httpx.get(public + "/internal/stock").status_code == 404
        assert httpx.get(private + "/internal/stock").json() == {"apples": 3}


def test_the_tests_that_the_readme_shows_pass(tmp_path: Path) -> None:
    for name in ("fastapi_app.py", "test_fastapi_app.py", "test_spans.py"):
        (tmp_path / name).write_text(EXAMPLES[name][0])
    ended = run("-q", "-p", "no:cacheprovider", command=(sys.executable, "-m", "pytest"), cwd=tmp_path)
    assert (ended.returncode, "3 passed" in ended.stdout) == (0, True), ended.stdout


def test_the_routes_are_printed_as_the_readme_shows(tmp_path: Path) -> None:
    (tmp_path / "fastapi_app.py").write_text(EXAMPLES["fastapi_app.py"][0])
    printed = run("fastapi_app:app", "--routes", cwd=tmp_path).stdout
    shown = [line for line in README.splitlines() if line.startswith("│ /")]
    assert len(shown) == 2
    assert {" ".join(line.split()) for line in shown} <= {" ".join(line.split()) for line in printed.splitlines()}


def test_every_option_of_ours_is_in_the_readme() -> None:
    for option in own_options():
        assert (f"`{option.twin_of.replace('_', '-')}`" if option.twin_of else f"| `{option.flag}") in README
