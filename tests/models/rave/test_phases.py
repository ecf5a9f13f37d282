"""A run through both phases from one short clip: the same to the bit wherever it was killed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from making import QUIET, shard_folder
from safetensors.torch import load_file

from tonemill.models.rave.model import Rave
from tonemill.models.rave.settings import VARIANTS
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.runs.checkpoint_folder import WEIGHTS
from tonemill.pipelines.runs.run import TrainConfig
from tonemill.pipelines.training.loop import Trained, train

TINY: dict[str, Any] = {
    "latent_dim": 4,
    "capacity": 2,
    "filter_taps": 8,
    "attenuation_db": 40.0,
    "scales": (64,),
    "length": 4096,
    "fine_tune_after": 3,
    "validate_seconds": 0.25,
}
SETTINGS = TrainConfig(
    steps=5, batch_size=2, device="cpu", listen_every=100, checkpoint_every=100, listen_clips=1, ema=0.9
)


@pytest.fixture(scope="module")
def one_clip(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """A corpus of a single recording of a fifth of a second, shorter than a training clip."""
    folder = tmp_path_factory.mktemp("one")
    (folder / "raw").mkdir()
    draws = np.random.default_rng(0)
    soundfile.write(folder / "raw/noise_1.wav", 0.1 * draws.standard_normal(3200), 16000)
    return shard_folder(folder / "raw", folder / "corpus", pattern="{kind}_{take}", steps=(), valid=0.0)


def trained(corpus: Corpus, folder: Path, steps: int = 5, **changes: Any) -> Trained:
    config = VARIANTS["v1"](**TINY)
    return train("rave", config, replace(SETTINGS, steps=steps, **changes), corpus, folder, QUIET)


@pytest.mark.slow
def test_axes_are_measured_exactly_once_across_kills(
    one_clip: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the last step of phase 1, and in the first of phase 2 after the turn; averages do not blur the axes."""
    calls, whole = [], trained(one_clip, tmp_path / "whole").run.checkpoint()
    turn, step = Rave.turn, Rave.training_step
    monkeypatch.setattr(Rave, "turn", lambda *args: calls.append(1) or turn(*args))
    for killed in (3, 4):

        def dying(model: Rave, batch: Any, number: int, update: Any, killed: int = killed) -> Any:
            if number == killed:
                raise KeyboardInterrupt
            return step(model, batch, number, update)

        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(Rave, "training_step", dying)
            trained(one_clip, tmp_path / "parts", checkpoint_every=1)
    parts = trained(one_clip, tmp_path / "parts", checkpoint_every=1).run.checkpoint()
    assert calls == [1]
    assert parts.digest == whole.digest
    weights = load_file(parts.folder / WEIGHTS)
    basis = next(tensor for name, tensor in weights.items() if name.endswith("axes.basis"))
    torch.testing.assert_close(basis @ basis.T, torch.eye(4), atol=1e-5, rtol=0)
    assert all(torch.isfinite(tensor).all() for tensor in weights.values())
