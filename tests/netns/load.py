"""Load: run inside a namespace, it asks again and again until its standard input ends, and prints what became of it.

It is a script of its own, on the standard library alone. Its argument is JSON (see `loads.py`). It prints
`{"answers": …, "failures": […]}`, every failure of whatever kind in it. A client makes a connection for each request,
or keeps its own as a connection pool does: it lets go of one that has ended or was told to be closed. None asks twice.
"""

from __future__ import annotations

import http.client
import json
import select
import sys
import threading
import time
from pathlib import Path


class Resolver:
    """A name whose address stands in a file, and is remembered for as long as its record may be.

    age: how old the first record is already, in seconds
    """

    def __init__(self, record: str, ttl: float, age: float) -> None:
        self._record = Path(record)
        self._ttl = ttl
        self._age = age
        self._until = 0.0
        self._address = ("", 0)

    def resolve(self) -> tuple[str, int]:
        """Give the address."""
        now = time.monotonic()
        if now >= self._until:
            host, _, port = self._record.read_text().rpartition(":")
            self._address, self._until = (host, int(port)), now + self._ttl - self._age
            self._age = 0.0
        return self._address


class Client:
    """One that asks, in a thread of its own."""

    def __init__(self, resolver: Resolver, pause: float, *, pooled: bool) -> None:
        self.answers = 0
        self.failures: list[str] = []
        self._resolver = resolver
        self._pause = pause
        self._pooled = pooled
        self._connection: http.client.HTTPConnection | None = None
        self._where = ("", 0)

    def run(self, done: threading.Event) -> None:
        """Ask until done."""
        while not done.wait(self._pause):
            try:
                self._ask()
            except (OSError, http.client.HTTPException, AssertionError) as error:
                self.failures.append(
                    f"{time.time():.3f} {'pooled' if self._pooled else 'single'} {self._where} {error!r}"
                )
                self._close()
        self._close()

    def _ask(self) -> None:
        where = self._resolver.resolve()
        if where != self._where or self._has_ended():
            self._close()
        if self._connection is None:
            self._where, self._connection = where, http.client.HTTPConnection(*where, timeout=20)
        headers = {"Content-Type": "text/plain"} if self._pooled else {"Connection": "close"}
        self._connection.request("POST", "/", body="x", headers=headers)
        response = self._connection.getresponse()
        response.read()
        assert response.status == 200, response.status
        self.answers += 1
        if not self._pooled or response.will_close:
            self._close()

    def _has_ended(self) -> bool:
        sock = self._connection.sock if self._connection is not None else None
        return sock is not None and bool(select.select([sock], [], [], 0)[0])

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def main() -> None:
    """Run as many clients as were asked for; they have not resolved the name all at once."""
    order = json.loads(sys.argv[1])
    count, ttl, done = order["clients"], order["ttl"], threading.Event()
    resolvers = [Resolver(order["record"], ttl, ttl * number / count) for number in range(count)]
    clients = [
        Client(resolver, order["pause"], pooled=number < order["pooled"]) for number, resolver in enumerate(resolvers)
    ]
    threads = [threading.Thread(target=client.run, args=(done,)) for client in clients]
    for thread in threads:
        thread.start()
    sys.stdin.readline()
    done.set()
    for thread in threads:
        thread.join()
    answers = sum(client.answers for client in clients)
    json.dump({"answers": answers, "failures": [each for client in clients for each in client.failures]}, sys.stdout)


if __name__ == "__main__":
    main()
