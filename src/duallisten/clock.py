"""The wall clock: for what is shown to a person or a collector, never for a decision, for it can be set back."""

from __future__ import annotations

import time


def iso(seconds: float) -> str:
    """Write a time down, to the second, in UTC (RFC 3339).

    seconds: since the epoch
    """
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


now = time.time
"""Gives the time, in seconds since the epoch; itself, and no function around it, for each line of a log asks."""
