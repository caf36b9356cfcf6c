"""What the tests of the engine share."""

from __future__ import annotations

import pytest

from tests.http.engine import Recorder, Wire


@pytest.fixture
def app(engine: Wire) -> Recorder:
    """The application of a module's engine, which has seen nothing yet."""
    app = engine.app
    assert isinstance(app, Recorder)
    app.seen.clear()
    app.gone.clear()
    return app
