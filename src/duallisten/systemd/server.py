"""A server in one process that tells systemd how it stands.

- `READY=1` when every listener accepts that there is; a private one that may come later is not waited for, since the
  public side serves meanwhile and a start that takes too long is killed. The status tells of it.
- `STOPPING=1` before anything else is done for the end.
- `WATCHDOG=1` from the event loop, so that a loop that no longer turns is noticed; while it drains, too.
"""

from __future__ import annotations

import asyncio
import socket

from duallisten.config import Config
from duallisten.ending import DrainStep
from duallisten.plan import Plan
from duallisten.server import Server
from duallisten.sockets import BoundSocket
from duallisten.systemd.notify import Notifier


class NotifyingServer(Server):
    """A server that tells a service manager how it stands."""

    def __init__(self, config: Config, plan: Plan, notifier: Notifier, bound: list[BoundSocket] | None = None) -> None:
        super().__init__(config, plan=plan, bound=bound)
        self.notifier = notifier
        self.drain_steps.append(DrainStep("telling the service manager", self._tell_end))

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start as a server does, and tell."""
        await super().startup(sockets)
        if self.started and self.plan is not None:
            self.notifier.ready(describe(self.plan))
            if self.notifier.interval is not None:
                self._keep_alive(self.notifier.interval)

    async def adopt(self, plan: Plan, bound: list[BoundSocket]) -> None:
        """Open the listener that has come late, and tell."""
        await super().adopt(plan, bound)
        if self.started and self.plan is plan:
            self.notifier.show(describe(plan))

    def is_alive(self) -> bool:
        """Tell whether all is well, which the event loop's asking proves."""
        return True

    def _keep_alive(self, interval: float) -> None:
        self.notifier.feed(self.is_alive)
        asyncio.get_running_loop().call_later(interval, self._keep_alive, interval)

    async def _tell_end(self) -> None:
        self.notifier.stopping()


def describe(plan: Plan) -> str:
    """Say what is served, for a status line."""
    sides = " and ".join(f"the {listener.side} side" for listener in reversed(plan.listeners))
    return f"Serving {sides}" + ("; the private address is yet to come" if plan.later else "")
