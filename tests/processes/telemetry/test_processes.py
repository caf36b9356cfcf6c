"""`opentelemetry-instrument duallisten`: each process that serves has providers of its own; spans tell the side."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import opentelemetry.sdk.version
import psutil
import pytest

from tests.support.running import DUALLISTEN, FREE, Launched, eventually, is_refused, launched

INSTRUMENT = str(Path(sys.executable).with_name("opentelemetry-instrument"))

SHOP = """
import os
from fastapi import FastAPI

app = FastAPI()

@app.get("/")
def home():
    return os.getpid()
"""

EXPORTER = """
import json, os, pathlib
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult

class Exporter(SpanExporter):
    def __init__(self):
        self.process = os.getpid()

    def export(self, spans):
        with pathlib.Path("spans").open("a") as file:
            for span in spans:
                if span.kind.name == "SERVER":
                    told = {"made": self.process, "process": os.getpid(), "name": span.name}
                    told |= {"side": span.attributes.get("duallisten.side"), "of": dict(span.resource.attributes)}
                    file.write(json.dumps(told) + "\\n")
        return SpanExportResult.SUCCESS
"""

ENVIRON = {
    "OTEL_TRACES_EXPORTER": "lines",
    "OTEL_METRICS_EXPORTER": "none",
    "OTEL_LOGS_EXPORTER": "none",
    "OTEL_BSP_SCHEDULE_DELAY": "100",
    "OTEL_PYTHON_FASTAPI_EXCLUDED_URLS": "/docs",
}

INSTANCE_IDS = tuple(map(int, opentelemetry.sdk.version.__version__.split(".")[:2])) >= (1, 43)
"""Whether the SDK gives each process an id."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with an application, and with an exporter that writes spans to a file."""
    (tmp_path / "shop.py").write_text(SHOP)
    (tmp_path / "lines.py").write_text(EXPORTER)
    information = tmp_path / "lines-1.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: lines\nVersion: 1\n")
    (information / "entry_points.txt").write_text("[opentelemetry_traces_exporter]\nlines = lines:Exporter\n")
    return tmp_path


@contextmanager
def instrumented(folder: Path, *arguments: str) -> Iterator[Launched]:
    command = (INSTRUMENT, *DUALLISTEN, "shop:app", *arguments, *FREE)
    with launched(command=command, cwd=folder, environ=ENVIRON) as server:
        yield server


def spans(folder: Path) -> list[dict[str, Any]]:
    file = folder / "spans"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def seen(folder: Path) -> set[tuple[int, str]]:
    """The processes and sides of the spans so far."""
    return {(span["process"], span["side"]) for span in spans(folder)}


def ask_both(server: Launched, expected: int) -> set[int]:
    """Ask both sides until so many processes have answered on each, and give them."""
    answered: dict[str, set[int]] = {"public": set(), "private": set()}
    for side, processes in answered.items():
        url = server.url(side)
        assert eventually(lambda: processes.add(int(httpx.get(url).text)) or len(processes) >= expected)  # type: ignore[func-returns-value]  # noqa: B023
    assert answered["public"] == answered["private"]
    return answered["public"]


def test_spans_of_one_process_tell_the_side_and_our_own_pages_make_none(folder: Path) -> None:
    with instrumented(folder, "--private-health", "/health", "--private-path", "/internal") as server:
        (process,) = ask_both(server, 1)
        assert httpx.get(server.url("private") + "/health/livez").status_code == 200
        assert httpx.get(server.url("public") + "/internal").status_code == 404
        server.end()
    assert [(span["process"], span["side"], span["name"]) for span in spans(folder)] == [
        (process, "public", "GET /"),
        (process, "private", "GET /"),
    ]


@pytest.mark.parametrize("preload", [(), ("--preload",)])
def test_each_worker_has_a_provider_of_its_own(preload: tuple[str, ...], folder: Path) -> None:
    with instrumented(folder, "--workers", "2", *preload) as server:
        workers = ask_both(server, 2)
        both = {(worker, side) for worker in workers for side in ("public", "private")}
        assert eventually(lambda: seen(folder) == both)  # while they serve: the threads of exporters run
        others = [child for child in psutil.Process(server.process.pid).children() if child.pid not in workers]
        assert [child.num_threads() for child in others] == [1] * len(others)  # what serves nothing exports nothing
        assert server.end() == 0
    found = spans(folder)
    assert {span["process"] for span in found} == workers
    assert all(span["made"] == span["process"] for span in found)
    if INSTANCE_IDS:
        assert len({span["of"]["service.instance.id"] for span in found}) == 2
    assert "--preload" not in server.output


def test_the_process_under_the_reloader_is_instrumented(folder: Path) -> None:
    with instrumented(folder, "--reload") as server:
        server.wait_for("Application startup complete")
        for side in ("public", "private"):  # a reloader speaks before it serves
            assert eventually(lambda side=side: not is_refused(server.url(side)))  # type: ignore[misc]
        (process,) = ask_both(server, 1)
        assert process != server.process.pid
        assert eventually(lambda: seen(folder) == {(process, "public"), (process, "private")})


def test_threads_of_the_sdk_that_an_import_starts_are_no_reason_to_warn(folder: Path) -> None:
    setting_up = """
from opentelemetry import trace
from opentelemetry.instrumentation.fastapi import FastAPIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from lines import Exporter

provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(Exporter()))
trace.set_tracer_provider(provider)
FastAPIInstrumentor.instrument_app(app)
"""
    (folder / "shop.py").write_text(SHOP + setting_up)
    arguments = ("shop:app", "--workers", "2", "--preload", *FREE)
    with launched(*arguments, cwd=folder, environ=ENVIRON) as server:
        workers = ask_both(server, 2)
        assert eventually(lambda: seen(folder) == {(one, side) for one in workers for side in ("public", "private")})
        assert "has started threads" not in server.output


def test_telemetry_that_cannot_be_set_up_stops_nothing(folder: Path) -> None:
    (folder / "lines.py").write_text("raise ImportError('broken')\n")
    with instrumented(folder, "--workers", "2", "--preload") as server:
        server.wait_for("OpenTelemetry cannot be set up in this worker: .*broken", count=2)
        assert len(ask_both(server, 2)) == 2


def test_the_steps_of_auto_instrumentation_can_be_taken_one_by_one() -> None:
    from opentelemetry.instrumentation.auto_instrumentation import _load

    assert [
        list(inspect.signature(step).parameters)
        for step in (_load._load_distro, _load._load_instrumentors, _load._load_configurators)
    ] == [[], ["distro"], []]
