"""HTTP/1.1 by httptools, which is llhttp, the parser of Node.js, in C."""

from __future__ import annotations

from typing import Any

import httptools

from duallisten.http.head import BadRequest, Field


class HttpToolsParser:
    """Reads the messages of one connection; see `Parser`.

    After a request with `Upgrade`, llhttp takes the bytes that follow for another protocol, and httptools skips the
    body. We decide about upgrades ourselves. So the body of such a request is read by a new parser that does not know
    of the upgrade.
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
                pass  # perhaps because of an earlier `Proxy-Connection: close`: llhttp accepts nothing after it
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
        """Give a new parser a head with nothing but the Transfer-Encoding field."""
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
        """Read bytes of a chunked body."""
        self._is_plain = False
        self._fields = []  # takes the trailer fields, and is not used
        body: list[bytes] = []
        self._body = body
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            raise BadRequest(400, f"httptools: {error}") from None
        return body

    def close(self) -> None:
        """Release llhttp's parser, which references this object."""
        self._parser = None

    # What llhttp calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Add a header field."""
        self._fields.append((name.lower(), value.strip(b" \t")))

    def on_body(self, data: bytes) -> None:
        """Add a part of the body."""
        self._body.append(data)
