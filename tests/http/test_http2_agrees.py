"""What HTTP/1.1 refuses of a request, HTTP/2 refuses, too; and what it serves, it serves alike."""

from __future__ import annotations

from hpack import Decoder, Encoder
from hypothesis import given, settings
from hypothesis import strategies as some

from duallisten.http.head import BadRequest, Field, RequestLine
from duallisten.http.http2.fields import encode_field, read_request, shape_of
from duallisten.http.parsers import parser_class
from duallisten.http.request import RequestReader
from duallisten.http.settings import Limits

BYTES = some.sampled_from([*b'/?#%*@:[],;=&.~-_aZ09 \t\r\n\0\x7f\x80\xff"<>\\{}|^`'])
TEXT = some.one_of(
    some.lists(BYTES, max_size=8).map(bytes), some.sampled_from([b"/", b"*", b"x", b"x:80", b"http://x/a"])
)
METHOD = some.sampled_from([b"GET", b"POST", b"OPTIONS", b"CONNECT", b"get", b"FOO", b"", b"G T"])
NAMES = [b"a", b"content-length", b"expect", b"transfer-encoding", b"connection", b"host", b"A B", b"a:", b"te", b""]
FIELDS = some.lists(
    some.tuples(some.sampled_from(NAMES), some.one_of(TEXT, some.sampled_from([b"0", b"3", b"+3"]))), max_size=3
)


def by_http_1_1(method: bytes, path: bytes, host: bytes, fields: list[Field]) -> tuple[RequestLine, list[Field]] | None:
    """What HTTP/1.1 makes of a request; None where it refuses it."""
    reader = RequestReader(parser_class("httptools")(), Limits())
    lines = b"".join(b"%b: %b\r\n" % field for field in [(b"host", host), *fields])
    head = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, path, lines)
    try:
        line, found, _ = reader.read_head(head)
    except BadRequest:
        return None
    return line, found


@settings(max_examples=400, deadline=None, derandomize=True)
@given(METHOD, TEXT, TEXT, FIELDS)
def test_nothing_gets_in_that_http_1_1_refuses(method: bytes, path: bytes, host: bytes, fields: list[Field]) -> None:
    pseudo = [(b":method", method), (b":scheme", b"http"), (b":authority", host), (b":path", path)]
    try:
        request = read_request([*pseudo, *fields], 100)
    except BadRequest:
        return
    has_host = any(name == b"host" for name, _ in fields)
    known = by_http_1_1(method, path, host, [field for field in fields if field[0] != b"host"])
    assert known is not None
    line, found = known
    assert (request.line.method, request.line.path, request.line.raw_path, request.line.query) == (
        line.method,
        line.path,
        line.raw_path,
        line.query,
    )
    assert request.fields == found
    assert not has_host or all(value.lower() == host.lower() for name, value in fields if name == b"host")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(some.lists(some.tuples(some.binary(max_size=300), some.binary(max_size=300)), max_size=20), some.booleans())
def test_blocks_are_counted_and_fields_are_encoded_as_the_library_has_them(fields: list[Field], huffman: bool) -> None:
    block = Encoder().encode(fields, huffman=huffman)
    assert shape_of(block).fields == len(fields)
    written = b"".join(encode_field(name, value) for name, value in fields)
    assert shape_of(written) == (len(fields), True)
    decoder = Decoder(1 << 20)
    assert [tuple(field) for field in decoder.decode(written, raw=True)] == fields
    assert [tuple(field) for field in Decoder(1 << 20).decode(block, raw=True)] == fields


@settings(max_examples=100, deadline=None, derandomize=True)
@given(some.binary(max_size=200))
def test_any_bytes_can_be_looked_through(block: bytes) -> None:
    assert shape_of(block).fields <= len(block)
