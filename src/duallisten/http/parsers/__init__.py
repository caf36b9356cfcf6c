"""The parsers of HTTP/1.1: one small interface, and a module for each library.

The engine gives a parser the whole head of a message, then its body if it is chunked, and never a byte after them. A
library's parser object is reused only if it has read nothing but plain heads, so that no state of one message can
reach the next.
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
        """Expect the head of the next message: the body of this one has a known length, and is not parsed."""

    def read_body(self, data: bytes) -> list[bytes]:
        """Read bytes of a chunked body.

        Returns:
            The decoded data, in pieces. Trailer fields are dropped.

        Raises:
            BadRequest: It is malformed.
        """

    def close(self) -> None:
        """Release everything: the connection is closed."""


def parser_class(name: ParserName) -> Callable[[], Parser]:
    """Return the parser class for a library's name; `auto` is httptools if it is installed, else h11.

    Raises:
        ImportError: The library is not installed.
    """
    if name == "h11" or (name == "auto" and find_spec("httptools") is None):
        from duallisten.http.parsers.h11 import H11Parser

        return H11Parser
    from duallisten.http.parsers.httptools import HttpToolsParser

    return HttpToolsParser
