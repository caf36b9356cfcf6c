"""The side of a connection in the access log.

uvicorn writes a line per request through the logger `uvicorn.access`, and a line per WebSocket handshake through
`uvicorn.error`. On the public side both stay as they are, byte for byte. On the private side the same line ends in
` (private)`, and its log record has `side = "private"`.

uvicorn's `AccessFormatter` builds its line from the record's arguments and not from its message, so the suffix has to
be added behind it: `mark_private_lines` wraps such formatters where logging has just been configured. Any other
formatter is a user's own, and sees the suffix in the message.
"""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from uvicorn.logging import AccessFormatter

SUFFIX = " (private)"
ACCESS_LOGGER = "uvicorn.access"
_RECORD = {"side": "private"}


class PrivateAccessLogger:
    """Stands in a private connection's protocol where uvicorn's access logger would."""

    def __init__(self) -> None:
        self._logger = logging.getLogger(ACCESS_LOGGER)

    def info(self, message: str, *arguments: object) -> None:
        """Log an access line of the private side."""
        self._logger.info(message + SUFFIX, *arguments, extra=_RECORD)


class PrivateWebSocketLogger(logging.LoggerAdapter[logging.Logger]):
    """Stands in a private WebSocket's protocol where uvicorn's error logger would, and marks its handshake lines."""

    def __init__(self) -> None:
        super().__init__(logging.getLogger("uvicorn.error"), _RECORD)

    @property
    def level(self) -> int:
        """The level of the logger behind it, which uvicorn's protocols compare with."""
        return self.logger.level

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Mark the line if it is one of uvicorn's handshake lines."""
        is_handshake = isinstance(msg, str) and msg.startswith('%s - "WebSocket ')
        return super().process(msg + SUFFIX if is_handshake else msg, kwargs)


class _SideFormatter(logging.Formatter):
    """Formats with the formatter that was there, and appends the mark to private lines."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        line = self.formatter.format(record)
        return line + SUFFIX if getattr(record, "side", None) == "private" else line


def mark_private_lines() -> None:
    """Wrap the formatters that would lose the mark; called whenever logging has been configured."""
    for handler in logging.getLogger(ACCESS_LOGGER).handlers:
        if isinstance(handler.formatter, AccessFormatter):
            handler.setFormatter(_SideFormatter(handler.formatter))
