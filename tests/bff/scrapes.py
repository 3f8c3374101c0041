"""A scrape of the metrics, parsed."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from prometheus_client.parser import text_string_to_metric_families

from app.bff.telemetry.exposition import exposed
from app.bff.telemetry.metrics import Metrics, merged

Sample = tuple[str, Mapping[str, str], float]


class Scrape:
    """The samples of an answer in the text format."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families = {family.name: family for family in text_string_to_metric_families(text)}
        self.samples: list[Sample] = [
            (sample.name, sample.labels, sample.value)
            for family in self.families.values()
            for sample in family.samples
        ]

    @classmethod
    def of(cls, metrics: Metrics) -> Scrape:
        body, _ = exposed(merged([metrics.snapshot()]))
        return cls(body.decode())

    def value(self, name: str, **labels: str) -> float:
        """The sum of the samples with this name and, among others, these labels."""
        return sum(
            value for found, has, value in self.samples if found == name and labels.items() <= has.items()
        )


async def until(metrics: Metrics, name: str, value: float, **labels: str) -> None:
    """Wait until a scrape says so."""
    async with asyncio.timeout(10):
        while Scrape.of(metrics).value(name, **labels) != value:  # noqa: ASYNC110 (nothing else tells)
            await asyncio.sleep(0.01)
