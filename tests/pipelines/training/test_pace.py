"""The pace of a training that ends after minutes: timed once, kept by its run, and shared by runs side by side."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from making import QUIET

from tonemill.audiotools.errors import UsageError
from tonemill.models.effect.settings import config_of_network
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.runs.run import Run, TrainConfig
from tonemill.pipelines.training import pace
from tonemill.pipelines.training.library import train_each
from tonemill.pipelines.training.listener import Listener
from tonemill.pipelines.training.loop import train

MINUTES = TrainConfig(minutes=0.005, batch_size=2, listen_clips=1)
"""0.3 s."""


@pytest.fixture(autouse=True)
def unvalidated(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Listener, "listen", lambda *_: None)


def settings_of(**settings: Any) -> Any:
    allowed = ("short", "noise", "silence", "offset")
    return config_of_network("fir")(taps=64, length=64, stability_seconds=0.0, allow=allowed, **settings)


def trained(corpus: Corpus, folder: Path, more: Any = MINUTES, **settings: Any) -> Run:
    return train("effect", settings_of(**settings), more, corpus, folder, QUIET).run


def decay(run: Run) -> int:
    return int(run.model_config["decay_steps"])


def test_the_rate_falls_over_the_steps_that_fit_the_minutes(
    captures: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pace, "_seconds_of_a_step", lambda *_: 0.003)
    settings = dataclasses.replace(MINUTES, where="effect == 'fuzz'")
    assert decay(trained(captures, tmp_path / "run", settings)) == 100
    found = train_each("effect", settings_of(), MINUTES, captures, tmp_path / "each", "effect", QUIET)
    assert [decay(one.run) for one in found] == [33, 33, 33], "three share the minutes"
    monkeypatch.setattr(pace, "_seconds_of_a_step", lambda *_: 0.001)
    longer = dataclasses.replace(settings, minutes=0.01)
    assert decay(trained(captures, tmp_path / "run", longer)) == 100, "a run that goes on keeps its pace"
    assert decay(trained(captures, tmp_path / "stated", settings, decay_steps=7)) == 7
    steps = dataclasses.replace(settings, steps=6, minutes=None)
    assert decay(trained(captures, tmp_path / "steps", steps)) == 6000, "so that 6 steps and 6 more are 12"


def test_steps_are_timed(captures: Corpus, tmp_path: Path) -> None:
    begun = dataclasses.replace(MINUTES, where="effect == 'fuzz'")
    run = trained(captures, tmp_path / "run", begun)
    assert 0.1 < decay(run) / run.checkpoint().step < 10


@pytest.mark.parametrize("minutes", [0.0, -1.0, math.inf])
def test_minutes_have_an_end(minutes: float) -> None:
    with pytest.raises(UsageError, match=rf"--minutes is {minutes}; it must be (more than 0|finite)"):
        TrainConfig(minutes=minutes)
