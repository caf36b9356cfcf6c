"""HTTP/2 (RFC 9113): many exchanges at a time on one connection, each on a stream of its own.

    connection  ->  streams  ->  exchange  ->  the application
    a stream may also carry a WebSocket: websocket
    what they rest on: frames (their bytes), fields (what a head says), sending (windows, turns), calm (floods)

Frames are read and written here, and so are the states of streams; only the compression of fields (HPACK, RFC 7541) is
a library's. Measured on one machine, CPU of a small request: `h2` alone takes 99 µs, 66 without its checks of fields;
`zttp` alone 9; here all of it, exchange and application included, takes 13 to 17. `zttp` opens the window of a stream
as soon as its data is parsed, so that a body which nobody reads cannot be held back; and its author says that it is
experimental.

Not served: server push, and the upgrade from HTTP/1.1, which RFC 9113 has dropped.
"""

from duallisten.http.http2.connection import Http2Connection

__all__ = ["Http2Connection"]
