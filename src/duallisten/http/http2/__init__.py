"""HTTP/2 (RFC 9113): many exchanges at a time on one connection, each on a stream of its own.

    connection  ->  streams  ->  exchange  ->  the application
    a stream may also carry a WebSocket: websocket
    used by them: frames (encoding), fields (heads), sending (windows, turns), calm (rate limits)

Frames and stream states are handled here; only the compression of fields (HPACK, RFC 7541) is a library's. Measured on
one machine, CPU time of a small request: `h2` alone takes 99 µs, 66 without its checks of fields; `zttp` alone 9; this
package, with exchange and application, 13 to 17. `zttp` opens the window of a stream as soon as data is parsed, so it
cannot stop a client from sending a body that the application does not read. Its author calls it experimental.

Not supported: server push, and the upgrade from HTTP/1.1, which RFC 9113 has dropped.
"""

from duallisten.http.http2.connection import Http2Connection

__all__ = ["Http2Connection"]
