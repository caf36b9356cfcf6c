"""`opentelemetry-instrument` for every process of a launch: workers, forked ones too, and the reloader's.

That command puts a folder with a `sitecustomize` module before all others in `PYTHONPATH`, and becomes the program. The
facts this rests on:

- A spawned process inherits `PYTHONPATH` and runs that module before anything else: it has providers of its own, with a
  `service.instance.id` of its own where the SDK makes them (1.43). But before 0.63b0 the module took its folder out of
  `PYTHONPATH` for good, so it is put back. A process of Python's own that serves nothing
  (`multiprocessing.resource_tracker`) is started first, without it.
- A fork (`--preload`) has what the fork server has. The SDK starts its own threads again in a fork; but the exporters'
  connections stay the fork server's, locks stay as another thread has left them, and before 1.44 so does the resource.
  So in the fork server libraries are patched before the application is imported, as they must be, and there are no
  providers: what the API gives out until there are some are proxies. Each fork makes its own.

Telemetry that cannot be set up is logged, as by that command, and stops nothing.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

logger = logging.getLogger("uvicorn.error")


def reach_children() -> None:
    """Ensure that the processes that are started from now on are instrumented if this one is."""
    from multiprocessing import resource_tracker

    if (folder := _folder()) is None:
        return
    with _without(folder):
        resource_tracker.ensure_running()
    _put_back(folder)


@contextmanager
def unconfigured() -> Iterator[bool]:
    """Start a process that is to be instrumented in two steps (`patch_libraries`, `configure`), within the block.

    Gives whether it is to be: this process is instrumented, and knows how.
    """
    folder = _folder()
    if folder is None or _steps() is None:
        yield False
        return
    with _without(folder):
        yield True


def patch_libraries() -> None:
    """Have the libraries instrumented that are imported from now on; what they make is exported from `configure` on."""
    from opentelemetry.instrumentation import auto_instrumentation

    _put_back(str(Path(str(auto_instrumentation.__file__)).parent))
    load = _steps()
    try:
        distro = load._load_distro()
        distro.configure()
        load._load_instrumentors(distro)
    except Exception as error:  # whatever a distribution may raise; telemetry is no reason not to serve
        logger.error("OpenTelemetry cannot instrument the application: %r", error)


def configure() -> None:
    """Build the providers of this process."""
    try:
        _steps()._load_configurators()
    except Exception as error:
        logger.error("OpenTelemetry cannot be set up in this worker: %r", error)


def _folder() -> str | None:
    """Return the folder by which `opentelemetry-instrument` has instrumented this process; None if it has not."""
    auto = sys.modules.get("opentelemetry.instrumentation.auto_instrumentation")
    custom = getattr(sys.modules.get("sitecustomize"), "__file__", None)
    if auto is None or auto.__file__ is None or custom is None:
        return None
    folder = Path(auto.__file__).parent
    return str(folder) if Path(custom).parent == folder else None


def _steps() -> Any:
    """Return the module that has the steps of auto-instrumentation one by one; None where it has not."""
    try:
        from opentelemetry.instrumentation.auto_instrumentation import _load
    except ImportError:
        return None
    names = ("_load_distro", "_load_instrumentors", "_load_configurators")
    return _load if all(hasattr(_load, name) for name in names) else None


def _paths() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


def _put_back(folder: str) -> None:
    if folder not in _paths():
        os.environ["PYTHONPATH"] = os.pathsep.join([folder, *_paths()])


@contextmanager
def _without(folder: str) -> Iterator[None]:
    """Have what is started within the block not instrumented from its beginning on."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in _paths() if path != folder)
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before
