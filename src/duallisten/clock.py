"""The wall clock: for what is shown to a person or a collector, never for a decision, for it can be set back."""

from __future__ import annotations

import time


def now() -> float:
    """Give the time, in seconds since the epoch."""
    return time.time()
