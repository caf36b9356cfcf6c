"""Applications that fail, in their shutdown or amid an answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.faults.serving import ask_over, faulty, request
from tests.support.running import ask, connect, process_of


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["alone", "workers"])
def test_a_shutdown_that_fails_is_told_and_all_else_is_ended(workers: tuple[str, ...], tmp_path: Path) -> None:
    (tmp_path / "bad-end").touch()
    with faulty(*workers, cwd=tmp_path) as server:
        with connect(server.url("public")) as idle, connect(server.url("private")) as other:
            assert ask_over(idle) and ask_over(other)
            code = server.end()
            assert (idle.recv(1), other.recv(1)) == (b"", b"")
        count = 2 if workers else 1
        assert server.output.count("not so good an end") >= count
        assert server.output.count("Application shutdown failed. Exiting.") == count
        assert server.output.count("Finished server process") == count
        assert "appears unsupported" not in server.output
        assert code == 1


@pytest.mark.parametrize("http", ["httptools", "h11"])
def test_an_answer_that_was_begun_is_seen_to_be_cut(http: str, tmp_path: Path) -> None:
    with faulty("--http", http, cwd=tmp_path) as server:
        for url in (server.url("public"), server.url("private")):
            before = process_of(ask(url))
            for path in ("/cut", "/cut/part", "/cut/length", "/cut/length/part"):
                head, _, body = ask(url, request(path)).partition(b"\r\n\r\n")
                assert not is_complete(head, body), path
            assert process_of(ask(url)) == before
        assert server.output.count("amid an answer") >= 8


def is_complete(head: bytes, body: bytes) -> bool:
    """Tell whether a client takes an answer for a whole one (RFC 9112, 8)."""
    if not head:
        return False
    assert head.startswith(b"HTTP/1.1 200 ")
    if b"transfer-encoding: chunked" in head.lower():
        return body.endswith(b"0\r\n\r\n")
    assert b"content-length: 1000" in head.lower()
    return len(body) == 1000
