"""Training curves of runs: every metric of metrics.jsonl over steps, several runs in one chart."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from tonemill.pipelines.report.charts import Chart, lines
from tonemill.pipelines.report.subject import Place

METRICS: Final = "metrics.jsonl"
_AXES: Final = frozenset({"step", "seconds"})


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


def read_metrics(path: Path) -> dict[str, tuple[Any, Any]]:
    """Steps and values of each metric; a line that was cut, and what is no number, is left out."""
    found: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for line in path.read_bytes().splitlines() if path.exists() else ():
        try:
            record = json.loads(line)
        except ValueError:
            continue
        step = record.get("step") if isinstance(record, dict) else None
        if not isinstance(step, int | float):
            continue
        for name, value in record.items():
            if name not in _AXES and isinstance(value, int | float) and not isinstance(value, bool):
                found[name][0].append(float(step))
                found[name][1].append(float(value))
    return {name: (np.array(steps), np.array(values)) for name, (steps, values) in found.items()}
