"""A crowd of clients in a process of its own: as many connections that send nothing as it is told to hold.

`python -m tests.faults.crowd COUNT PORT…` opens them from several addresses of the loopback interface, in turn to each
port, says so, and holds them until a line is written to its standard input; again and again, until that ends.
"""

from __future__ import annotations

import resource
import socket
import sys
from contextlib import ExitStack

SOURCES = [f"127.0.0.{number}" for number in range(1, 11)]


def main() -> None:
    count, ports = int(sys.argv[1]), [int(port) for port in sys.argv[2:]]
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    while sys.stdin.readline():
        with ExitStack() as stack:
            for number in range(count):
                peer = ("127.0.0.1", ports[number % len(ports)])
                source = (SOURCES[number % len(SOURCES)], 0)
                stack.enter_context(socket.create_connection(peer, timeout=30, source_address=source))
            print("open", flush=True)
            sys.stdin.readline()
        print("closed", flush=True)


if __name__ == "__main__":
    main()
