"""HTTP/2 (RFC 9113): many exchanges at a time on one connection, each on a stream of its own.

    connection  ->  streams  ->  exchange  ->  the application
    what they rest on: frames (their bytes), fields (what a head says), sending (windows, turns), calm (floods)

Frames are read and written here, and so are the states of streams; only the compression of fields (HPACK, RFC 7541) is
a library's. Measured on one machine, CPU of a request without the application: `h2` 99 µs, 66 without its checks of
fields; uvicorn's `zttp` 9; this 12. `h2` alone takes more than all of a request here. `zttp` opens the window of a
stream as soon as its data is parsed, so that a body which nobody reads cannot be held back, and its author says that it
is experimental.

Not served: WebSocket over HTTP/2 (RFC 8441), server push, and the upgrade from HTTP/1.1, which RFC 9113 has dropped.
"""

from duallisten.http.http2.connection import Http2Connection

__all__ = ["Http2Connection"]
