"""The formatter of JSON log lines, for `logging` configurations of applications: see `duallisten.logs`."""

from duallisten.logs import JSONFormatter

__all__ = ["JSONFormatter"]
