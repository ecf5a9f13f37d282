"""The numbers of a run: means since the last line, nothing after the step that training goes on from, no half line."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from tonemill.pipelines.runs.metric_lines import METRICS, read_metrics
from tonemill.pipelines.runs.metric_log import Metrics


def written(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / METRICS).read_text().splitlines()]


def test_a_line_holds_the_means_since_the_line_before(tmp_path: Path) -> None:
    with Metrics(tmp_path, 0) as metrics:
        for step, loss in enumerate((1.0, 2.0, 6.0, 8.0), 1):
            metrics.collect({"loss": torch.tensor(loss), "same": torch.tensor(0.5)})
            if step % 2 == 0:
                metrics.write(step, step / 4)
        assert metrics.write(5, 9.0) == {}, "nothing was collected"
    assert written(tmp_path) == [
        {"step": 2, "seconds": 0.5, "loss": 1.5, "same": 0.5},
        {"step": 4, "seconds": 1.0, "loss": 7.0, "same": 0.5},
    ]
    steps, losses = read_metrics(tmp_path / METRICS)["loss"]
    assert steps.tolist() == [2, 4] and losses.tolist() == [1.5, 7.0]


def test_steps_that_are_trained_again_stand_there_once(tmp_path: Path) -> None:
    with Metrics(tmp_path, 0) as metrics:
        for step in range(1, 9):
            metrics.add(step, {"loss": float(step)})
    with Metrics(tmp_path, 5) as metrics:
        metrics.add(6, {"loss": 60.0})
    assert [line["step"] for line in written(tmp_path)] == [1, 2, 3, 4, 5, 6]
    assert written(tmp_path)[-1]["loss"] == 60.0


@pytest.mark.parametrize("cut", range(1, 12))
def test_a_line_that_was_cut_by_a_kill_is_left_out(tmp_path: Path, cut: int) -> None:
    with Metrics(tmp_path, 0) as metrics:
        metrics.add(1, {"loss": 1.0})
        metrics.add(2, {"loss": 2.0})
    path = tmp_path / METRICS
    path.write_bytes(path.read_bytes()[:-cut])
    with Metrics(tmp_path, 2) as metrics:
        assert [line["step"] for line in metrics.lines()] == [1]


def broken(*_: object, **__: object) -> None:
    raise RuntimeError("no protobuf")


@pytest.mark.parametrize("method", ["__init__", "add_scalar", "close"])
def test_a_broken_tensorboard_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    monkeypatch.setattr("torch.utils.tensorboard.SummaryWriter." + method, broken)
    lines: list[str] = []
    with Metrics(tmp_path, 0, lines.append) as metrics:
        for step in (1, 2):
            metrics.add(step, {"loss": float(step)})
    assert [line["step"] for line in written(tmp_path)] == [1, 2]
    (line,) = lines
    assert "TensorBoard" in line and "no protobuf" in line and "tonemill doctor" in line


def test_without_tensorboard_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    lines: list[str] = []
    with Metrics(tmp_path, 0, lines.append) as metrics:
        metrics.add(1, {"loss": 1.0})
        metrics.add_clips("rendered", [np.zeros((1, 100), np.float32)], 8000, 1)
    assert len(lines) == 1 and written(tmp_path) == [{"step": 1, "loss": 1.0}]


def test_what_is_no_number_has_no_curve(tmp_path: Path) -> None:
    lines = [{"step": 1, "seconds": 1, "loss": 1, "note": "x", "on": True}, [], {"loss": 3}, {"step": "2", "loss": 4}]
    (tmp_path / METRICS).write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 3, "lo')
    found = read_metrics(tmp_path / METRICS)
    assert list(found) == ["loss"] and found["loss"][1].tolist() == [1.0]
    assert read_metrics(tmp_path / "missing.jsonl") == {}
