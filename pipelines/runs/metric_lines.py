"""Read the numbers of a run from metrics.jsonl, a line of JSON per logged step."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

METRICS: Final = "metrics.jsonl"

_AXES: Final = frozenset({"step", "seconds"})


def encoded(record: Mapping[str, Any]) -> bytes:
    """A line of metrics.jsonl."""
    return (json.dumps(record) + "\n").encode()


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The lines of a metrics.jsonl, each an object with a step; one that was cut while it was written is left out."""
    found = []
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else ():
        try:
            record = json.loads(line) if line.endswith(b"\n") else None
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int | float):
            found.append(record)
    return found


def last_metrics(path: Path, step: float = float("inf")) -> dict[str, Any]:
    """The last value of each figure at or before a step."""
    last: dict[str, Any] = {}
    for record in read_lines(path):
        if record["step"] <= step:
            last |= record
    return last


def read_metrics(path: Path) -> dict[str, tuple[Any, Any]]:
    """Steps and values of each metric, as arrays; what is no number is left out."""
    import numpy as np

    found: dict[str, tuple[list[float], list[float]]] = defaultdict(lambda: ([], []))
    for record in read_lines(path):
        step = record["step"]
        for name, value in record.items():
            if name not in _AXES and isinstance(value, int | float) and not isinstance(value, bool):
                found[name][0].append(float(step))
                found[name][1].append(float(value))
    return {name: (np.array(steps), np.array(values)) for name, (steps, values) in found.items()}
