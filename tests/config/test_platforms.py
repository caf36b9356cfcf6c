"""Platforms: how each is recognised, what is asked of their data, and what no other code may know of them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import duallisten
from duallisten import UsageError
from duallisten.config.platforms import NAMES, NONE, Platform, every, load, locate, recognise
from duallisten.config.platforms.recognition import BY_NAME_ALONE, RULES
from duallisten.config.platforms.scalingo import SCALINGO
from tests.contracts import platforms as page
from tests.support.platforms import SCALINGO_WEB, VARIABLES

SOURCE = Path(duallisten.__file__).parent
FOLDER = SOURCE / "config" / "platforms"


@pytest.mark.parametrize(("name", "variables"), VARIABLES)
def test_a_platform_is_recognised_by_the_variables_that_it_sets(name: str, variables: dict[str, str]) -> None:
    assert recognise(variables) == name
    assert locate("auto", variables).platform is load(name)


def test_each_platform_is_recognised_somewhere_or_known_by_name_alone() -> None:
    tried = {name for name, _ in VARIABLES}
    assert tried == {name for name, *_ in RULES} | {NONE.name}
    assert {*NAMES} == tried | {*BY_NAME_ALONE}
    modules = {path.stem.replace("_", "-") for path in FOLDER.glob("*.py")}
    assert modules - {*NAMES} == {"--init--", "base", "place", "recognition"} & modules


@pytest.mark.parametrize("platform", every(), ids=NAMES)
def test_what_is_known_of_a_platform_has_its_sources(platform: Platform) -> None:
    assert locate(platform.name, {}).platform is platform
    assert {*platform.inferred} <= {*Platform._fields}
    assert len({*platform.inferred}) == len(platform.inferred)
    if platform is not NONE:
        assert platform.title and platform.sources
        assert all(source.startswith("https://") for source in platform.sources)
        assert all(note.endswith(".") for note in platform.notes)


@pytest.mark.parametrize("platform", every(), ids=NAMES)
def test_what_a_platform_promises_fits_together(platform: Platform) -> None:
    assert platform.has_private or not (platform.private_networks or platform.private_required or platform.barred_ports)
    assert platform.is_routed or not (platform.routers or platform.routed_process_types)
    assert platform.has_private or platform.fence == "auto"
    assert not platform.grace_variable or platform.grace_variable in platform.grace_setting
    assert platform.public_linger < max(platform.grace, 1) / 3, "requests have two thirds of the grace"
    assert platform.fence != "port" or not platform.is_routed, "neighbours reach the public port, too"


def test_the_page_of_platforms_says_what_the_data_says() -> None:
    assert page.PAGE.read_text() == page.text(), "run: python -m tests.contracts.platforms"


def test_only_the_data_names_a_platform_or_its_variables() -> None:
    named = {value for one in every() for field, value in one._asdict().items() if field.endswith("_variable")}
    known = ({*NAMES, *named} | {mark for _, *marks in RULES for mark in marks}) - {NONE.name, ""}
    known -= {"APP"}  # is many things
    generated = SOURCE / "config" / "keywords.py"
    for path in SOURCE.rglob("*.py"):
        if FOLDER in path.parents or path == generated:
            continue
        tree = ast.parse(path.read_text())
        texts = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        assert not texts & known, path
        modules = {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not modules & {f"duallisten.config.platforms.{name.replace('-', '_')}" for name in NAMES}, path


def test_a_launch_imports_the_data_of_its_own_platform_alone() -> None:
    program = (
        "import sys; from duallisten.config.platforms import locate; locate('auto', {'FLY_APP_NAME': '', "
        "'FLY_MACHINE_ID': ''}); print(*sorted(name.rpartition('.')[2] for name in sys.modules if "
        "name.startswith('duallisten.config.platforms.')))"
    )
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {*ended.stdout.split()} - {"place"} == {"base", "fly", "recognition"}


def test_scalingo_is_recognised_by_its_own_variables() -> None:
    place = locate("auto", SCALINGO_WEB)
    assert (place.platform, place.process_type, place.port) == (SCALINGO, "web", 5000)
    assert place.in_private_network is False


def test_scalingo_is_recognised_without_an_application_id() -> None:
    assert (
        locate("auto", {name: SCALINGO_WEB[name] for name in SCALINGO_WEB if not name.startswith("SCALINGO")}).platform
        is SCALINGO
    )


def test_a_private_network_gives_the_container_a_name() -> None:
    names = {
        "SCALINGO_PRIVATE_NETWORK_ID": "pn-1",
        "SCALINGO_PRIVATE_HOSTNAME": "1.web.ap-1.pn-1.private-network.internal.",
    }
    place = locate("auto", SCALINGO_WEB | names)
    assert place.in_private_network is True
    assert place.private_hostname == "1.web.ap-1.pn-1.private-network.internal"


@pytest.mark.parametrize(
    ("container", "process_type"), [("web-1", "web"), ("one-off-1234", "one-off"), ("my-api-12", "my-api"), ("", None)]
)
def test_the_process_type_is_the_container_without_its_index(container: str, process_type: str | None) -> None:
    assert locate("scalingo", {"CONTAINER": container}).process_type == process_type


def test_elsewhere_there_is_no_platform_but_still_a_port() -> None:
    place = locate("auto", {"PORT": "8080", "CONTAINER": "docker"})
    assert (place.platform, place.port, place.process_type, place.in_private_network) == (NONE, 8080, None, None)


def test_a_user_can_say_which_platform_it_is() -> None:
    assert locate("none", SCALINGO_WEB).platform is NONE
    assert locate("scalingo", {}).platform is SCALINGO


def test_an_empty_port_is_no_port() -> None:
    assert locate("auto", {"PORT": ""}).port is None


@pytest.mark.parametrize("text", ["http", "80a", "-1", "65536", "8 0", "٨٠"])
def test_a_port_that_is_no_port_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"\$PORT"):
        locate("auto", {"PORT": text})
