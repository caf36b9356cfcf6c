"""The shape of the code: how large things may grow, and what may know of what; import-linter holds rooms apart."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import duallisten

SOURCE = Path(duallisten.__file__).parent
MODULES = {
    ".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted(SOURCE.rglob("*.py"))
}

ROOMS = {path.parent.name for path in SOURCE.glob("*/__init__.py")}

BY_THEMSELVES = (
    "admin",
    "cli",
    "config.admin_paths",
    "config.uvicorn_contract",
    "control",
    "endpoints.frameworks",
    "endpoints.routes",
    "http",
    "listeners.report",
    "observability.task_frames",
    "processes",
    "registry",
    "server.inspection",
)
"""What other rooms import at once and not by its room's face: not every launch needs it, or it is a face of its own."""


def is_for_types(node: ast.AST) -> bool:
    """Whether this is what a type checker alone sees."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imports(name: str, *, at_once: bool = False) -> Iterator[tuple[str, list[str]]]:
    """The modules of ours that a module imports, without `duallisten.`, each with the names; not what is for types.

    at_once: without those that functions import
    """
    tree = ast.parse(MODULES[name].read_text())
    lazy = (ast.FunctionDef, ast.AsyncFunctionDef) if at_once else ()
    left_out = {
        id(part) for node in ast.walk(tree) if is_for_types(node) or isinstance(node, lazy) for part in ast.walk(node)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and id(node) not in left_out:
            package, _, module = node.module.partition(".")
            if package == "duallisten":
                yield module, [alias.name for alias in node.names]


@cache
def origins(face: str) -> dict[str, str]:
    """The modules in which the names stand that a face gives out."""
    return {name: module for module, names in imports(face) for name in names} if face in ROOMS else {}


@cache
def imported(name: str, *, at_once: bool = False) -> frozenset[str]:
    """The modules of ours that a module imports; faces are seen through.

    at_once: without those that functions import
    """
    found: set[str] = set()
    for module, names in imports(name, at_once=at_once):
        for one in names:
            inner = f"{module}.{one}".lstrip(".")
            found.add(inner if inner in MODULES else origins(module).get(one, module or "__init__"))
    return frozenset(found - {name})


def test_imports_have_no_circle() -> None:
    order = TopologicalSorter({name: imported(name) for name in MODULES}).static_order()  # raises with the circle
    assert set(order) == MODULES.keys()


@cache
def chain(name: str) -> tuple[str, ...]:
    """The longest chain of modules, each of which imports the next at once; a face only hands on what it imports."""
    below = () if name in ROOMS else imported(name, at_once=True)
    return (name, *max(map(chain, sorted(below)), key=len, default=()))


def test_the_longest_chain_of_imports_has_at_most_12_modules() -> None:
    longest = max(map(chain, MODULES), key=len)
    assert len(longest) <= 12, " -> ".join(longest)


@pytest.mark.parametrize("name", MODULES)
def test_other_rooms_are_entered_by_their_face(name: str) -> None:
    own = name.partition(".")[0]
    for module, _ in imports(name, at_once=True):
        room = module.partition(".")[0]
        if room in ROOMS - {own} and own in ROOMS:
            assert module == room or module.startswith(BY_THEMSELVES), f"{module} is not for other rooms"


def test_whoever_lists_the_package_sees_its_rooms() -> None:
    # `control` is the 24th: `python -m duallisten.control` names it
    assert len([entry for entry in SOURCE.iterdir() if entry.name != "__pycache__"]) <= 24


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_one_thing(name: str) -> None:
    text = MODULES[name].read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module opens with what it is for"
    assert len(text.splitlines()) <= 400
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 40, f"{node.name} is too long"


PURE = (
    "admin.figures",
    "admin.health",
    "admin.history",
    "admin.pages",
    "cli.command",
    "config.admin_paths",
    "config.option",
    "config.options",
    "config.other_servers",
    "config.platforms",
    "config.platforms.base",
    "config.platforms.recognition",
    "config.platforms.scalingo",
    "control.protocol",
    "endpoints.endpoint_set",
    "endpoints.openapi",
    "endpoints.path_rules",
    "endpoints.path_variants",
    "endpoints.routes",
    "errors",
    "http.answers",
    "http.chunks",
    "http.head",
    "http.settings",
    "listeners.admission",
    "listeners.forwarded_field",
    "listeners.plan",
    "listeners.proxy_header",
    "net.addresses",
    "observability.request_counter",
    "observability.scoreboard_layout",
    "registry.entry",
    "sides",
)


@pytest.mark.parametrize("name", PURE)
def test_what_decides_knows_no_socket_process_or_event_loop(name: str) -> None:
    tree = ast.parse(MODULES[name].read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not modules & {"socket", "asyncio", "multiprocessing", "os", "subprocess", "psutil", "uvicorn"}
