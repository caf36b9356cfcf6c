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
        "corking",
        "throttle",
        "clock",
        "systemd",
        "systemd.notify",
        "opentelemetry",
        "opentelemetry.processes",
    ),
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
    ("endpoints", "accesslines", "application", "forwarded", "routes", "values", "limits", "board_layout"),
    ("starlette", "accesslog", "parsers.refusal", "scoreboard", "requestids", "jsonlog"),
    ("recorder",),
    ("records",),
    ("recording_websockets",),
    (
        "health",
        "recording",
        "fastapi",
        "frameworks.starlette",
        "frameworks.django",
        "parsers.h11",
        "parsers.httptools",
        "parsers.zttp",
    ),
    ("frameworks.fastapi", "parsers", "jsonaccess", "status"),
    ("frameworks", "status_text"),
    ("option", "route_report"),
    ("options",),
    ("pages", "metrics", "metric_files", "passed"),
    ("uvicorn_options", "sources", "plan", "arguments", "metrics_page", "status_stream"),
    ("keywords", "pools"),
    ("config",),
    ("recorded_endpoints",),
    ("listener_config",),
    ("sockets", "signals", "listening", "handshakes"),
    ("acceptor",),
    ("opentelemetry.sides",),
    ("serving", "launch_board", "stalls", "drain", "lifespans", "queues", "late", "alarm"),
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


def imported(tree: ast.Module) -> set[str]:
    """The modules of ours that a module imports, anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(tree):
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
    assert len(text.splitlines()) <= 300
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
    "limits",
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
