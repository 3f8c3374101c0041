"""Every metric and label that the alerts and the dashboard name exists; the manual's table is the code's."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.bff.telemetry.instruments import INSTRUMENTS, prometheus_label

ROOT = Path(__file__).parents[2]
SAMPLES = {name: each for each in INSTRUMENTS.values() for name in each.sample_names}
OF_PROMETHEUS = {"job", "instance", "le"}  # labels that a scrape or a histogram adds
WORDS = {"sum", "rate", "by", "max", "increase", "offset", "and", "on", "histogram_quantile", "min_over_time"}
WORDS |= {"label_values"}


def alert_expressions() -> Iterator[str]:
    """Each `expr`, on one line or folded over several."""
    text = (ROOT / "deploy/alerts.yml").read_text()
    for found in re.finditer(r"^( +)expr: (?:>\n((?:\1 +.*\n)+)|(.*)\n)", text, re.MULTILINE):
        yield found[2] or found[3]


def dashboard_expressions() -> Iterator[str]:
    dashboard: Any = json.loads((ROOT / "deploy/grafana.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel.get("targets", ()))
    yield from (each["query"]["query"] for each in dashboard["templating"]["list"] if each["name"] == "job")


EXPRESSIONS = [*alert_expressions(), *dashboard_expressions()]


def names_in(expression: str) -> tuple[set[str], set[str]]:
    """The metrics and the labels that an expression names."""
    selectors = " ".join(re.findall(r"\{([^}]*)\}", expression))
    grouped = " ".join(re.findall(r"\b(?:by|on) \(([^)]*)\)", expression))
    labels = set(re.findall(r"(\w+)[=!]", selectors)) | set(re.findall(r"\w+", grouped))
    bare = re.sub(r'\{[^}]*\}|\[[^\]]*\]|"[^"]*"|\b(?:by|on) \([^)]*\)|offset \w+', " ", expression)
    return {name for name in re.findall(r"[a-z_]{3,}", bare) if name not in WORDS} - {"job"}, labels


def test_there_are_alerts_and_panels():
    assert len(list(alert_expressions())) == (ROOT / "deploy/alerts.yml").read_text().count("- alert:") > 6
    assert len(list(dashboard_expressions())) > 20


@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_an_expression_names_metrics_that_exist_with_labels_that_they_have(expression: str):
    metrics, labels = names_in(expression)

    assert metrics
    assert metrics <= set(SAMPLES)
    known = {prometheus_label(label) for name in metrics for label in SAMPLES[name].labels}
    assert labels <= known | OF_PROMETHEUS


def test_the_manual_has_a_row_for_each_metric_in_the_order_of_the_code():
    table = re.findall(
        r"^\| `(\w+)` \| `([\w.]+)` \| (\w+) \|(.*?)\| (.*?) \|$",
        (ROOT / "docs/bff/metrics.md").read_text(),
        re.MULTILINE,
    )

    assert [(*row[:3], re.findall(r"`(\w+)`", row[3]), row[4]) for row in table] == [
        (
            each.prometheus_name,
            each.name,
            each.kind,
            [prometheus_label(label) for label in each.labels],
            each.description,
        )
        for each in INSTRUMENTS.values()
    ]


def test_every_metric_is_in_the_dashboard_or_its_reason_is_known():
    shown = {name for expression in EXPRESSIONS for name in names_in(expression)[0]}

    assert {each.name for each in INSTRUMENTS.values() if not shown & set(each.sample_names)} == set()
