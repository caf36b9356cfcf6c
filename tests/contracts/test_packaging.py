"""What the package index shows: its page has no links that lead nowhere, and says which Pythons CI runs."""

from __future__ import annotations

import re
import tomllib

from tests.support.running import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_the_page_on_the_index_has_no_relative_links() -> None:
    text = (ROOT / "README.md").read_text()
    for one in PYPROJECT["tool"]["hatch"]["metadata"]["hooks"]["fancy-pypi-readme"]["substitutions"]:
        text = re.sub(one["pattern"], one["replacement"], text)
    assert not re.findall(r"\]\((?!https?:|#)[^)]*\)", text)
    assert "](https://www.uvicorn.org)" in text


def test_the_classifiers_name_the_pythons_that_ci_runs() -> None:
    named = re.findall(r"Python :: 3\.(\d+)", " ".join(PYPROJECT["project"]["classifiers"]))
    run = re.findall(r"python_of (\d+)\)", (ROOT / ".ci" / "run").read_text())
    assert sorted(named) == sorted(run)
