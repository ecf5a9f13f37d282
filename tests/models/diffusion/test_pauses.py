"""The answer of a pause: exact where a clip is silent, of unit deviation in each octave, and absent in older runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from conftest import Tonemill

from tonemill.audiotools.errors import UsageError
from tonemill.models.diffusion.baseline import GaussianDenoiser
from tonemill.models.diffusion.denoiser import Denoiser, Seen
from tonemill.models.diffusion.noising import Objective, mix_at
from tonemill.models.diffusion.pauses import octave_masks, pauses_of
from tonemill.models.diffusion.settings import DiffusionConfig, VocodeConfig
from tonemill.models.diffusion.unet import Context
from tonemill.pipelines.runs.run import open_run
from tonemill.pipelines.storage import json_files

OCTAVES = 6


def pink(channels: int) -> GaussianDenoiser:
    """Of a corpus with twice the power an octave lower, down to a 64th of half the rate; stereo is half in common."""
    model = GaussianDenoiser(channels)
    clips = torch.randn(32, channels, 8192, generator=torch.Generator().manual_seed(0))
    bands = torch.fft.rfft(clips) / torch.linspace(0, 1, 4097).clamp(min=1 / 64).sqrt()
    shared = torch.fft.irfft(bands, 8192)
    model.fit([shared + shared.mean(dim=1, keepdim=True)])
    return model


def test_octaves_are_a_partition_an_octave_apart() -> None:
    masks = octave_masks(4097, OCTAVES, torch.device("cpu"))
    assert torch.allclose(masks.sum(dim=0), torch.ones(4097))
    # Of half the sample rate; bin 4096 is there.
    for octave in range(OCTAVES):
        assert float(masks[octave, round(4096 * 2 ** -(octave + 0.5))]) == pytest.approx(1, abs=1e-3)
    assert float(masks[0, 4096]) == float(masks[-1, 0]) == 1


@pytest.mark.parametrize("objective", get_args(Objective))
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("level", [0.003, 0.1, 0.5, 0.9])
def test_a_pause_is_all_weights_at_1(level: float, channels: int, objective: Objective) -> None:
    """The slope of noise alone is b' e: to -30 dB, as a few samples are beyond the bound."""
    model = pink(channels)
    noise = torch.randn(16, channels, 8192, generator=torch.Generator().manual_seed(1))
    levels = torch.full((16,), level)
    mix = mix_at(objective, levels)
    noisy, slope = mix.noise * noise, mix.noise_slope * noise
    pauses = pauses_of(noisy, levels, objective, model, OCTAVES)
    assert pauses.read.shape == (16, channels * OCTAVES, 8192)
    spread = pauses.octaves.square().mean(dim=(0, 3)).sqrt()
    assert torch.allclose(spread, torch.ones_like(spread), atol=0.05)
    answer = torch.zeros(16, channels * (1 + OCTAVES), 8192)
    answer[:, channels:] = 1
    remaining = model.loss(levels, objective).sqrt()[:, None, None]
    error = model.expected(noisy, levels, objective) + remaining * pauses.weighed(answer) - slope
    assert float(error.square().mean() / slope.square().mean()) < 1e-3


def test_loud_sound_is_bounded() -> None:
    model = pink(1)
    loud = 10 * torch.randn(4, 1, 8192, generator=torch.Generator().manual_seed(2))
    pauses = pauses_of(loud, torch.full((4,), 0.001), "v", model, OCTAVES)
    assert float(pauses.octaves.abs().max()) <= 4


def made(octaves: int | None) -> Denoiser:
    """A small denoiser whose weights were drawn, of a corpus like `pink`."""
    torch.manual_seed(0)
    config = DiffusionConfig(
        length=1024,
        channels_per_level=(8, 8),
        factors=(2, 4),
        items=(1, 1),
        attentions=(0, 0),
        modulation_dim=16,
        pause_octaves=octaves,
    )
    denoiser = Denoiser(config, 1).eval()
    for parameter in denoiser.unet.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    denoiser.gaussian.load_state_dict(pink(1).state_dict())
    return denoiser


def test_a_loud_start_does_not_go_round_the_end() -> None:
    """The answer for Gaussian sound is a filter of the whole clip, which went round the end before."""
    clip = torch.zeros(1, 1, 4096)
    clip[..., :64] = 100 * torch.randn(64, generator=torch.Generator().manual_seed(3))
    level = torch.full((1,), 0.1)
    ends = {octaves: made(octaves).expected(clip, level, Seen())[..., -64:].square().mean() for octaves in (None, 6)}
    assert float(10 * (ends[6] / ends[None]).log10()) < -40


@torch.inference_mode()
def test_a_rotated_loop_has_a_rotated_answer() -> None:
    denoiser, seen = made(OCTAVES), Seen(Context(circular=True))
    clip, level = torch.randn(1, 1, 1024, generator=torch.Generator().manual_seed(4)), torch.full((1,), 0.3)
    whole = denoiser(clip, level, seen)
    rolled = denoiser(clip.roll(400, -1), level, seen).roll(-400, -1)
    assert float((whole - rolled).square().mean() / whole.square().mean()) < 1e-8
    other = denoiser(clip.roll(400, -1), level, Seen()).roll(-400, -1)
    assert float((whole - other).square().mean() / whole.square().mean()) > 1e-6


def test_only_sound_whose_level_is_not_given_has_pauses() -> None:
    with pytest.raises(UsageError, match=r"--pause-octaves is 6.*--task plain or upsample"):
        VocodeConfig(pause_octaves=6)
    for other in ("precondition", "zero_init"):
        with pytest.raises(UsageError, match=f"--pause-octaves is 6.*--{other.replace('_', '-')}"):
            DiffusionConfig(pause_octaves=6, **{other: False})


def test_a_run_of_before_has_none_and_goes_on(corpus: Path, tonemill: Tonemill, tmp_path: Path) -> None:
    levels = "--channels-per-level 4 --channels-per-level 8 --factors 1 --factors 4 --items 1 --items 1"
    small = f"{levels} --attentions 0 --attentions 0 --length 1024 --batch-size 2 -q".split()

    def trained(run: str, *words: object) -> dict[str, Any]:
        tonemill("train", "diffusion", corpus, "-o", tmp_path / run, *small, *words).done()
        found: dict[str, Any] = json_files.read_json(tmp_path / run / "run.json")
        return found

    assert trained("new", "--steps", 1)["model_config"]["pause_octaves"] == OCTAVES
    words = ["-o", tmp_path / "new", *small, "--steps", 2, "--no-precondition"]
    tonemill("train", "diffusion", corpus, *words).refused(1, "--precondition True (now False)")
    before = trained("old", "--steps", 1, "--pause-octaves", 0)
    del before["model_config"]["pause_octaves"]
    json_files.write_json(tmp_path / "old" / "run.json", before)
    trained("old", "--steps", 2)
    assert open_run(tmp_path / "old").last().step == 2
