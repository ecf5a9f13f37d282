"""Figures of held-out pairs are those of the signals, for models whose error is known."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import matplotlib.image
import numpy as np
import pytest
import soundfile
import torch

from tonemill.models.contract import CorpusFacts, Request, Validation
from tonemill.models.effect import validation
from tonemill.models.effect.model import Effect
from tonemill.models.effect.settings import config_of_network

RATE = 8000
FACTS = CorpusFacts("corpora/test", ("dry", "wet"), RATE, 1)


def model(network: str = "fir", **settings: Any) -> Effect:
    torch.manual_seed(0)
    chosen = config_of_network(network)
    wanted = {"stability_seconds": 0.5, **({"taps": 1} if network == "fir" else {}), **settings}
    return Effect(Effect.settle(chosen(**wanted), FACTS)).eval()


def pairs(effect: Callable[[np.ndarray], np.ndarray], count: int = 2) -> Iterator[Request]:
    """Noise that is played at four levels, a second each, and what an effect makes of it."""
    for number in range(count):
        draws = np.random.default_rng(number)
        dry = np.concatenate([10 ** (db / 20) * draws.uniform(-1, 1, RATE) for db in (0, -20, -40, -60)])
        dry = dry[None].astype(np.float32)
        yield Request(0, {}, {"dry": dry, "wet": effect(dry).astype(np.float32)})


@pytest.fixture(autouse=True)
def undrawn(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures take most of the time, and one test looks at them."""
    if "pictures" not in request.node.name:
        for name in ("overlay", "error_spectrum", "transfer"):
            monkeypatch.setattr(validation, f"save_{name}_picture", lambda *_: None)


def found(one: Effect, effect: Callable[[np.ndarray], np.ndarray]) -> Validation:
    validation = one.validate(pairs(effect))
    assert validation is not None
    return validation


def test_a_gain_that_is_missed_by_a_tenth_has_an_esr_of_a_hundredth_at_every_level() -> None:
    values = found(model(), lambda dry: dry / 0.9).values
    for name in ("esr", "esr_pre_emphasised", "esr_at_0_db", *(f"esr_at_minus_{db}_db" for db in (20, 40, 60))):
        assert values[name] == pytest.approx(0.01, rel=1e-3), name
    assert values["esr_of_dry"] < 1e-10
    assert values["mae"] == pytest.approx(0.1 / 0.9 * np.mean([1, 0.1, 0.01, 0.001]) / 2, rel=0.03)
    assert "runaway_seconds" not in values


def test_an_error_of_one_level_stays_in_its_row() -> None:
    """Crossover distortion: samples below 0.005 are lost, and all of -60 dB is below it."""
    values = found(model(), lambda dry: np.where(np.abs(dry) < 0.005, 0, dry)).values
    assert values["esr_at_0_db"] < 1e-5
    assert values["esr_at_minus_60_db"] > 1e6  # the wet is silent there, and the output is not


def test_a_wet_that_is_late_is_found_and_reported() -> None:
    validation = found(model(), lambda dry: np.concatenate([dry[:, :1], dry[:, :-1]], axis=1))
    assert validation.values["esr_late"] < 1e-4
    assert validation.values["esr"] > 1
    assert b"ample later would have a smaller error" in validation.files["figures.md"]
    aligned = found(model(), lambda dry: dry / 0.9)
    assert min(aligned.values["esr_early"], aligned.values["esr_late"]) > 100 * aligned.values["esr"]
    assert b"would be nearer" not in aligned.files["figures.md"]


def test_both_errors_are_reported_where_a_network_reads_its_own_output() -> None:
    small = {"context": 8, "width": 8, "depth": 1}
    values = found(model("autoregressive", **small), lambda dry: dry).values
    assert values["esr_teacher_forced"] != values["esr"]
    assert "esr_teacher_forced" not in found(model(), lambda dry: dry).values


@torch.no_grad()
def test_a_model_that_runs_away_is_caught_and_when() -> None:
    """y[n] = 1.01 y[n - 1] + x[n] grows by 1 % a sample."""
    one = model("autoregressive", context=2, width=2, depth=1)
    for parameter in one.network.parameters():
        parameter.zero_()
    layers = one.network.layers
    layers[0].weight[:, 1], layers[0].weight[:, 2] = torch.tensor([1.0, -1.0]), torch.tensor([1.01, -1.01])
    layers[1].weight[0] = torch.tensor([1.0, -1.0])
    values = found(one, lambda dry: dry).values
    assert 0 < values["runaway_seconds"] < 0.2
    assert values["noise_peak"] > 1e5
    assert np.isfinite(list(values.values())).all()
    assert values["silence_peak"] == 0


def test_noise_that_is_louder_than_the_dry_was_is_no_runaway() -> None:
    quiet = (replace(one, audio={k: 0.01 * v for k, v in one.audio.items()}) for one in pairs(np.copy))
    values = model().validate(quiet)
    assert values is not None
    assert values.values["noise_peak"] > 2
    assert "runaway_seconds" not in values.values


def test_pictures_clips_and_the_table_are_there() -> None:
    validation = found(model(), lambda dry: np.tanh(3 * dry))
    for name in ("waveforms.png", "error_spectrum.png", "transfer.png"):
        picture = matplotlib.image.imread(io.BytesIO(validation.files[name]))
        assert min(picture.shape[:2]) > 300
        assert picture.std() > 0.02, "something is drawn"
    for role in ("dry", "wet", "model"):
        clip, rate = soundfile.read(io.BytesIO(validation.files[f"00-{role}.wav"]))
        assert rate == RATE
        assert len(clip) == 4 * RATE
    table = validation.files["figures.md"].decode()
    assert f"| esr | {validation.values['esr']:.3g} |" in table
    assert validation.score == validation.values["esr"]
    assert re.match(r"ESR \S+ over 8\.0 s of pairs, [a-z ]+$", validation.words)


def test_what_was_played_before_a_clip_is_not_held_against_the_model() -> None:
    """A right response has no score penalty for the tail that leads into a clip."""
    one = model(taps=400)
    with torch.no_grad():
        one.network.response[399] = 0.5
    request = next(pairs(np.copy))
    dry = request.audio["dry"][0]
    wet = (
        np.concatenate([np.ones(399), np.zeros(dry.size - 399)]) * 0.3
        + np.convolve(dry, one.network.response.detach().numpy())[: dry.size]
    )
    cut = Request(0, {}, {"dry": dry[None], "wet": wet[None].astype(np.float32)})
    validation = one.validate([cut])
    assert validation is not None
    assert validation.score < 1e-10
    assert one.validate([]) is None
