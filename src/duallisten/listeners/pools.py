"""Worker pools: which workers serve which listeners, and how many of them there are.

Without `--private-workers` every worker serves all listeners. With it the private side has workers of its own and the
others serve the public side alone, so that a public side whose event loops are busy or blocked delays nothing on the
private one: the two share no event loop, no accept queue and no process. A private listener that is yet to be opened
has no pool yet. Pure; a pool is a value.
"""

from __future__ import annotations

from typing import NamedTuple

from duallisten.errors import LaunchError
from duallisten.listeners.plan import Plan
from duallisten.sides import Side


class Pool(NamedTuple):
    """Workers that serve the same listeners.

    plan: the plan, with no other listeners than theirs
    size: how many workers there are at first
    """

    plan: Plan
    size: int

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides that they serve."""
        return self.plan.sides


def make_pools(plan: Plan, workers: int, private_workers: int) -> tuple[Pool, ...]:
    """Return the pools of a launch: one, or one for each side, the public one first.

    workers: how many serve the public side
    private_workers: how many serve the private side alone; 0 for none, when it is served by those of the public side

    Raises LaunchError where both sides have one socket, which no two pools can divide.
    """
    if plan.public is None:
        return (Pool(plan, private_workers or workers),)
    if plan.private is None or not private_workers:
        return (Pool(plan, workers),)
    if plan.shared:
        raise LaunchError(
            f"--private-workers needs a private port of its own: one socket serves both sides on {plan.public}; "
            "change --private-port"
        )
    public = plan._replace(private=None, elsewhere=plan.private)
    private = plan._replace(public=None, elsewhere=plan.public)
    return (Pool(public, workers), Pool(private, private_workers))


def whole(plan: Plan) -> Plan:
    """Return the plan of the whole launch, of which `plan` may be one pool's part."""
    if plan.elsewhere is None:
        return plan
    if plan.elsewhere.side == "public":
        return plan._replace(public=plan.elsewhere, elsewhere=None)
    return plan._replace(private=plan.elsewhere, elsewhere=None)
