"""Which workers serve which listeners."""

from __future__ import annotations

import pytest

from duallisten import LaunchError
from duallisten.listeners.admission import Admission
from duallisten.listeners.plan import Listener, Plan
from duallisten.listeners.pools import make_pools, whole
from duallisten.net import TCPAddress

PUBLIC = Listener("public", (TCPAddress("0.0.0.0", 5000),))
PRIVATE = Listener("private", (TCPAddress("10.240.0.5", 9240),))
BOTH = Plan(PUBLIC, PRIVATE, Admission(()))


def test_without_private_workers_all_serve_both_sides() -> None:
    (pool,) = make_pools(BOTH, workers=4, private_workers=0)
    assert (pool.size, pool.plan) == (4, BOTH)
    assert set(pool.sides) == {"public", "private"}


def test_private_workers_serve_the_private_side_and_the_others_the_public_one() -> None:
    public, private = make_pools(BOTH, workers=4, private_workers=2)
    assert (public.sides, public.size) == (("public",), 4)
    assert (private.sides, private.size) == (("private",), 2)
    assert whole(public.plan) == whole(private.plan) == BOTH, "each knows what the others serve"


def test_where_one_side_is_open_it_has_all_workers() -> None:
    (public,) = make_pools(BOTH._replace(private=None), workers=4, private_workers=2)
    assert (public.sides, public.size) == (("public",), 4)
    (private,) = make_pools(BOTH._replace(public=None), workers=4, private_workers=2)
    assert (private.sides, private.size) == (("private",), 2)
    (private,) = make_pools(BOTH._replace(public=None), workers=4, private_workers=0)
    assert private.size == 4


def test_one_socket_for_both_sides_cannot_be_divided() -> None:
    with pytest.raises(LaunchError, match="--private-workers needs a private port of its own"):
        make_pools(BOTH._replace(shared=True), workers=1, private_workers=1)
