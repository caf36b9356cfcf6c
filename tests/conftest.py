"""What every test may use."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator

import pytest

from tests.support.needs import OF_FIXTURES, lacking


@pytest.hookimpl(tryfirst=True)  # before markers are selected by -m
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for fixture in getattr(item, "fixturenames", ()):
            for marker in OF_FIXTURES.get(fixture, ()):
                item.add_marker(marker)


@pytest.hookimpl(tryfirst=True)  # before fixtures are made
def pytest_runtest_setup(item: pytest.Item) -> None:
    trouble = lacking(item)
    if trouble and os.environ.get("CI"):
        pytest.fail(f"this test must run on CI: {trouble}", pytrace=False)
    if trouble:
        pytest.skip(trouble)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on what the machine's environment happens to say."""
    names = ("PORT", "WEB_CONCURRENCY", "FORWARDED_ALLOW_IPS", "CONTAINER", "APP", "CONTAINER_VERSION")
    for name in os.environ:
        if name in names or name.startswith(("DUALLISTEN_", "UVICORN_", "SCALINGO_")):
            monkeypatch.delenv(name)
    # httpx reads all authorities for each client, which takes 25 ms; here it meets none but a test's own.
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("SSL_CERT_DIR", "/nonexistent")


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
