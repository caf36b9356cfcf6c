"""The errors for user code that cannot be imported or called.

The message names the last line of the user's own code in the traceback: an import may fail in `json/decoder.py`, but
the user must look at the code that called it. The traceback is logged before, without the launcher's frames.
"""

from __future__ import annotations

import importlib
import logging
import sys
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any

from duallisten.config.option import similar
from duallisten.errors import LaunchError

logger = logging.getLogger("uvicorn.error")

_OURS = str(Path(__file__).parents[1])
_IMPORT_SYSTEM = ("<frozen importlib", str(Path(importlib.__file__).parent))


def check_import_string(app: Any) -> None:
    """Raise LaunchError where an import string names a file and not a module."""
    if not isinstance(app, str):
        return
    module, _, attribute = app.partition(":")
    path = Path(module)
    if "/" not in module and path.suffix != ".py":
        return
    name = path.name.removesuffix(".py") or "module"
    folder = "" if str(path.parent) == "." else f" --app-dir {path.parent}"
    raise LaunchError(f"{app!r} names a file; name the module: {name}:{attribute or 'app'}{folder}")


def describe_missing(reason: str, app: str) -> str:
    """Say what an import string names that is not there, as uvicorn gives the reason, and what to do."""
    module, _, attribute = app.partition(":")
    if not (module and attribute):
        return f"it must be MODULE:ATTRIBUTE, such as {module or 'shop'}:{attribute or 'app'}"
    if module not in sys.modules:
        return f"{reason.rstrip('.')}; is it in the current folder? --app-dir names another"
    return reason.rstrip(".") + similar(attribute, vars(sys.modules[module]))


def check_callable(app: Any, name: str) -> None:
    """Raise LaunchError where an imported object is not an application."""
    if not callable(app):
        raise LaunchError(f"{name} is not an ASGI application but {_described(app)}")


def call_factory(factory: Any, name: str) -> Any:
    """Call a factory and return its application; raises LaunchError where it fails or returns none."""
    try:
        made = factory()
    except Exception as error:
        if isinstance(error, TypeError) and error.__traceback__ and error.__traceback__.tb_next is None:
            text = " ".join(str(error).split())
            raise LaunchError(
                f"{name} is not a factory, for it cannot be called without arguments ({text}): leave out --factory if "
                "it is the application itself"
            ) from None
        raise LaunchError(f"the factory {name} has failed: {describe_failure(error)}") from None
    if not callable(made):
        if hasattr(made, "close"):  # a coroutine, which Python would else report as never awaited
            made.close()
        raise LaunchError(f"the factory {name} has made {_described(made)}, which is not an ASGI application")
    return made


def _described(found: Any) -> str:
    return "None" if found is None else f"an object of type {type(found).__name__}"


def describe_failure(error: Exception) -> str:
    """Log the traceback of an exception in the user's code, and return it in one line with file and line."""
    trace = _own_part(error.__traceback__)
    logger.error("The application raised an exception", exc_info=(type(error), error, trace))
    filename, line = _place(error, trace)
    text = error.msg if isinstance(error, SyntaxError) else str(error)  # the rest of its text is the place
    return f"{type(error).__name__}: {' '.join(text.split())} ({filename}:{line})"


def _own_part(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback without its first frames, which import or call the user's code."""
    while trace is not None:
        filename = trace.tb_frame.f_code.co_filename
        is_importer = trace.tb_frame.f_globals.get("__name__") == "uvicorn.importer"
        if not (is_importer or filename.startswith((_OURS, *_IMPORT_SYSTEM))):
            break
        trace = trace.tb_next
    return trace


def _place(error: Exception, trace: TracebackType | None) -> tuple[str, int | None]:
    """Return file and line of the last frame of the user's own code; else of the last frame."""
    import sysconfig  # needed only for an error

    if isinstance(error, SyntaxError) and error.filename and Path(error.filename).is_file():
        return error.filename, error.lineno
    frames = traceback.extract_tb(trace) or traceback.extract_tb(error.__traceback__)
    others = (_OURS, "<", *{sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
    own = [frame for frame in frames if not frame.filename.startswith(others)]
    last = (own or frames)[-1]
    return last.filename, last.lineno
