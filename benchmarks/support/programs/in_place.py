"""Run a program with duallisten in uvicorn's place: `python in_place.py MODULE [ARGUMENT ...]`.

This is all that a program needs that starts uvicorn itself: its names are assigned before the program imports them.
duallisten's own options come in `OPTIONS_OF_TEST`, a JSON object, for code reads no variables of ours.
"""

import functools
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any

import uvicorn

import duallisten

OPTIONS: dict[str, Any] = json.loads(os.environ.get("OPTIONS_OF_TEST", "{}"))


class Config(duallisten.Config):
    """duallisten's, with the options of this run."""

    def __init__(self, app: Any, *positional: Any, **options: Any) -> None:
        super().__init__(app, *positional, **OPTIONS | options)


def put_in_place() -> None:
    """Assign duallisten's names to uvicorn's module."""
    uvicorn.run = functools.partial(duallisten.run, **OPTIONS)
    uvicorn.Config = Config  # type: ignore[misc]
    uvicorn.Server = duallisten.Server  # type: ignore[misc, assignment]


if __name__ == "__main__":
    put_in_place()
    sys.argv = sys.argv[1:]
    sys.path.insert(0, str(Path.cwd()))
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
