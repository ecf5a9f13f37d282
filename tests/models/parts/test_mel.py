"""Mel spectrograms for vocoders: frame counts, levels, and the way back to magnitudes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tonemill.audiotools.errors import UsageError
from tonemill.models.parts.griffin_lim import griffin_lim
from tonemill.models.parts.mel import LogMel, MelConfig

RATE = 16000
MEL = LogMel(MelConfig(), RATE)


@pytest.mark.parametrize(("samples", "frames"), [(32000, 200), (32159, 200), (31999, 199), (30720, 192)])
def test_frames_are_those_of_the_specification(samples: int, frames: int) -> None:
    """pjloop-gan's published code; silence has the floor's logarithm."""
    mel = MEL(torch.zeros(2, samples))
    assert mel.shape == (2, 64, frames)
    assert (mel == -5).all()


def test_the_other_loop_model_s_settings_give_320_frames() -> None:
    assert LogMel(MelConfig(1024, 275, 80), 44100)(torch.zeros(1, 88001)).shape == (1, 80, 320)


def test_a_sine_stands_in_its_band_and_20_db_are_one_unit() -> None:
    hertz = float(MEL.filters[:, 30].argmax()) * RATE / MEL.n_fft
    sine = torch.sin(2 * torch.pi * hertz * torch.arange(RATE) / RATE)[None]
    loud, soft = (MEL(gain * sine)[0, :, 10:-10].mean(dim=1) for gain in (1.0, 0.1))
    assert int(loud.argmax()) == int(soft.argmax()) == 30
    assert float(loud[30] - soft[30]) == pytest.approx(1, abs=1e-3)


def test_no_full_scale_sound_is_above_the_loudest() -> None:
    torch.manual_seed(0)
    hertz = MEL.filters.argmax(dim=0) * RATE / MEL.n_fft
    sines = torch.sin(2 * torch.pi * hertz[:, None] * torch.arange(RATE // 4) / RATE)
    found = MEL(torch.cat([sines, torch.randn(4, RATE // 4).sign(), torch.ones(1, RATE // 4)]))
    assert (found <= MEL.loudest).all()
    # Sines come to within 22 dB of it in every band.
    assert float((MEL.loudest - found.amax(dim=(0, 2))[:, None]).max()) < 1.1


def test_a_click_stands_in_the_frame_whose_middle_it_is() -> None:
    clip = torch.zeros(1, 8000)
    clip[0, 25 * 160 + 80] = 1
    total = MEL(clip)[0].sum(dim=0)
    assert int(total.argmax()) == 25
    assert float(total[24] - total[26]) == pytest.approx(0, abs=1e-2)


def test_magnitudes_found_again_have_the_same_bands() -> None:
    torch.manual_seed(0)
    mel = MEL(0.1 * torch.randn(1, 8000))
    found = MEL.magnitudes(mel)
    assert (found >= 0).all()
    error_db = 20 * ((found @ MEL.filters).clamp(min=1e-5).log10().transpose(1, 2) - mel).abs().mean()
    assert float(error_db) < 0.1


def test_griffin_lim_of_the_magnitudes_sounds_in_the_same_bands() -> None:
    time = torch.arange(16000) / RATE
    clip = (torch.sin(2 * torch.pi * 440 * time) * torch.exp(-3 * time))[None]
    magnitudes = MEL.magnitudes(MEL(clip))
    again = griffin_lim(magnitudes, None, 160, 60)[:, MEL.edge : MEL.edge + 16000]
    off = MEL(again)[0].argmax(dim=0) - MEL(clip)[0].argmax(dim=0)  # 440 Hz is between two bands
    assert (off.abs() <= 1).float().mean() > 0.99
    assert 20 * np.log10(float(again.norm() / clip.norm())) == pytest.approx(0, abs=1.5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"n_fft": 1023}, "--n-fft is 1023; it must be even"),
        ({"hop_length": 600}, "at most half of --n-fft, which is 512"),
        ({"low_hz": 500.0, "high_hz": 400.0}, "--high-hz is 400; it must be above --low-hz, which is 500"),
        ({"mel_bands": 0}, "--mel-bands is 0"),
        ({"high_hz": 9000.0}, "--high-hz is 9000; at 16000 Hz it must be at most 8000"),
    ],
)
def test_settings_that_cannot_be_are_refused(wrong: dict[str, float], words: str) -> None:
    with pytest.raises(UsageError, match=words):
        LogMel(MelConfig(**wrong), RATE)
