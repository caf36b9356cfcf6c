"""systemd as a service hears and tells it: readiness, reloads, its end and its watchdog (sd_notify(3)).

All of it is on where systemd's variables are in the environment, and nothing of it is imported elsewhere. A server in
one process tells by its phases (`tell_phases`), a launch with workers by `supervisor`, one with `--reload` by
`reload`. Passed sockets are `listeners.socket_activation`.

A message is one datagram to `NOTIFY_SOCKET`, with an assignment a line. The facts it rests on:

- systemd believes the main process of a service alone (`NotifyAccess=main`, the default for `Type=notify`), so only the
  process that was launched tells anything; workers tell it what they tell their supervisor.
- A path that begins with `@` is in the abstract namespace, where a zero byte stands in its place (unix(7)).
- `RELOADING=1` carries the time of CLOCK_MONOTONIC at which the reload began (`Type=notify-reload`), and ends with
  `READY=1`.
- `WATCHDOG_USEC` is the time after which a service that has given no sign of life is killed; half of it is the interval
  that sd_watchdog_enabled(3) asks for. `WATCHDOG_PID` names the process that is meant.

The socket is opened once: a sign of life must not fail for want of a descriptor. The variables stay, for an application
that has something of its own to tell. No library is small, written in Python and kept: sdnotify and sd-notify (2017,
2019) know no reloads; systemd-python and cysystemd are bindings, which take a compiler and libsystemd, or a megabyte.

Invariants:
    - What is told never stops or holds up a launch: an error is logged once, and a full queue is waited for `PATIENCE`
      at most.
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
    """Tells a service manager how a launch stands.

    tell: sends a message
    interval: seconds between two signs of life; None where none are asked for
    """

    def __init__(self, tell: Callable[[str], None], interval: float | None = None) -> None:
        self.tell = tell
        self.interval = interval
        self._stopping = False

    def ready(self, status: str) -> None:
        """Tell that the launch, or a reload, is complete."""
        self.tell(f"READY=1\nSTATUS={status}")

    def reloading(self, status: str) -> None:
        """Tell that a reload begins, which ends with `ready`."""
        self.tell(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}\nSTATUS={status}")

    def show(self, status: str) -> None:
        """Tell what `systemctl status` shows."""
        self.tell(f"STATUS={status}")

    def stopping(self) -> None:
        """Tell, once, that the end has begun."""
        if not self._stopping:
            self._stopping = True
            self.tell("STOPPING=1\nSTATUS=Ending what was accepted")

    def feed(self, alive: Callable[[], bool]) -> bool:
        """Send a sign of life if one is asked for and `alive`; return whether it was sent."""
        if self.interval is None or not alive():
            return False
        self.tell("WATCHDOG=1")
        return True


class NotifySocket:
    """The socket that systemd listens on.

    path: as `NOTIFY_SOCKET` has it
    """

    def __init__(self, path: str) -> None:
        self._address = "\0" + path[1:] if path.startswith("@") else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(PATIENCE)
        self._failed = False

    def __call__(self, message: str) -> None:
        """Send a message; one that does not arrive is no reason to stop."""
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            if not self._failed:
                logger.warning("The service manager cannot be told %s: %s", message.partition("\n")[0], error)
            self._failed = True


def make_notifier(environ: Mapping[str, str], process: int) -> Notifier | None:
    """Build what tells the service manager; None where the environment names none that can be told.

    process: the number of this process
    """
    path = environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        logger.warning("NOTIFY_SOCKET=%s is neither a path nor an abstract name: readiness notification is off", path)
        return None
    try:
        return Notifier(NotifySocket(path), watchdog_interval(environ, process))
    except OSError as error:
        logger.warning("The service manager cannot be told anything: %s", error)
        return None


def watchdog_interval(environ: Mapping[str, str], process: int) -> float | None:
    """Return the seconds between two signs of life; None where this process need not give any."""
    text = environ.get("WATCHDOG_USEC")
    if text is None or environ.get("WATCHDOG_PID", str(process)) != str(process):
        return None
    if not text.isdecimal() or int(text) == 0:
        logger.warning("WATCHDOG_USEC=%s is no number of microseconds: the watchdog is not fed", text)
        return None
    return int(text) / 2e6


def tell_phases(server: Server, notifier: Notifier) -> None:
    """Tell a service manager of the phases of a server.

    - `READY=1` when every listener accepts that there is; a private one that may come later is not waited for, since
      the public side serves meanwhile and a start that takes too long is killed. The status tells of it.
    - `STOPPING=1` before anything else is done for the end.
    - `WATCHDOG=1` from the event loop, so that a loop that no longer turns is noticed; while it drains, too.
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
            notifier.feed(lambda: True)  # that the event loop turns proves that all is well
            asyncio.get_running_loop().call_later(notifier.interval, keep_alive)

    server.lifecycle.observers.append(hear)


def describe(plan: Plan) -> str:
    """Say what is served, for a status line."""
    sides = " and ".join(f"the {listener.side} side" for listener in reversed(plan.listeners))
    return f"Serving {sides}" + ("; the private address is yet to come" if plan.later else "")
