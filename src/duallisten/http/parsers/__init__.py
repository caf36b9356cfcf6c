"""The parsers of HTTP/1.1: one small interface, and a module for each library behind it.

The engine gives a parser the whole head of a message, then its body if that comes in chunks, and never a byte of what
follows. A library's own parser that has read anything but a plain head is not used again, so that nothing of one
message can reach the next.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from typing import Protocol

from duallisten.http.head import Field
from duallisten.http.settings import ParserName


class Parser(Protocol):
    """Reads the messages of one connection, one after the other."""

    def read_head(self, head: bytes) -> list[Field]:
        """Read a whole head, up to the empty line at its end.

        Returns:
            Its fields: names in lower case, values without white space around them.

        Raises:
            BadRequest: It is malformed.
        """

    def skip_body(self) -> None:
        """Expect the head of another message next: this one's body is of known length, and not read here."""

    def read_body(self, data: bytes) -> list[bytes]:
        """Read bytes of a body that comes in chunks.

        Returns:
            What they hold once decoded, in pieces. Fields of a trailer section are thrown away.

        Raises:
            BadRequest: It is malformed.
        """

    def close(self) -> None:
        """Let go of everything: the connection has ended."""


def parser_class(name: ParserName) -> Callable[[], Parser]:
    """Return what makes a parser by the name of its library; `auto` is httptools where it is installed, else h11.

    Raises:
        ImportError: The library is not installed.
    """
    if name == "h11" or (name == "auto" and find_spec("httptools") is None):
        from duallisten.http.parsers.h11 import H11Parser

        return H11Parser
    from duallisten.http.parsers.httptools import HttpToolsParser

    return HttpToolsParser
