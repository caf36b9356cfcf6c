"""Observers of the engine (access log, request ids, counters, spans), and the scoreboard that keeps the counters."""

from duallisten.observability.access_log import AccessLines, TextAccessLog, TextHandshakeLog, full_path
from duallisten.observability.lifecycle import Lifecycle, Phase, PhaseObserver
from duallisten.observability.memory import resident_bytes
from duallisten.observability.request_counter import RequestCounter
from duallisten.observability.scoreboard import ProcessView, RowRef, Scoreboard, SideView, View
from duallisten.observability.scoreboard_layout import (
    BOUNDS,
    BUCKETS,
    HISTORY,
    HISTORY_WORDS,
    METHODS,
    SIDES,
    STATUSES,
    Cell,
    Head,
    bits,
)

__all__ = [
    "BOUNDS",
    "BUCKETS",
    "HISTORY",
    "HISTORY_WORDS",
    "METHODS",
    "SIDES",
    "STATUSES",
    "AccessLines",
    "Cell",
    "Head",
    "Lifecycle",
    "Phase",
    "PhaseObserver",
    "ProcessView",
    "RequestCounter",
    "RowRef",
    "Scoreboard",
    "SideView",
    "TextAccessLog",
    "TextHandshakeLog",
    "View",
    "bits",
    "full_path",
    "resident_bytes",
]
