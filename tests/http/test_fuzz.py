"""A short run of the fuzzer, always the same; the long ones are made by hand (see `fuzz`)."""

from __future__ import annotations

import pytest

from tests.http import fuzz, reference
from tests.http.streams import ENDED_BY_VERSION, LARGE_ONES, REFUSED, SERVED


@pytest.mark.parametrize("seed", [1, 2])
async def test_streams_that_are_nearly_requests_hide_none(seed: int) -> None:
    sent, faults = await fuzz.run(seed, count=1000)
    assert not faults, "\n".join(map(str, faults))
    assert sent == 1000


def test_the_second_reading_agrees_with_what_is_known() -> None:
    for cases in (*SERVED.values(), LARGE_ONES, ENDED_BY_VERSION):
        for served in cases:
            if b"/early" not in served.sent:
                reading = reference.read(served.sent)
                assert tuple((one.method, one.path, one.body) for one in reading.requests) == served.seen, served.name
                assert reading.end == ("closed" if served in ENDED_BY_VERSION else "open"), served.name
    for refused in (case for cases in REFUSED.values() for case in cases):
        assert reference.read(refused.sent) == ([], "refused"), refused.name
