"""The shape of the code: who may import whom, and how large things may grow."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import duallisten

SOURCE = Path(duallisten.__file__).parent

LAYERS = (
    (
        "errors",
        "netlink",
        "http.settings",
        "http.answers",
        "http.timeouts",
        "http.head",
        "http.tls",
        "http.observer",
        "throttle",
        "clock",
        "systemd",
        "systemd.notify",
        "opentelemetry",
        "opentelemetry.processes",
    ),
    (
        "http.chunks",
        "http.inbox",
        "http.scope",
        "http.response",
        "http.flow",
        "http.parsers.httptools",
        "http.parsers.h11",
        "http.websocket_messages",
        "uvicorn_contract",
    ),
    ("http.parsers", "http.exchange", "http.websocket_protocol"),
    ("http.context", "http.request", "http.websocket"),
    ("http.upgrade",),
    ("http.connection",),
    ("http",),
    ("registry.entry",),
    ("registry.backend",),
    ("registry.link", "registry.redis", "registry.postgres"),
    ("registry.finding", "registry.registrar"),
    ("registry", "registry.resolver"),
    ("registry.http", "registry.__main__"),
    ("network", "readings", "openapi"),
    ("rules",),
    ("platforms", "addresses", "admission"),
    ("systemd.activation",),
    ("endpoints", "accesslog", "application", "forwarded", "routes", "values", "board_layout"),
    ("starlette", "scoreboard", "requestids", "jsonlog"),
    ("recorder",),
    ("health", "fastapi", "frameworks.starlette", "frameworks.django"),
    ("frameworks.fastapi", "jsonaccess", "status"),
    ("frameworks", "status_text"),
    ("option", "route_report"),
    ("options",),
    ("pages", "metrics", "metric_files", "passed"),
    ("uvicorn_options", "sources", "plan", "arguments", "metrics_page", "status_stream"),
    ("keywords", "pools"),
    ("config",),
    ("listener_config",),
    ("sockets", "signals", "listening"),
    ("acceptor",),
    ("opentelemetry.sides",),
    ("serving", "launch_board", "drain", "lifespans", "queues", "late", "alarm"),
    ("ending", "registration", "report"),
    ("status_html",),
    ("status_page",),
    ("page_set",),
    ("services",),
    ("standby",),
    ("observation",),
    ("server",),
    ("worker_process", "testing", "systemd.server"),
    ("worker", "template_process", "systemd.reload"),
    ("slots", "template"),
    ("worker_factory",),
    ("supervisor_end",),
    ("supervisor",),
    ("systemd.supervisor",),
    ("launch",),
    ("__init__", "demo"),
    ("typer_command",),
    ("cli",),
    ("__main__",),
)
"""From the bottom up; a module imports only from layers below its own."""

HEIGHT = {name: height for height, names in enumerate(LAYERS) for name in names}
MODULES = sorted(path for path in SOURCE.rglob("*.py"))


def name_of(path: Path) -> str:
    """The name of a module within the package; a folder's is its `__init__`."""
    name = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    return name.removesuffix(".__init__")


def is_for_types(node: ast.AST) -> bool:
    """Whether this is what a type checker alone sees."""
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def imported(tree: ast.Module) -> set[str]:
    """The modules of ours that a module imports, anywhere in it."""
    found: set[str] = set()
    typing = {id(part) for node in ast.walk(tree) if is_for_types(node) for part in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in typing:
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("duallisten"):
            module = node.module.removeprefix("duallisten").lstrip(".")
            names = {alias.name for alias in node.names}
            found |= {module} if module else {name if name in HEIGHT else "__init__" for name in names}
        elif isinstance(node, ast.Import):
            names = {alias.name for alias in node.names if alias.name.startswith("duallisten")}
            found |= {name.removeprefix("duallisten").lstrip(".") or "__init__" for name in names}
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_downward(path: Path) -> None:
    own = name_of(path)
    assert own in HEIGHT, "a new module has a place in LAYERS"
    for name in imported(ast.parse(path.read_text())):
        assert HEIGHT[name] < HEIGHT[own], f"{own} imports {name}, which is not below it"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_is_one_thing(path: Path) -> None:
    text = path.read_text()
    tree = ast.parse(text)
    assert ast.get_docstring(tree), "a module opens with what it is for"
    assert len(text.splitlines()) <= 400
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert (node.end_lineno or 0) - node.lineno < 40, f"{node.name} is too long"


PURE = (
    "errors",
    "registry.entry",
    "platforms",
    "addresses",
    "admission",
    "readings",
    "rules",
    "passed",
    "plan",
    "pools",
    "endpoints",
    "routes",
    "openapi",
    "arguments",
    "values",
    "http.head",
    "http.chunks",
    "http.answers",
    "http.settings",
    "health",
    "status",
    "status_text",
    "status_html",
    "board_layout",
    "recorder",
    "pages",
    "option",
    "options",
)


@pytest.mark.parametrize("name", PURE)
def test_what_decides_knows_no_socket_process_or_event_loop(name: str) -> None:
    tree = ast.parse((SOURCE / f"{name.replace('.', '/')}.py").read_text())
    modules = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    modules |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert not modules & {"socket", "asyncio", "multiprocessing", "os", "subprocess", "psutil", "uvicorn"}
