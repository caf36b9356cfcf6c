"""Notifications to systemd: readiness, reloads, shutdown and the watchdog (sd_notify(3)).

They are on if systemd's variables are in the environment; otherwise nothing here is imported. A server in one process
reports its phases (`tell_phases`), a launch with workers reports by `supervisor`, and one with `--reload` by `reload`.
Passed sockets are in `listeners.socket_activation`.

A message is one datagram to `NOTIFY_SOCKET`, with one assignment per line. This rests on these facts:

- systemd accepts messages only from the main process of a service (`NotifyAccess=main`, the default for `Type=notify`).
  So only the launched process sends messages; workers report to their supervisor.
- A path that begins with `@` is in the abstract namespace: a zero byte replaces the `@` (unix(7)).
- `RELOADING=1` carries the time of CLOCK_MONOTONIC at which the reload began (`Type=notify-reload`), and ends with
  `READY=1`.
- systemd kills a service that has given no sign of life for `WATCHDOG_USEC`; sd_watchdog_enabled(3) recommends half of
  that as the interval. `WATCHDOG_PID` is the id of the process that should give it.

The socket is opened once, so that a sign of life does not fail for lack of a descriptor. The variables stay in the
environment, for an application that sends its own messages. No library fits: sdnotify and sd-notify (2017, 2019) do not
know reloads; systemd-python and cysystemd are bindings, which need a compiler and libsystemd, or a megabyte.

Invariants:
    - A message never stops or delays a launch: an error is logged once, and a full queue is waited for `PATIENCE` at
      most.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from duallisten.observability import Phase

if TYPE_CHECKING:
    from duallisten.listeners import Plan
    from duallisten.server import Server

logger = logging.getLogger("uvicorn.error")

PATIENCE = 0.5
"""Seconds that a message may take."""


class Notifier:
    """Tells a service manager the state of a launch.

    tell: sends a message
    interval: seconds between two signs of life; None if the watchdog is off
    """

    def __init__(self, tell: Callable[[str], None], interval: float | None = None) -> None:
        self.tell = tell
        self.interval = interval
        self._stopping = False

    def ready(self, status: str) -> None:
        """Tell that the launch or a reload is complete."""
        self.tell(f"READY=1\nSTATUS={status}")

    def reloading(self, status: str) -> None:
        """Tell that a reload begins; `ready` ends it."""
        self.tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}\nSTATUS={status}")

    def show(self, status: str) -> None:
        """Set the status line of `systemctl status`."""
        self.tell(f"STATUS={status}")

    def stopping(self) -> None:
        """Tell, once, that the shutdown has begun."""
        if not self._stopping:
            self._stopping = True
            self.tell("STOPPING=1\nSTATUS=Shutting down")

    def feed(self, alive: Callable[[], bool]) -> bool:
        """Send a sign of life if the watchdog is on and `alive()`; return whether it was sent."""
        if self.interval is None or not alive():
            return False
        self.tell("WATCHDOG=1")
        return True


class NotifySocket:
    """The socket that systemd listens on.

    path: the value of `NOTIFY_SOCKET`
    """

    def __init__(self, path: str) -> None:
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE)
        self._failed = False

    def __call__(self, message: str) -> None:
        """Send a message; the first failure is logged."""
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            if not self._failed:
                logger.warning("Cannot send %s to the service manager: %s", message.partition("\n")[0], error)
            self._failed = True


def make_notifier(environ: Mapping[str, str], process: int) -> Notifier | None:
    """Build the notifier; None if `NOTIFY_SOCKET` cannot be used.

    process: the id of this process
    """
    path = environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        logger.warning("NOTIFY_SOCKET=%s is neither a path nor an abstract name: readiness notification is off", path)
        return None
    try:
        return Notifier(NotifySocket(path), watchdog_interval(environ, process))
    except OSError as error:
        logger.warning("Cannot open a socket for the service manager: %s; readiness notification is off", error)
        return None


def watchdog_interval(environ: Mapping[str, str], process: int) -> float | None:
    """Return the seconds between two signs of life; None if systemd expects none from this process."""
    text = environ.get("WATCHDOG_USEC")
    if text is None or environ.get("WATCHDOG_PID", str(process)) != str(process):
        return None
    if not text.isdecimal() or int(text) == 0:
        logger.warning("WATCHDOG_USEC=%s is not a number of microseconds: the watchdog is not fed", text)
        return None
    return int(text) / 2e6


def tell_phases(server: Server, notifier: Notifier) -> None:
    """Tell a service manager the phases of a server.

    - `READY=1` when every listener accepts that exists by then. A private listener that may come later is not waited
      for: the public side serves meanwhile, and systemd kills a start that takes too long. The status mentions it.
    - `STOPPING=1` before any other step of the shutdown.
    - `WATCHDOG=1` from the event loop, also while it drains, so that systemd notices a blocked loop.
    """
    was_ready = False

    def hear(phase: Phase) -> None:
        nonlocal was_ready
        if phase is Phase.DRAINING:
            notifier.stopping()
        elif phase.serves and server.plan is not None:
            tell = notifier.show if was_ready else notifier.ready
            tell(describe(server.plan))
            if not was_ready:
                keep_alive()
            was_ready = True

    def keep_alive() -> None:
        if notifier.interval is not None:
            notifier.feed(lambda: True)  # this call runs in the event loop, so the loop is not blocked
            asyncio.get_running_loop().call_later(notifier.interval, keep_alive)

    server.lifecycle.observers.append(hear)


def describe(plan: Plan) -> str:
    """Return which sides are served, for a status line."""
    sides = " and ".join(f"the {listener.side} side" for listener in reversed(plan.listeners))
    return f"Serving {sides}" + ("; waiting for the private address" if plan.later else "")
