"""The README's examples, served as it says."""

from __future__ import annotations

import re
from pathlib import Path

import httpx
import pytest

from duallisten.options import own_options
from tests.running import FREE, launched

README = (Path(__file__).parent.parent / "README.md").read_text()
EXAMPLES = dict(re.findall(r"<!-- example: (\w+\.py) -->\n```python\n(.*?)```", README, re.DOTALL))


@pytest.mark.parametrize("name", ["fastapi_app", "starlette_app", "django_app"])
def test_an_example_hides_its_private_endpoint_from_the_world(name: str, tmp_path: Path) -> None:
    (tmp_path / f"{name}.py").write_text(EXAMPLES[f"{name}.py"])
    with launched(f"{name}:app", *FREE, cwd=tmp_path) as server:
        public, private = server.url("public"), server.url("private")
        assert httpx.get(public + "/").json() == {"side": "public"}
        assert httpx.get(private + "/").json() == {"side": "private"}
        assert httpx.get(public + "/internal/stock").status_code == 404
        assert httpx.get(private + "/internal/stock").json() == {"apples": 3}


def test_every_option_of_ours_is_in_the_readme() -> None:
    for option in own_options():
        assert f"| `{option.flag}" in README
