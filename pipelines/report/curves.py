"""Training curves of runs: every metric of metrics.jsonl over steps, several runs in one chart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tonemill.pipelines.report.charts import Chart, lines
from tonemill.pipelines.report.subject import Place
from tonemill.pipelines.runs.metric_lines import METRICS, read_metrics


def curves(places: Sequence[Place]) -> tuple[list[Chart], list[str]]:
    """A chart of each metric that any run has, and the names of those that never were finite."""
    series: dict[str, list[tuple[int, Any, Any]]] = {}
    for number, place in enumerate(places):
        if place.run is not None:
            for name, (steps, values) in read_metrics(place.folder / METRICS).items():
                series.setdefault(name, []).append((number, steps, values))
    charts, lost = [], []
    for name, some in series.items():
        chart = lines(name, some)
        if chart is None:
            lost.append(name)
        else:
            charts.append(chart)
    return charts, lost
