"""Scrapes of metrics, for tests."""

from __future__ import annotations

from collections.abc import Iterable

import httpx
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from tests.support.running import DEADLINE

OPENMETRICS = "application/openmetrics-text;version=1.0.0"


def get(url: str, accept: str = "") -> httpx.Response:
    """Scrape a private side."""
    return httpx.get(f"{url}/metrics", headers={"Accept": accept, "Connection": "close"}, timeout=DEADLINE)


class Scrape(dict[str, float]):
    """What was scraped: the value of each series, written as in the text without quotes: `name{label=value,…}`."""

    def __init__(self, url: str, accept: str = "") -> None:
        answer = get(url, accept)
        assert answer.status_code == 200, answer.text
        read = read_openmetrics if "openmetrics" in answer.headers["content-type"] else read_text
        self.families: list[Metric] = list(read(answer.text))
        super().__init__(_series(self.families))

    def named(self, name: str) -> dict[str, float]:
        """The series of a name that are not 0, without that name."""
        return {key.removeprefix(name): value for key, value in self.items() if value and key.split("{")[0] == name}


def _series(families: Iterable[Metric]) -> Iterable[tuple[str, float]]:
    for family in families:
        for sample in family.samples:
            labels = ",".join(f"{key}={value}" for key, value in sorted(sample.labels.items()))
            yield sample.name + (f"{{{labels}}}" if labels else ""), sample.value
