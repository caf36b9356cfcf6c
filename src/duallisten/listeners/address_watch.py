"""A private address that appears late: wait for it before a launch, or while the public side is served already.

A platform may attach its private network after the container has started. `await_plan` waits for it before anything is
bound (`--private-wait`). With `--private-missing later` the plan is made without it, and an `AddressWatch` keeps
looking, in its own thread, because the check may ask a resolver.

Invariants:

- A watch opens only the sockets of the private listener, bound and not listening.
- It never gives up and never ends the process. It logs other errors once (several addresses, a port in use), and
  tries again.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Coroutine
from multiprocessing import Pipe
from typing import Any

from duallisten.errors import LaunchError, PrivateAddressMissing
from duallisten.listeners import sockets
from duallisten.listeners.plan import Plan, Request, make_plan, sides
from duallisten.listeners.private_addresses import sought
from duallisten.listeners.sockets import BoundSocket
from duallisten.net import Host, read_host

logger = logging.getLogger("uvicorn.error")

POLL_INTERVAL = 0.1
"""Seconds between two checks for an address that a launch waits for."""

WATCH_INTERVAL = 0.5
"""Seconds between two checks while the public side is served."""


def await_plan(
    request: Request,
    read_host: Callable[[], Host],
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Plan:
    """Build the plan, waiting up to `--private-wait` seconds for the private address to appear.

    It blocks while it waits, and raises what `make_plan` raises, with the addresses that were found last. It does not
    wait where the address may come later (`--private-missing`) and the public side can be served meanwhile.
    """
    if request.options.private_missing == "later" and sides(request) != "private":
        return make_plan(request, read_host())
    strict = _strict(request)
    patience = request.options.private_wait or 0.0
    deadline = clock() + patience
    told = False
    while True:
        host = read_host()
        try:
            return make_plan(strict, host)
        except PrivateAddressMissing as error:
            if clock() >= deadline:
                if told and request.options.private_missing != "loopback":
                    raise PrivateAddressMissing(f"waited {patience:g} s: {error}") from None
                return make_plan(request, host)
            if not told:
                logger.info("Waiting up to %g s for %s", patience, sought(request.options))
                told = True
        sleep(POLL_INTERVAL)


def _strict(request: Request) -> Request:
    return request._replace(options=request.options._replace(private_missing="fail"))


class AddressWatch:
    """Looks for a private address until it exists, and binds the private listener.

    Attributes:
        pipe: Is readable when the listener is bound.
    """

    def __init__(self, request: Request) -> None:
        self.pipe, self._told = Pipe(duplex=False)
        self._request = _strict(request)
        self._found: tuple[Plan, list[BoundSocket]] | None = None
        self._stopped = threading.Event()
        self._opening: asyncio.Task[None] | None = None
        threading.Thread(target=self._run, name="duallisten-private-address", daemon=True).start()

    def take(self) -> tuple[Plan, list[BoundSocket]] | None:
        """Return the new plan and the private listener's sockets, once; None before they are bound."""
        found, self._found = self._found, None
        return found

    def hand_over(
        self,
        loop: asyncio.AbstractEventLoop,
        adopt: Callable[[Plan, list[BoundSocket]], Coroutine[Any, Any, None]],
    ) -> None:
        """Call `adopt` in an event loop with the plan and the sockets, when they are there."""

        def take() -> None:
            loop.remove_reader(self.pipe)
            if (found := self.take()) is not None:
                self._opening = loop.create_task(adopt(*found))

        loop.add_reader(self.pipe, take)

    def stop(self) -> None:
        """Stop looking, and close sockets that were bound and not taken."""
        self._stopped.set()
        if (found := self.take()) is not None:
            sockets.close(found[1])

    def _run(self) -> None:
        logged = ""
        while not self._stopped.is_set():
            try:
                plan = make_plan(self._request, read_host())
                bound = sockets.bind(plan._replace(public=None))
            except PrivateAddressMissing:
                pass
            except LaunchError as error:
                if logged != str(error):
                    logged = str(error)
                    logger.error("Cannot open the private side yet: %s; retrying", error)
            else:
                self._found = plan, bound
                self._told.send(None)
                if self._stopped.is_set():  # `stop` was called in this moment
                    self.stop()
                return
            self._stopped.wait(WATCH_INTERVAL)
