"""What serves in this process: the plan, its sockets, what answers on each side, and what accepts.

One value, which the server keeps and everybody else looks at: the heartbeat, the drain, whoever answers while the event
loop is blocked, the status page. It changes while a launch runs: a private address may come late, and a worker may
accept from another's queues, too.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from duallisten.config.uvicorn_contract import ServerState
from duallisten.listeners.accept_loop import AcceptLoop
from duallisten.listeners.acceptor import Acceptor, ListenerService
from duallisten.listeners.admission import Verdict
from duallisten.listeners.plan import Plan
from duallisten.listeners.sockets import BoundSocket
from duallisten.sides import Side


class Listening(NamedTuple):
    """A bound socket, what accepts from it, and what takes the connections."""

    bound: BoundSocket
    server: AcceptLoop
    acceptor: Acceptor


@dataclass(slots=True, eq=False)
class ListenerSet:
    """The listeners of a process.

    Attributes:
        plan: What is to be served; None before it is made.
        bound: The plan's sockets; None before they are bound.
        services: What answers, by verdict; empty before the application has started.
        listening: What is accepted from.
    """

    plan: Plan | None = None
    bound: list[BoundSocket] | None = None
    services: dict[Verdict, ListenerService] = field(default_factory=dict)
    listening: list[Listening] = field(default_factory=list)

    @property
    def private(self) -> ListenerService | None:
        """What answers on the private side."""
        return self.services.get(Verdict.PRIVATE)

    @property
    def accepting(self) -> set[Side]:
        """The sides that connections are accepted for."""
        sides = {one.bound.side for one in self.listening}
        if sides and self.plan is not None and self.plan.shared:  # one socket serves both
            sides.add("private")
        return sides

    def states(self, side: Side | None = None) -> list[ServerState]:
        """Return the connections and tasks of a side, or of both, each state once."""
        services = [service for service in self.services.values() if side in (None, service.side)]
        return list({id(service.state): service.state for service in services}.values())

    def taken(self, side: Side) -> int:
        """Return how many connections a side has, those included that are about to be open."""
        services = [service for service in self.services.values() if service.side == side]
        return sum(len(state.connections) for state in self.states(side)) + sum(one.arriving for one in services)
