"""`opentelemetry-instrument` for every process of a launch: spawned and forked workers, and the reloader's process.

That command puts a folder with a `sitecustomize` module first in `PYTHONPATH`, and then executes the program. The
facts:

- A spawned process inherits `PYTHONPATH` and runs that module before anything else. So it has its own providers, with
  its own `service.instance.id` if the SDK makes one (1.43). But before 0.63b0 the module removed its folder from
  `PYTHONPATH` for good, so it is put back here. Python's `multiprocessing.resource_tracker`, a process that serves
  nothing, is started first, without the folder.
- A fork (`--preload`) inherits the state of the fork server. The SDK restarts its own threads in a fork. But the
  exporters' connections stay the fork server's, locks stay as another thread has left them, and before 1.44 the
  resource stays the same, too. So the fork server patches the libraries, which has to happen before the application is
  imported, and makes no providers: until there are some, the API returns proxies. Each fork makes its own providers.

If telemetry cannot be set up, that is logged, as that command does, and the launch goes on.
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
    """Ensure that processes started from now on are instrumented if this one is."""
    from multiprocessing import resource_tracker

    if (folder := _folder()) is None:
        return
    with _without(folder):
        resource_tracker.ensure_running()
    _put_back(folder)


@contextmanager
def unconfigured() -> Iterator[bool]:
    """Let a process that is started within the block be instrumented in two steps (`patch_libraries`, `configure`).

    Yields whether it has to run them: this process is instrumented, and its OpenTelemetry has the two steps.
    """
    folder = _folder()
    if folder is None or _steps() is None:
        yield False
        return
    with _without(folder):
        yield True


def patch_libraries() -> None:
    """Instrument the libraries that are imported from now on; their telemetry is exported after `configure`."""
    from opentelemetry.instrumentation import auto_instrumentation

    _put_back(str(Path(str(auto_instrumentation.__file__)).parent))
    load = _steps()
    try:
        distro = load._load_distro()
        distro.configure()
        load._load_instrumentors(distro)
    except Exception as error:  # a distribution may raise any error; serve without telemetry then
        logger.error("OpenTelemetry cannot instrument the application: %r", error)


def configure() -> None:
    """Build the providers of this process."""
    try:
        _steps()._load_configurators()
    except Exception as error:
        logger.error("OpenTelemetry cannot be set up in this worker: %r", error)


def _folder() -> str | None:
    """Return the folder that `opentelemetry-instrument` has added to `PYTHONPATH`; None if it has not run."""
    auto = sys.modules.get("opentelemetry.instrumentation.auto_instrumentation")
    custom = getattr(sys.modules.get("sitecustomize"), "__file__", None)
    if auto is None or auto.__file__ is None or custom is None:
        return None
    folder = Path(auto.__file__).parent
    return str(folder) if Path(custom).parent == folder else None


def _steps() -> Any:
    """Return the module with the separate steps of auto-instrumentation; None if this version has no such steps."""
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
    """Remove the folder from `PYTHONPATH` within the block: processes started there are not instrumented at once."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in _paths() if path != folder)
    try:
        yield
    finally:
        os.environ.pop("PYTHONPATH")
        if before is not None:
            os.environ["PYTHONPATH"] = before
