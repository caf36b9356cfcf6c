"""Log lines (text or JSON, `--log-format json`), and tables on standard output.

`JSONFormatter` formats records of `logging`: uvicorn's, ours, or those of an application that uses it for its own
handlers. It relies on these facts: a formatter gets every record that a handler writes; a caller's `extra` becomes
attributes of the record; uvicorn's access records have five arguments (`observability.access_log`).

Strings are encoded as by `json`, in ASCII. So a line has no line break, no control character and no byte that a
terminal or another encoding could change (RFC 8259, 7). An unpaired surrogate is replaced by U+FFFD, because many
readers reject the whole line for it.

Tables are used by `--check`, `--routes`, the registry's command and the control command.

Invariants:
    - The formatter does not fail for a record that `logging` could have written.
    - A caller's field never replaces one of ours.
    - Nothing is cut from a table. A terminal folds long cells; on other outputs (a pipe, a CI log) lines are as long as
      needed.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

ACCESS_LOGGER = "uvicorn.access"

LEVELS = {"critical": 50, "error": 40, "warning": 30, "info": 20, "debug": 10, "trace": 5}
"""The level names of `--log-level`."""


def set_level(level: str) -> None:
    """Set the level of the loggers of `--log-level`, also while they are in use."""
    for name in ("uvicorn.error", ACCESS_LOGGER, "uvicorn.asgi"):
        logging.getLogger(name).setLevel(LEVELS[level])


PRIVATE_MARK = " (private)"
"""The end of an access line of the private side."""

LINE_INTERVAL = 10.0
"""Seconds between two log lines about the same frequent event."""

wall_clock = time.time
"""Returns the seconds since the epoch. It is only for display, because this clock can be set back."""


def utc_timestamp(seconds: float) -> str:
    """Format seconds since the epoch as in RFC 3339, in UTC, to the second."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


class RateLimiter:
    """Lets at most one log line through per `LINE_INTERVAL`, so that a flood of events does not flood the log."""

    def __init__(self) -> None:
        self._next = float("-inf")

    def lets_through(self, now: float) -> bool:
        """Whether a line may be written `now` (seconds of the event loop's clock); if so, it counts as written."""
        if now < self._next:
            return False
        self._next = now + LINE_INTERVAL
        return True


class SideFormatter(logging.Formatter):
    """Wraps a formatter, and appends `PRIVATE_MARK` to lines of the private side."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        line = self.formatter.format(record)
        return line + PRIVATE_MARK if getattr(record, "side", None) == "private" else line


def mark_private_lines(kind: type[logging.Formatter]) -> None:
    """Wrap the access log's formatters of class `kind` in `SideFormatter`; call it after logging is configured."""
    for handler in logging.getLogger(ACCESS_LOGGER).handlers:
        if isinstance(handler.formatter, kind):
            handler.setFormatter(SideFormatter(handler.formatter))


quote = json.encoder.encode_basestring_ascii
"""Encodes a string as JSON."""

_encode = json.JSONEncoder(separators=(",", ":"), allow_nan=False).encode

STANDARD = frozenset(logging.makeLogRecord({}).__dict__) | {"message", "asctime", "taskName", "color_message"}
"""The attributes of a record that are not a caller's `extra`; `color_message` is uvicorn's, for a terminal."""

ACCESS_FIELDS = ("client", "method", "path", "http_version", "status")
"""The five arguments of uvicorn's access records."""

_ESCAPE = re.compile(r"\\(?:u(d[89ab][0-9a-f]{2}\\ud[c-f][0-9a-f]{2})|u(d[89a-f][0-9a-f]{2})|.)")
"""A JSON escape: a surrogate pair, an unpaired surrogate, or another one."""


THREE_DIGITS = tuple(f"{number:03d}" for number in range(1000))
"""All numbers of three digits, because a lookup is faster than formatting."""


@lru_cache(maxsize=8)
def _second(number: int) -> str:
    return utc_timestamp(number).removesuffix("Z")


@lru_cache(maxsize=8)
def timestamp(milliseconds: int) -> str:
    """Format milliseconds since the epoch as in RFC 3339, in UTC."""
    second, rest = divmod(milliseconds, 1000)
    return f"{_second(second)}.{THREE_DIGITS[rest]}Z"


def as_line(values: Mapping[str, Any]) -> str:
    """Encode an object in one line of JSON; values that JSON cannot encode are left out."""
    parts: list[str] = []
    for key, value in values.items():
        try:
            parts.append(f"{quote(key)}:{_encode(value)}")
        except Exception:  # noqa: S112  # a caller's own types can raise anything
            continue
    line = "{" + ",".join(parts) + "}"
    return _ESCAPE.sub(lambda escape: r"\ufffd" if escape[2] else escape[0], line) if "\\ud" in line else line


class JSONFormatter(logging.Formatter):
    """Formats a record as a line of JSON: time, level, logger, message, the caller's `extra`, exception."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end.

        Args:
            record: Any record. One of uvicorn's access log gets the fields `client`, `method`, `path`, `http_version`
                and `status` instead of `message`.
        """
        ours: dict[str, Any] = {
            "time": timestamp(int(record.created * 1000)),
            "level": record.levelname,
            "logger": record.name,
        }
        extra = {key: value for key, value in record.__dict__.items() if key not in STANDARD}
        arguments = record.args
        if record.name == ACCESS_LOGGER and isinstance(arguments, tuple) and len(arguments) == len(ACCESS_FIELDS):
            extra |= zip(ACCESS_FIELDS, arguments, strict=True)  # a user's filter may have changed the arguments
            extra["client"], extra["status"] = extra["client"] or None, extra["status"] or None
        else:
            ours["message"] = _message(record)
        ending: dict[str, str] = {}
        if record.exc_text:
            ending["exception"] = record.exc_text
        elif record.exc_info and record.exc_info[0] is not None:
            ending["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            ending["stack"] = self.formatStack(record.stack_info)
        for key, value in extra.items():
            ours[f"extra_{key}" if key in ours or key in ending else key] = value
        return as_line(ours | ending)


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage().rstrip("\n")
    except Exception as error:  # the arguments do not fit; `logging` would write a traceback of several lines instead
        return f"{record.msg!r} with {record.args!r} cannot be formatted: {error}"


def with_json(log_config: dict[str, Any]) -> dict[str, Any]:
    """Return uvicorn's `log_config` with our formatter instead of uvicorn's two."""
    ours = {"()": f"{__name__}.{JSONFormatter.__qualname__}"}
    return {**log_config, "formatters": {**log_config.get("formatters", {}), "default": ours, "access": ours}}


NOTHING = ("", "-")
"""Empty cells: a column with no other cells is left out."""

UNLIMITED = 1_000_000
"""Width of a line without a terminal, in characters; no table is as wide."""


def print_rows(columns: Sequence[str], rows: Iterable[Sequence[str]], *, always: Sequence[str] = ()) -> None:
    """Print a table without its empty columns; nothing without rows.

    Args:
        columns: The names of the columns.
        rows: The cells of each row.
        always: Columns that are shown even if they are empty.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    cells = list(rows)
    shown = [
        index for index, name in enumerate(columns) if name in always or any(row[index] not in NOTHING for row in cells)
    ]
    if not cells or not shown:
        return
    table = Table()
    for index in shown:
        table.add_column(columns[index], overflow="fold")
    for row in cells:
        table.add_row(*(Text(row[index], overflow="fold") for index in shown))
    Console(width=None if sys.stdout.isatty() else UNLIMITED).print(table)


def print_line(text: str) -> None:
    """Print a line; a terminal wraps it where needed."""
    sys.stdout.write(f"{text}\n")
