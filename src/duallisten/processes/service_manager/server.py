"""Telling systemd how a server in one process stands.

- `READY=1` when every listener accepts that there is; a private one that may come later is not waited for, since the
  public side serves meanwhile and a start that takes too long is killed. The status tells of it.
- `STOPPING=1` before anything else is done for the end.
- `WATCHDOG=1` from the event loop, so that a loop that no longer turns is noticed; while it drains, too.
"""

from __future__ import annotations

import asyncio

from duallisten.listeners import Plan
from duallisten.observability import Phase
from duallisten.processes.sd_notify import Notifier
from duallisten.server import Server


def tell_phases(server: Server, notifier: Notifier) -> None:
    """Have a server's phases told to a service manager."""
    was_ready = False

    def hear(phase: Phase) -> None:
        nonlocal was_ready
        if phase is Phase.DRAINING:
            notifier.stopping()
        elif server.plan is not None and was_ready:
            notifier.show(describe(server.plan))
        elif server.plan is not None:
            was_ready = True
            notifier.ready(describe(server.plan))
            if notifier.interval is not None:
                keep_alive(notifier.interval)

    def keep_alive(interval: float) -> None:
        notifier.feed(lambda: True)  # that the event loop turns proves that all is well
        asyncio.get_running_loop().call_later(interval, keep_alive, interval)

    server.lifecycle.observers.append(hear)


def describe(plan: Plan) -> str:
    """Say what is served, for a status line."""
    sides = " and ".join(f"the {listener.side} side" for listener in reversed(plan.listeners))
    return f"Serving {sides}" + ("; the private address is yet to come" if plan.later else "")
