"""The README: its example is served as it says, its commands are those of the pages, and it stays short."""

from __future__ import annotations

import re
from pathlib import Path

import httpx

from duallisten.config import all_options
from tests.support.running import FREE, launched, run

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
(EXAMPLE,) = re.findall(r"<!-- example: fastapi_app\.py -->\n```python\n(.*?)```", README, re.DOTALL)


def test_the_example_hides_its_private_endpoint_from_the_world(tmp_path: Path) -> None:
    (tmp_path / "fastapi_app.py").write_text(EXAMPLE)
    with launched("fastapi_app:app", *FREE, cwd=tmp_path) as server:
        public, private = server.url("public"), server.url("private")
        assert httpx.get(public + "/internal/stock").status_code == 404
        assert httpx.get(private + "/internal/stock").json() == {"apples": 3}


def test_the_routes_of_the_example_are_printed(tmp_path: Path) -> None:
    (tmp_path / "fastapi_app.py").write_text(EXAMPLE)
    printed = run("fastapi_app:app", "--routes", cwd=tmp_path).stdout
    assert re.search(r"/internal/stock +│ GET +│ - +│ yes +│ marked private", printed)


def test_it_is_short() -> None:
    assert len(README.splitlines()) <= 180
    assert len(EXAMPLE.splitlines()) <= 15


def test_its_options_and_its_links_are_there() -> None:
    flags = {flag for option in all_options() for flag in (option.flag, option.off_flag)} | {
        "--check",
        "--routes",
        "--help",
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]+", README)) <= flags
    links = [link for link in re.findall(r"\]\(([^)#]+)[^)]*\)", README) if not link.startswith("http")]
    assert len(links) > 25
    assert [link for link in links if not (ROOT / link).exists()] == []
