"""HTTP/1.1 by httptools, which is llhttp, the parser of Node.js, in C."""

from __future__ import annotations

from typing import Any

import httptools

from duallisten.http.head import BadRequest, Field


class HttpToolsParser:
    """Reads the messages of one connection; see `Parser`.

    After any `Upgrade` that a client asks for, llhttp takes what follows for another protocol's, and httptools skips
    the body. We decide about upgrades ourselves: a request that has one gets a parser for its body that never hears of
    the upgrade.
    """

    __slots__ = ("_body", "_fields", "_is_plain", "_parser")

    def __init__(self) -> None:
        self._fields: list[Field] = []
        self._body: list[bytes] = []
        self._parser: Any = httptools.HttpRequestParser(self)
        self._is_plain = True  # it has read heads without a body, and no upgrade

    def read_head(self, head: bytes) -> list[Field]:
        """Read a whole head."""
        if self._is_plain:
            fields: list[Field] = []
            self._fields = fields
            try:
                self._parser.feed_data(head)
            except (httptools.HttpParserUpgrade, httptools.HttpParserError):
                pass  # an earlier `Proxy-Connection: close` may be why: after it, llhttp takes nothing more
            else:
                return fields
        return self._read_with_new_parser(head)

    def _read_with_new_parser(self, head: bytes) -> list[Field]:
        self._parser = httptools.HttpRequestParser(self)
        self._is_plain = True
        fields: list[Field] = []
        self._fields = fields
        try:
            self._parser.feed_data(head)
        except httptools.HttpParserUpgrade:
            self._read_coding_alone()
        except httptools.HttpParserError as error:
            raise BadRequest(400, f"httptools: {error}") from None
        return fields

    def _read_coding_alone(self) -> None:
        """Feed a new parser that field alone that says that the body comes in chunks."""
        lines = [b"%s: %s\r\n" % field for field in self._fields if field[0] == b"transfer-encoding"]
        self._fields = []
        self._parser = httptools.HttpRequestParser(self)
        self._is_plain = False
        try:
            self._parser.feed_data(b"".join((b"POST / HTTP/1.1\r\n", *lines, b"\r\n")))
        except httptools.HttpParserError as error:
            raise BadRequest(400, f"httptools: {error}") from None

    def skip_body(self) -> None:
        """Use a new parser for the next head."""
        self._is_plain = False

    def read_body(self, data: bytes) -> list[bytes]:
        """Read bytes of a body that comes in chunks."""
        self._is_plain = False
        self._fields = []  # trailers go here, and nowhere else
        body: list[bytes] = []
        self._body = body
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise BadRequest(400, f"httptools: {error}") from None
        return body

    def close(self) -> None:
        """Let go of llhttp, which holds on to this object."""
        self._parser = None

    # What llhttp calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a field."""
        self._fields.append((name.lower(), value.strip(b" \t")))

    def on_body(self, data: bytes) -> None:
        """Take a part of the body."""
        self._body.append(data)
