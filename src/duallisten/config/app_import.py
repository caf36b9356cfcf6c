"""Importing the application: the one step of a launch that runs code of the user's before it is served.

uvicorn prints and exits where an import fails, and lets what the module itself raises through as a traceback. Here
either becomes a `LaunchError` of one line that says what was looked for, what happened, and where; a developer who
reloads or logs at debug level gets the traceback before it.
"""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

from duallisten.config.uvicorn_contract import ImportFromStringError, import_from_string
from duallisten.errors import LaunchError

logger = logging.getLogger("uvicorn.error")


def import_application(app: Any, *, factory: bool, verbose: bool) -> Any:
    """Import `app` if it is a `"module:attribute"`, and call it if it is a factory.

    factory: `app` is a callable that makes the application
    verbose: log the traceback of what the application's own code raises

    Returns the application, or for a factory a callable without arguments that gives what the factory made, as
    uvicorn expects. Raises LaunchError.
    """
    name = repr(app) if isinstance(app, str) else "the application"
    try:
        found = import_from_string(app)
    except ImportFromStringError as error:
        raise LaunchError(f"{name} cannot be imported: {_plain(error)}") from None
    except Exception as error:
        raise LaunchError(f"{name} cannot be imported: {_told(error, verbose)}") from None
    if not factory:
        return found
    return lambda: _call(found, name, verbose)


def _call(factory: Callable[[], Any], name: str, verbose: bool) -> Any:
    try:
        return factory()
    except Exception as error:
        raise LaunchError(f"{name} is not a factory that can be called: {_told(error, verbose)}") from None


def _plain(error: ImportFromStringError) -> str:
    text = str(error).rstrip(".")
    return f"{text}; give it as module:attribute, and its folder with --app-dir"


def _told(error: Exception, verbose: bool) -> str:
    """Say in one line what was raised and by which line of code; the traceback goes to the log if asked for."""
    if verbose:
        logger.error("The application raised an exception", exc_info=error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{error.filename}:{error.lineno}" if isinstance(error, SyntaxError) else f"{last.filename}:{last.lineno}"
    text = " ".join(str(error).split())
    hint = "" if verbose else "; --log-level debug shows the traceback"
    return f"{type(error).__name__}: {text} ({where}){hint}"
