"""What every test may use."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on what the machine's environment happens to say."""
    names = ("PORT", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "CONTAINER", "APP", "CONTAINER_VERSION")
    for name in os.environ:
        if name in names or name.startswith(("DUALLISTEN_", "UVICORN_", "SCALINGO_")):
            monkeypatch.delenv(name)


@pytest.fixture(autouse=True)
def clean_logging() -> Iterator[None]:
    """uvicorn configures logging for the process; no test sees another's."""
    loggers = [logging.getLogger(name) for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")]
    before = [(logger.handlers[:], logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers[:] = handlers
        logger.setLevel(level)
        logger.propagate = propagate
