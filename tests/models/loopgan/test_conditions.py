"""Loops of a class and of numbers: in the condition, in the styles, and refused where they were not trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.contract import Batch, CorpusFacts, Request
from tonemill.models.exchange import Range
from tonemill.models.loopgan import conditions
from tonemill.models.loopgan.model import LoopGAN
from tonemill.models.loopgan.settings import LoopGANConfig, LoopOptions

NUMBERS = {"tempo": Range(80, 160, 0), "energy": Range(0, 1, 3), "same": Range(2, 2, 0)}
FACTS = CorpusFacts("corpora/loops", ("audio",), 16000, 1, {"key": ("C", "D"), "one": ("x",)}, numbers=NUMBERS)
TINY: dict[str, Any] = {"bpm": 400.0, "mel_bands": 16, "n_fft": 512, "width": 4, "griffin_lim_rounds": 0}
TINY |= {"feature_width": 4, "discriminator_width": 8, "label": "key", "numbers": ("tempo",)}


def settled(**settings: Any) -> LoopGANConfig:
    config: LoopGANConfig = LoopGAN.settle(LoopGANConfig(**{**TINY, **settings}), FACTS)
    return config


def batch(samples: int = 8) -> Batch:
    fields: dict[str, list[Any]] = {"key": ["C", "D", "C", "D"], "tempo": [80, 160, 120, 100.0]}
    return Batch({"audio": 0.1 * torch.randn(4, 1, samples)}, fields)


def test_a_condition_is_a_class_and_numbers_in_their_range() -> None:
    config = settled(label_dropout=0.0)
    found = conditions.of_batch(config, batch())
    assert found is not None
    assert found.tolist() == [[1, 0, 0, -1], [0, 1, 0, 1], [1, 0, 0, 0], [0, 1, 0, -0.5]]
    condition = conditions.of_request(config, Request(1, {"key": "D", "tempo": 150}, {}))
    assert condition is not None and condition.tolist() == [0, 1, 0, 0.75]
    assert conditions.of_request(settled(label=None, numbers=()), Request(1, {}, {})) is None


def test_what_a_request_leaves_open_is_drawn_as_in_training() -> None:
    config = settled(label_dropout=0.0)
    drawn = np.stack([conditions.of_request(config, Request(seed, {}, {})) for seed in range(200)])  # type: ignore[misc]
    assert 0.35 < drawn[:, 0].mean() < 0.65 and drawn[:, 2].max() == 0
    assert drawn[:, 3].min() < -0.9 and drawn[:, 3].max() > 0.9
    dropped = conditions.of_request(settled(), Request(1, {}, {}))
    assert dropped is not None and dropped[:3].tolist() == [0, 0, 1]


def test_between_two_seeds_stands_a_mixture() -> None:
    config = settled(label_dropout=0.0)
    seeds = {
        key: next(s for s in range(99) if conditions.of_request(config, Request(s, {}, {}))[0] == key) for key in (0, 1)
    }  # type: ignore[index]
    half = conditions.of_request(config, Request(seeds[1], {"seed_to": seeds[0], "seed_share": 0.25}, {}))
    assert half is not None and half[:2].tolist() == [0.75, 0.25]


@pytest.mark.parametrize("features", ["random", "none"])
def test_both_networks_learn_by_conditions_and_a_render_follows_them(features: str) -> None:
    torch.manual_seed(0)
    model = LoopGAN(settled(features=features), {})
    optimizers = model.optimizers()

    def update(name: str, loss: Tensor) -> None:
        optimizers[name].zero_grad()
        loss.backward()
        optimizers[name].step()

    for step in (1, 2):
        found = model.train().training_step(batch(model.length), step, update)
        assert all(torch.isfinite(one) for one in found.values())
    judged = [one for name, one in model.discriminator.named_parameters() if "condition" in name]
    assert judged and all(one.abs().max() > 0 for one in judged), "they start at 0"
    model.eval()
    condition = [Request(5, {"key": key, "tempo": 100}, {}) for key in ("C", "D")]
    inputs = [model.inputs(one) for one in condition]
    stacked = {name: torch.stack([one[name] for one in inputs]) for name in inputs[0]}
    for truncation in (1.0, 0.0):
        one, two = model.render(stacked, "", LoopOptions(truncation))
        assert (one - two).abs().max() > 1e-3, "truncation draws loops to the mean of their own condition"


def test_fields_that_cannot_be_conditions_are_refused_with_the_mend() -> None:
    for settings, words in (
        ({"numbers": ("nothing",)}, "has tempo"),
        ({"numbers": ("energy",)}, "select 'energy != None'"),
        ({"numbers": ("same",)}, "'same' is 2 in every example"),
        ({"label": "one"}, "in every example"),
    ):
        with pytest.raises(CorpusError, match=words):
            settled(**settings)
    config = settled()
    for fields in ({"key": "E"}, {"tempo": 200}):
        with pytest.raises(UsageError, match="trained on"):
            conditions.of_request(config, Request(1, fields, {}))
