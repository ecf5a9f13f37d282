"""Long clips in windows, block by block and whole; and loops."""

from __future__ import annotations

import gc
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from autoregressive_noise import noise

from tonemill.models.contract import Batch, Request
from tonemill.models.diffusion import MODEL
from tonemill.models.diffusion.denoiser import Guided, Seen
from tonemill.models.diffusion.model import Diffusion
from tonemill.models.diffusion.noising import schedule_of
from tonemill.models.diffusion.options import Decoding, Inpainting, Looping, Reading, Sampling, Varying
from tonemill.models.diffusion.rendering import Rendering, circularly_resampled
from tonemill.models.diffusion.samplers import sampled
from tonemill.models.diffusion.settings import AutoencodeConfig, DiffusionConfig, VocodeConfig
from tonemill.models.diffusion.streams import Both, Stream
from tonemill.models.diffusion.unet import Context
from tonemill.models.diffusion.windows import Chained, Overlapping, Windows, windows_of

TINY: dict[str, Any] = {
    "length": 1024,
    "channels_per_level": (8, 8),
    "factors": (8, 4),
    "items": (1, 1),
    "attentions": (0, 1),
    "modulation_dim": 16,
    "head_dim": 8,
    "sample_rate": 16000,
    "channels": 1,
    "zero_init": False,
}
RATE = 32
"""Samples of a second for `Rendering`: a minute is 1,920 of them, and a window 640."""


def model_of(config: DiffusionConfig) -> Diffusion:
    torch.manual_seed(0)
    model = MODEL(config).eval()
    model.fit([Batch({"audio": noise(16 * model.channels, 1024, 0).reshape(16, model.channels, 1024)}, {})])
    return model


@pytest.fixture(autouse=True)
def without_gradients() -> Iterator[None]:
    with torch.no_grad():
        yield


def rendering(model: Diffusion) -> Rendering:
    return Rendering(model.denoiser, model.task, 1024, RATE)


def test_windows_cover_a_clip_and_their_weights_add_up_to_one() -> None:
    windows = windows_of(3001, float(RATE), 32)
    assert (windows == Windows(640, 480, 5) and windows.samples == 2560) or windows is not None
    assert windows is not None and windows.samples >= 3001 and windows.samples - windows.step < 3001
    for margin, hop in ((0, 1), (3, 1), (2, 32)):
        ones = Chained([Overlapping(windows, lambda window, _, hop=hop: window[..., ::hop], hop=hop, margin=margin)])
        found = ones.whole(torch.ones(1, 1, 3001))
        assert found.shape[-1] == -(-3001 // hop) and found.sub(1).abs().max() < 1e-6
    assert windows_of(60 * RATE, float(RATE), 32) is None


@pytest.mark.parametrize("sampler", ["2m", "ddim", "euler"])
def test_a_stream_from_a_seed_is_the_whole_clip(sampler: str) -> None:
    """To 1e-5, of noise that is drawn block by block, beyond a minute; up to there to the bit."""
    options: Any = Looping(seconds=100.0, steps=4, sampler=sampler)  # type: ignore[arg-type]
    making = rendering(model_of(DiffusionConfig(**TINY)))
    inputs = {"seed": torch.tensor([[5, 0]])}
    blocks = list(making.blocks(inputs, options))
    assert len(blocks) == 7 and max(one.shape[-1] for one in blocks) <= 640
    whole = making.made(inputs, "render", options)
    assert whole.shape == (1, 1, 3200)
    torch.testing.assert_close(torch.cat(blocks, dim=-1), whole, atol=1e-5, rtol=0)
    short = replace(options, seconds=60.0)
    assert torch.equal(torch.cat(list(making.blocks(inputs, short)), dim=-1), making.made(inputs, "render", short))


def test_windows_have_the_level_of_the_whole_clip() -> None:
    """A network that adds nothing makes the corpus's noise: no seam is louder or softer by more than 1.5 dB."""
    making = rendering(model_of(DiffusionConfig(**{**TINY, "zero_init": True})))
    seeds = {"seed": torch.arange(48).reshape(48, 1)}
    made = making.made(seeds, "render", Looping(seconds=100.0))
    levels = made.square().mean(dim=(0, 1)).reshape(-1, 80).mean(dim=1).log10() * 10
    assert (levels - levels.mean()).abs().max() < 1.5
    assert float(levels.mean()) == pytest.approx(20 * np.log10(0.2), abs=0.5)


@pytest.mark.parametrize("task", ["vocode", "autoencode"])
def test_codes_of_any_length_become_as_many_samples(task: str) -> None:
    """Beyond a minute by windows; those of the start do not depend on what follows them, to 1e-5."""
    config: DiffusionConfig = (
        VocodeConfig(**TINY, n_fft=256, hop_length=64, mel_bands=16)
        if task == "vocode"
        else AutoencodeConfig(**TINY, compression=32, latent_dim=4, encoder_dim=8)
    )
    model = model_of(config)
    making, about = rendering(model), model.config.array
    code = making.encoded(noise(1, 6400, 3))
    found = [
        making.made({"seed": torch.tensor([[1, 0]]), "code": part}, "decode", Reading(steps=2))
        for part in (code, code[..., : 5120 // about.hop])
    ]
    assert [one.shape[-1] for one in found] == [code.shape[-1] * about.hop, 5120]
    # The windows of both are the same ones; each step spreads what follows by one of them.
    torch.testing.assert_close(found[1][..., :2400], found[0][..., :2400], atol=1e-5, rtol=0)


def test_overlaps_of_windows_are_as_loud_as_what_is_between() -> None:
    """Within 0.36 dB (0.26; windows alone 0.98), where vocoding begins with phases searched window by window."""
    model = model_of(VocodeConfig(**{**TINY, "zero_init": True}, n_fft=32, hop_length=8, mel_bands=8))
    making, code = rendering(model), model.task.code(noise(24, 4480, 3))
    seeds = torch.arange(24)[:, None].repeat(1, 2)
    made = making.made({"seed": seeds, "code": code}, "decode", Decoding(steps=4))
    place = torch.arange(4480) % 480
    overlaps = (place < 160) & (torch.arange(4480) >= 480)
    levels = [float(10 * made[..., part].square().mean().log10()) for part in (overlaps, ~overlaps)]
    assert levels[0] == pytest.approx(levels[1], abs=0.36)


def test_a_long_sound_is_mended_in_windows_and_kept_to_the_bit() -> None:
    model, audio = model_of(DiffusionConfig(**TINY)), noise(1, 4000, 2)
    mask = torch.zeros(1, 1, 4000, dtype=torch.bool)
    mask[..., :1000] = True
    inputs = {"seed": torch.tensor([[1, 0]]), "audio": audio, "mask": mask}
    found = rendering(model).made(inputs, "inpaint", Inpainting(steps=2, resamples=1))
    assert (
        torch.equal(found[..., :1000], audio[..., :1000])
        and (found - audio)[..., 1000:].abs().min(dim=0)[0].max() > 1e-2
    )


def test_memory_of_a_stream_does_not_grow_with_the_clip() -> None:
    """Ten minutes take no more Python memory than two, and blocks are let go."""
    making, peaks = rendering(model_of(DiffusionConfig(**TINY))), []
    for seconds in (120.0, 600.0):
        tracemalloc.start()
        held = 0
        for block in making.blocks({"seed": torch.tensor([[5, 0]])}, Looping(seconds=seconds, steps=2)):
            held = max(held, block.untyped_storage().nbytes())
        peaks.append((tracemalloc.get_traced_memory()[1], held))
        tracemalloc.stop()
    assert peaks[1][0] < 1.2 * peaks[0][0] and peaks[1][1] == peaks[0][1]


def coded(task: str) -> Diffusion:
    if task == "vocode":
        return model_of(VocodeConfig(**{**TINY, "channels": 2}, n_fft=32, hop_length=8, mel_bands=8))
    return model_of(AutoencodeConfig(**TINY, compression=32, latent_dim=4, encoder_dim=8))


def streamed(stream: Stream, x: torch.Tensor, size: int) -> torch.Tensor:
    made = [one for block in x.split(size, dim=-1) for one in stream.push(block)]
    assert max(one.shape[-1] for one in made) <= 640
    return torch.cat([*made, *stream.flush()], dim=-1)


@pytest.mark.parametrize("size", [77, 4000])
def test_a_long_sound_is_varied_block_by_block_as_whole(size: int) -> None:
    """To 1e-5, also on the way between two seeds."""
    making, audio = rendering(model_of(DiffusionConfig(**TINY))), noise(1, 4000, 2)
    asked = {"seed": torch.tensor([[5, 0]]), "seed_to": torch.tensor([[6, 0]]), "seed_share": torch.tensor([0.3])}
    options = Varying(steps=3, strength=0.5)
    whole = making.made({**asked, "audio": audio}, "vary", options)
    found = streamed(making.varying(asked, options), audio, size)[..., :4000]
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize("task", ["vocode", "autoencode"])
def test_long_codes_are_made_and_decoded_block_by_block(task: str) -> None:
    """Decoding is what the same windows make of the whole, to 1e-5; a mel spectrogram is that of the whole sound.

    An encoder's norms span a window, so beyond a minute its code is by windows; it is the same wherever it is cut.
    """
    model = coded(task)
    making, hop, asked = rendering(model), model.task.hop, {"seed": torch.tensor([[5, 0]])}
    audio = noise(model.channels, 4001, 2).reshape(1, model.channels, 4001)
    options = Decoding(steps=3)
    codes = [streamed(making.encoding(), audio, size) for size in (50, 4001)]
    assert codes[0].shape[-1] == -(-4001 // hop)
    torch.testing.assert_close(*codes, atol=1e-5, rtol=0)
    if task == "vocode":
        torch.testing.assert_close(codes[0], making.encoded(audio), atol=1e-5, rtol=0)
    whole = making.made({**asked, "code": codes[0]}, "decode", options)
    found = streamed(making.decoding(asked, options), codes[0], 3)
    torch.testing.assert_close(found[..., : whole.shape[-1]], whole, atol=1e-5, rtol=0)
    both = streamed(Both(making.encoding(), making.decoding(asked, options)), audio, 500)
    torch.testing.assert_close(both[..., :4001], whole[..., :4001], atol=1e-5, rtol=0)


@pytest.mark.parametrize("task", ["plain", "vocode", "autoencode"])
def test_memory_of_a_stream_of_sounds_does_not_grow_with_them(task: str) -> None:
    """What is held after five minutes is what was held after two, to 5 %: all tensors there are."""
    model = model_of(DiffusionConfig(**TINY)) if task == "plain" else coded(task)
    making, asked, held = rendering(model), {"seed": torch.tensor([[5, 0]])}, []
    block = noise(model.channels, 480, 2).reshape(1, model.channels, 480)
    for minutes in (2, 5):
        stream: Stream = (
            making.varying(asked, Varying(steps=2))
            if task == "plain"
            else Both(making.encoding(), making.decoding(asked, Decoding(steps=2)))
        )
        for _ in range(minutes * 4):
            stream.push(block)
        gc.collect()
        tensors = [one for one in gc.get_objects() if issubclass(type(one), torch.Tensor)]
        held.append(sum({one.data_ptr(): one.untyped_storage().nbytes() for one in tensors}.values()))
        del stream, tensors
    assert held[1] < 1.05 * held[0]


def test_a_loop_that_begins_elsewhere_is_the_same_loop() -> None:
    """Noise turned by whole instants of the deepest level turns what is made of it, to 1e-5; a plain clip does not."""
    denoiser = model_of(DiffusionConfig(**TINY, positions="rotary")).denoiser
    x = torch.randn(2, 1, 1024, generator=torch.Generator().manual_seed(0))
    levels = schedule_of("tan", "v", 4)
    errors = []
    for circular in (True, False):
        guided = Guided(denoiser, Seen(Context(circular=circular)), None, Sampling())
        first, second = (sampled(guided, one, levels, "v", "2m") for one in (x, x.roll(320, dims=-1)))
        errors.append(float((first.roll(320, dims=-1) - second).abs().max()))
    assert errors[0] < 1e-5 and errors[1] > 1e-3


def test_a_loop_has_any_number_of_samples_and_no_seam() -> None:
    """The step over the seam is like any other step; the network, which adds nothing, makes the corpus's noise."""
    model = model_of(DiffusionConfig(**{**TINY, "zero_init": True}))
    options = Looping(seconds=1000 / 16000, loop=True)
    requests = [Request(seed, {}, {}, {}, "render", options) for seed in range(64)]
    inputs = {"seed": torch.stack([model.inputs(one)["seed"] for one in requests])}
    loops = model.render(inputs, "render", options)[:, 0]
    assert loops.shape == (64, 1000)
    steps = (loops - loops.roll(1, dims=1)).square().mean(dim=0)
    assert float(steps[0] / steps.mean()) < 2
    plain = model.render(inputs, "render", replace(options, loop=False))[:, 0]
    assert float((plain[:, 0] - plain[:, -1]).square().mean() / steps.mean()) > 3


def test_a_loop_of_another_length_keeps_its_sines() -> None:
    time = torch.arange(1024) / 1024
    sines = torch.stack([(2 * np.pi * 40 * time).sin(), (2 * np.pi * 3 * time).cos()])[None]
    time = torch.arange(1000) / 1000
    true = torch.stack([(2 * np.pi * 40 * time).sin(), (2 * np.pi * 3 * time).cos()])[None]
    torch.testing.assert_close(circularly_resampled(sines, 1000), true, atol=1e-4, rtol=0)
