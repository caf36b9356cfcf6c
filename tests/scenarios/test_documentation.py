"""The pages of `docs/`: their examples run, and what is made from the code is current.

An example is a block that follows `<!-- example: NAME [ARGUMENTS] -->`. Those of one page are written into one folder.
An application is checked as a launch would have it, with the arguments; tests are run; a file of another kind is there
for them.
"""

from __future__ import annotations

import json
import re
import sys
import textwrap
import tomllib
from pathlib import Path

import pytest
import uvicorn

from duallisten.admin.metrics import families
from duallisten.observability import Scoreboard
from tests.contracts import reference
from tests.support.running import DUALLISTEN, FREE, run

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


def test_both_samples_of_the_file_say_the_same_in_keys_of_the_schema(tmp_path: Path) -> None:
    own, project, application = PAGES["reference/configuration-file.md"]
    table = tomllib.loads(textwrap.dedent(own[3]))
    (tmp_path / "pyproject.toml").write_text(textwrap.dedent(project[3]))
    (tmp_path / application[0]).write_text(application[3])
    assert tomllib.loads(textwrap.dedent(project[3]))["tool"]["duallisten"] == table
    assert table.keys() <= reference.file_schema()["properties"].keys()
    ended = run("--check", *FREE, cwd=tmp_path)
    assert ended.returncode == 0, ended


def test_no_python_on_a_page_goes_untested() -> None:
    blocks = {page: len(re.findall(r"^ *```python", (DOCS / page).read_text(), re.MULTILINE)) for page in PAGES}
    tested = {page: sum(name.endswith(".py") for name, *_ in examples) for page, examples in PAGES.items()}
    assert blocks == tested, "put <!-- example: NAME.py --> before the block, or write it as text"


@pytest.mark.skipif(not uvicorn.__version__.startswith("0.54."), reason="an older uvicorn has fewer options")
@pytest.mark.parametrize("path", reference.files(), ids=lambda path: path.name)
def test_what_is_made_from_the_options_is_current(path: Path) -> None:
    assert path.read_text() == reference.files()[path], "run: python -m tests.contracts.reference"


def test_the_dashboard_and_the_reference_name_the_metrics_that_are_served() -> None:
    dashboard = json.loads((DOCS / "how-to" / "duallisten-dashboard.json").read_text())
    asked = {target["expr"] for panel in dashboard["panels"] for target in panel["targets"]}
    asked |= {variable["query"]["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"}
    served = {sample.name for family in families(Scoreboard().read()) for sample in family.samples}
    assert set(re.findall(r"duallisten_\w+", " ".join(asked))) <= served
    assert {panel["datasource"]["uid"] for panel in dashboard["panels"]} == {"${datasource}"}
    table = re.findall(r"^\| (`.+?`) \|", (DOCS / "reference" / "metrics.md").read_text(), re.MULTILINE)
    named = {f"duallisten_{name}" for cell in table for name in re.findall(r"`(\w+)`", cell)}
    assert named == {re.sub("_(bucket|count|sum)$", "", name) for name in served}


@pytest.mark.needs_root
def test_the_tutorial_shows_what_its_network_does(tmp_path: Path) -> None:
    """Its commands, in a network namespace of their own, print what the page says."""
    page = (DOCS / "tutorial.md").read_text()
    (tmp_path / "shop.py").write_text(EXAMPLE.findall(page)[0][3])
    (setup,) = re.findall(r"<!-- run -->\n```sh\n(.*?)```", page, re.DOTALL)
    (serve,) = re.findall(r"<!-- serve -->\n```sh\n(.*?)\n```", page, re.DOTALL)
    shown = "".join(re.findall(r"<!-- run -->\n```console\n(.*?)```", page, re.DOTALL))
    asked = "".join(f"{line[2:]}; echo\n" for line in shown.splitlines() if line.startswith("$ "))
    script = f"""set -e
mkdir -p /run/netns && mount -t tmpfs none /run/netns
{setup}
{serve.replace("venv/bin/duallisten", " ".join(DUALLISTEN))} >serving 2>&1 & server=$!
until grep -q 'public side' serving; do kill -0 $server; sleep 0.05; done
{asked}
kill $server; wait $server
"""
    ended = run("-nm", "bash", "-c", script, command=("unshare",), cwd=tmp_path)
    said = [line for line in shown.splitlines() if not line.startswith("$ ")]
    assert [line for line in ended.stdout.splitlines() if line[:1] in ("{", "n")] == said, ended
    assert (
        "Refused a connection from 172.17.0.1 to 10.240.0.5: the peer is in no admitted network"
        in (tmp_path / "serving").read_text()
    )
