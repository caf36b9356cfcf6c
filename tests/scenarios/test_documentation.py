"""The pages of `docs/`: their examples run, and what is made from the code is current.

An example is a block that follows `<!-- example: NAME [ARGUMENTS] -->`. Those of one page are written into one folder.
An application is checked as a launch would have it, with the arguments; tests are run; a file of another kind is there
for them.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from tests.contracts import reference
from tests.support.running import FREE, run

DOCS = Path(__file__).parents[2] / "docs"
EXAMPLE = re.compile(r"^ *<!-- example: (\S+)(.*?) -->\n+( *)```\w*.*?\n(.*?)^ *```$", re.DOTALL | re.MULTILINE)
PAGES = {str(path.relative_to(DOCS)): EXAMPLE.findall(path.read_text()) for path in sorted(DOCS.rglob("*.md"))}


@pytest.mark.parametrize("page", [page for page, examples in PAGES.items() if examples])
def test_the_examples_of_a_page_run(page: str, tmp_path: Path) -> None:
    for name, _, indent, text in PAGES[page]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(re.sub(f"^{indent}", "", text, flags=re.MULTILINE))
    for name, arguments, *_ in PAGES[page]:
        if name.startswith("test_"):
            ended = run("-q", "-p", "no:cacheprovider", name, command=(sys.executable, "-m", "pytest"), cwd=tmp_path)
        elif name.endswith(".py") and (tmp_path / name).read_text().find("app = ") >= 0:
            ended = run(f"{name[:-3]}:app", *arguments.split(), "--check", *FREE, cwd=tmp_path)
        elif name.endswith(".py"):
            ended = run("-c", f"import {name[:-3]}", command=(sys.executable,), cwd=tmp_path)
        else:
            continue
        assert ended.returncode == 0, f"{name}: {ended.stdout}{ended.stderr}"


def test_no_python_on_a_page_goes_untested() -> None:
    blocks = {page: len(re.findall(r"^ *```python", (DOCS / page).read_text(), re.MULTILINE)) for page in PAGES}
    tested = {page: sum(name.endswith(".py") for name, *_ in examples) for page, examples in PAGES.items()}
    assert blocks == tested, "put <!-- example: NAME.py --> before the block, or write it as text"


@pytest.mark.parametrize("path", reference.files(), ids=lambda path: path.name)
def test_what_is_made_from_the_options_is_current(path: Path) -> None:
    assert path.read_text() == reference.files()[path], "run: python -m tests.contracts.reference"
