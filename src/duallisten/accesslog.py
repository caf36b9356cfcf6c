"""The side of a connection in the access log.

uvicorn writes a line per request through the logger `uvicorn.access`, and a line per WebSocket handshake through
`uvicorn.error`. On the public side both stay as they are, byte for byte. On the private side the same line ends in
` (private)`. Where `logging` writes it, its record has the side in `side`; where nobody would see a difference, the
lines are written without it (`duallisten.accesslines`).

uvicorn's `AccessFormatter` builds its line from the record's arguments and not from its message, so the suffix has to
be added behind it: `mark_private_lines` wraps such formatters where logging has just been configured. Any other
formatter is a user's own, and sees the suffix in the message.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, MutableMapping
from typing import Any

from uvicorn.logging import AccessFormatter

from duallisten.accesslines import ACCESS_LOGGER, HANDSHAKE, SUFFIXES, AccessLines, is_as_uvicorn_has_it
from duallisten.admission import Side

PRIVATE = SUFFIXES["private"]


class AccessLog:
    """The access log of a process, as its protocols write it.

    lines: those that are yet to be written
    """

    def __init__(self) -> None:
        self._logger = logging.getLogger(ACCESS_LOGGER)
        self.lines = AccessLines(self._logger)
        sides: tuple[Side, ...] = ("public", "private")
        self._writers = {side: self.lines.writer(side) for side in sides}
        self._loggers = {side: SideAccessLogger(self._logger, side) for side in sides}

    def logger(self, side: Side) -> Any:
        """Give what stands in a new connection's protocol where uvicorn's access logger would."""
        return (self._writers if is_as_uvicorn_has_it(self._logger, _formatter_of) else self._loggers)[side]

    def write(self) -> None:
        """Write what is left, before the process ends."""
        self.lines.write()


class SideAccessLogger:
    """Logs access lines through `logging`, with their side."""

    def __init__(self, logger: logging.Logger, side: Side) -> None:
        self._logger = logger
        self._suffix = SUFFIXES[side]
        self._record = {"side": side}

    def info(self, message: str, *arguments: object) -> None:
        """Log an access line."""
        self._logger.info(message + self._suffix, *arguments, extra=self._record)


class ProtocolLogger(logging.LoggerAdapter[logging.Logger]):
    """Stands in a protocol where uvicorn's error logger would, and says more.

    extra: what it says, as attributes of each record
    """

    def __init__(self, extra: Mapping[str, object] | None = None) -> None:
        super().__init__(logging.getLogger("uvicorn.error"), extra)

    @property
    def level(self) -> int:
        """The level of the logger behind it, which uvicorn's protocols compare with."""
        return self.logger.level


class PrivateWebSocketLogger(ProtocolLogger):
    """The logger of a private WebSocket's protocol, which marks its handshake lines."""

    def __init__(self) -> None:
        super().__init__({"side": "private"})

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Mark the line if it is one of uvicorn's handshake lines."""
        is_handshake = isinstance(msg, str) and msg.startswith(HANDSHAKE)
        return super().process(msg + PRIVATE if is_handshake else msg, kwargs)


class _SideFormatter(logging.Formatter):
    """Formats with the formatter that was there, and appends the mark to private lines."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        line = self.formatter.format(record)
        return line + PRIVATE if getattr(record, "side", None) == "private" else line


def mark_private_lines() -> None:
    """Wrap the formatters that would lose the mark; called whenever logging has been configured."""
    for handler in logging.getLogger(ACCESS_LOGGER).handlers:
        if isinstance(handler.formatter, AccessFormatter):
            handler.setFormatter(_SideFormatter(handler.formatter))


def _formatter_of(handler: logging.Handler) -> Any:
    """Give a handler's formatter, without what `mark_private_lines` has put around it."""
    formatter = handler.formatter
    return formatter.formatter if type(formatter) is _SideFormatter else formatter
