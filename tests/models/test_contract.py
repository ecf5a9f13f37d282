"""What every model promises: it learns finite numbers, survives a checkpoint, and renders reproducibly."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contracts import given
from other_device import HERE, OtherDevice
from safetensors.torch import load_file, save_file

from tonemill.audiotools.errors import CorpusError
from tonemill.models.contract import Batch, CorpusFacts, Model, Request, build_model, load_model
from tonemill.models.directions import AUDIO, FIELDS, SEED, Direction, NoOptions
from tonemill.models.exchange import ArrayFacts
from tonemill.models.players import played
from tonemill.models.plugins import MODELS
from tonemill.pipelines import config
from tonemill.pipelines.recipes.step import STEPS
from tonemill.pipelines.runs import directions as runs_directions
from tonemill.pipelines.runs.run import Run

FEW_SPECTRA: dict[str, Any] = {
    "n_fft": 512,
    "length": 4096,
    "discriminators": ("stft",),
    "discriminator_widths": 0.25,
    "adversarial_after": 1,
}

SMALL_UNET: dict[str, Any] = {
    "length": 1024,
    "channels_per_level": (8,),
    "factors": (64,),
    "items": (1,),
    "attentions": (1,),
    "modulation_dim": 16,
    "head_dim": 8,
}

TINY_CODEC: dict[str, Any] = {
    "length": 2048,
    "latent_dim": 4,
    "capacity": 4,
    "scales": (128,),
    "filter_taps": 8,
    "attenuation_db": 40,
    "fine_tune_after": 3,
    "validate_seconds": 0.5,
}

SMALL: dict[str, dict[str, Any]] = {
    "classifier": {"chunk_seconds": 0.4},
    "diffusion autoencode": {"compression": 64, "encoder_dim": 8, "latent_dim": 4, **SMALL_UNET},
    "diffusion latent": {**SMALL_UNET, "factors": (4,)},
    "diffusion plain": SMALL_UNET,
    "diffusion upsample": SMALL_UNET,
    "diffusion vocode": {"n_fft": 256, "hop_length": 64, "mel_bands": 16, **SMALL_UNET},
    "effect autoregressive": {"length": 256, "context": 16, "width": 16, "depth": 2, "windows": 64},
    "effect chain": {"length": 256, "preset": "nano", "taps": 64},
    "effect fir": {"length": 256, "taps": 64},
    "effect gru": {"length": 256, "hidden_size": 4, "burn_in": 64},
    "effect lstm": {"length": 256, "hidden_size": 4, "burn_in": 64},
    "effect tcn": {"length": 256, "blocks": 2, "tcn_channels": 4},
    "effect wavenet": {"length": 256, "preset": "nano"},
    "loopgan": {
        "bpm": 400.0,
        "n_fft": 512,
        "mel_bands": 16,
        "width": 4,
        "feature_width": 4,
        "griffin_lim_rounds": 4,
    },
    "prior": {"length": 1024, "width": 8, "frame_width": 4, "mixture": 2, "receptive_seconds": 0.02},
    "rave live": TINY_CODEC,
    "rave v1": {"ratios": (4, 4, 4, 1), **TINY_CODEC},
    "rave v2": {"ratios": (2, 2, 2, 1), **TINY_CODEC},
    "rave v2-small": {"ratios": (2, 2, 2, 1), **TINY_CODEC},
    "specgan": {"length": 4096, "dim": 2, "critic_steps": 2, "griffin_lim_iterations": 4},
    "vocoder melgan": {"width": 16, **FEW_SPECTRA},
    "vocoder vocos": {"width": 8, "blocks": 1, **FEW_SPECTRA},
    "wavegan": {"length": 4096, "dim": 2, "critic_steps": 2},
}
"""Settings that make a model small enough to test; a new model or network adds its own."""

NAMES = MODELS.names()
CASES = [f"{name} {variant}".strip() for name in NAMES for variant in (load_model(name).variants() or [""])]
"""Every model, and every variant of it."""

SAMPLE_RATE = 16000
LATENTS = ArrayFacts(4, 64)


def settled(case: str) -> tuple[type[Model], Any]:
    """The class of a case, and its small settings, settled on a corpus of the roles that it reads."""
    model_class, settings = classed(case)
    for roles in (("audio",), ("dry", "wet")):
        facts = CorpusFacts("corpora/test", roles, SAMPLE_RATE, 1, {"label": ("a", "b")}, arrays={"latents": LATENTS})
        try:
            return model_class, model_class.settle(settings, facts)
        except CorpusError as error:
            refused = error
    raise refused


def made(case: str) -> Model:
    model_class, settings = settled(case)
    torch.manual_seed(0)
    return build_model(model_class, settings, {})


def directions(wanted: Callable[[Direction], bool]) -> list[tuple[str, str]]:
    """Cases and names of their directions that fit."""
    return [(case, name) for case in CASES for name, direction in _directions_of(case).items() if wanted(direction)]


def _directions_of(case: str) -> Mapping[str, Direction]:
    model_class, settings = settled(case)
    return model_class.directions(settings)


def classed(case: str, written: Mapping[str, Any] | None = None) -> tuple[type[Model], Any]:
    """The class of a case, and its small settings or those given."""
    name, _, variant = case.partition(" ")
    model_class = load_model(name)
    chosen = {model_class.chooser: variant} if variant else {}
    values = {**chosen, **SMALL.get(case, {}), **given("models", name)} if written is None else written
    return model_class, config.build(model_class.config_of(chosen), values, name)


def batch_of(model: Model, examples: int = 4) -> Batch:
    audio = {role: torch.randn(examples, model.channels, model.length) * 0.1 for role in model.roles}
    frames = model.length // (LATENTS.hop or 1)
    arrays = {name: torch.randn(examples, LATENTS.channels, frames) for name in model.arrays}
    return Batch(audio, {"label": ["a", "b", "a", "b"][:examples]}, arrays)


def step(model: Model, number: int, device: torch.device = HERE, examples: int = 4) -> dict[str, torch.Tensor]:
    torch.manual_seed(number)
    optimizers = model.optimizers()
    batch = batch_of(model, examples).to(device)

    def update(optimizer: str, loss: torch.Tensor) -> None:
        optimizers[optimizer].zero_grad()
        loss.backward()
        optimizers[optimizer].step()

    return model.train().training_step(batch, number, update)


def held_out(model: Model) -> list[Request]:
    """Two examples of some seconds, with a class each."""
    draws = np.random.default_rng(5)
    latents = draws.standard_normal((LATENTS.channels, 50)).astype(np.float32)
    sounds = [draws.standard_normal((model.channels, 3 * model.length)).astype(np.float32) * 0.1 for _ in range(2)]
    return [
        Request(n, {"label": label}, dict.fromkeys(model.roles, sound), dict.fromkeys(model.arrays, latents))
        for n, (label, sound) in enumerate(zip("ab", sounds, strict=True))
    ]


def request(model: Model, name: str, seed: int, frames: int = 2000, channels: int | None = None) -> Request:
    """A request of a direction: noise of a seed where it needs audio."""
    direction = model.directions(model.config)[name]
    draws = np.random.default_rng(seed)
    shape = (channels or model.channels, frames)
    audio = {AUDIO: 0.1 * draws.standard_normal(shape).astype(np.float32)} if AUDIO in direction.needs else {}
    name_of_array = direction.needs_array
    rows = (direction.rows or model.channels, 40)
    arrays = {} if name_of_array is None else {name_of_array: draws.standard_normal(rows).astype(np.float32)}
    fields = {key: about.low for key, about in direction.fields.items() if about.required}
    return Request(seed, fields, audio, arrays, name, direction.options())


def rendered(model: Model, name: str, seeds: list[int], device: torch.device = HERE) -> torch.Tensor:
    requests = [request(model, name, seed) for seed in seeds]
    inputs = [model.inputs(one) for one in requests]
    with torch.inference_mode():
        stacked = {key: torch.stack([one[key] for one in inputs]).to(device) for key in inputs[0]}
        return model.eval().render(stacked, name, requests[0].options)


def described(model: Model, name: str, seeds: list[int], batch_size: int = 3) -> list[dict[str, Any]]:
    """The fields of sounds of different lengths and channels; a seed makes the same one each time."""
    requests = [
        request(model, name, seed, int((0.3, 1.0, 2.7)[seed % 3] * model.length), 1 + seed % 2) for seed in seeds
    ]
    with torch.inference_mode():
        return model.eval().describe(requests, batch_size)


def output(model: Model, name: str, seeds: list[int], device: torch.device = HERE) -> list[Any]:
    """What a direction gives, of whichever kind."""
    if model.directions(model.config)[name].gives == FIELDS:
        return described(model, name, seeds)
    return list(rendered(model, name, seeds, device).numpy(force=True))


@pytest.mark.parametrize("name", NAMES)
def test_every_setting_has_a_default_and_a_line_of_help(name: str) -> None:
    for chosen in (load_model(name).Config, *load_model(name).variants().values()):
        for setting in config.settings(chosen):
            assert setting.help and "\n" not in setting.help
            assert not setting.required
        assert dataclasses.is_dataclass(chosen)
        assert chosen.__dataclass_params__.frozen


@pytest.mark.parametrize("name", CASES)
def test_steps_give_finite_named_losses_and_change_weights(name: str) -> None:
    model = made(name)
    before = {key: tensor.clone() for key, tensor in model.state_dict().items()}
    losses = [step(model, number) for number in range(1, 7)]
    assert all(
        torch.isfinite(loss) and loss.ndim == 0 and not loss.requires_grad for one in losses for loss in one.values()
    )
    assert any(not torch.equal(before[key], tensor) for key, tensor in model.state_dict().items())


@pytest.mark.parametrize("name", CASES)
def test_a_step_is_decided_by_its_seed(name: str) -> None:
    first, second = step(made(name), 2), step(made(name), 2)
    assert {key: float(loss) for key, loss in first.items()} == {key: float(loss) for key, loss in second.items()}


@pytest.mark.parametrize("name", CASES)
def test_weights_survive_safetensors_and_render_the_same(name: str, tmp_path: Path) -> None:
    model = made(name)
    step(model, 2)
    save_file({key: t.contiguous() for key, t in model.state_dict().items()}, tmp_path / "weights.safetensors")
    model_class, settings = classed(name, config.to_dict(model.config))
    again = build_model(model_class, settings, {})
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    for direction in model.directions(model.config):
        for one, other in zip(output(model, direction, [1, 2]), output(again, direction, [1, 2]), strict=True):
            assert one == other if isinstance(one, dict) else np.array_equal(one, other)


@pytest.mark.parametrize("name", CASES)
def test_directions_and_exports_come_back_from_json(name: str) -> None:
    """What run.json holds gives the same flags, checks and inputs as the model itself."""
    model_class, settings = settled(name)
    own, exports = model_class.directions(settings), model_class.exports(settings)
    recorded = {"model": name.split()[0], "model_config": config.to_dict(settings)}
    about = json.loads(json.dumps({**recorded, **runs_directions.described(own, exports)}))
    read = runs_directions.directions_of(Run(Path("run"), about))
    assert list(read) == list(own) and own
    render_flags = {setting.flag for setting in config.settings(STEPS.module("render").STEP)}
    for key, direction in own.items():
        assert dataclasses.replace(read[key], options=NoOptions) == dataclasses.replace(direction, options=NoOptions)
        assert config.settings(read[key].options) == config.settings(direction.options)
        assert direction.help and "\n" not in direction.help
        for setting in config.settings(direction.options):
            assert setting.help and not setting.required
            assert setting.flag not in render_flags
    for key, export in runs_directions.exports_of(Run(Path("run"), about)).items():
        assert config.settings(export.options) == config.settings(exports[key].options)


@pytest.mark.parametrize(("name", "direction"), directions(lambda one: one.gives == FIELDS))
def test_a_sound_is_described_the_same_beside_any_other(name: str, direction: str) -> None:
    model = made(name)
    step(model, 1)
    alone = described(model, direction, [7])[0]
    assert described(model, direction, [3, 7, 1, 2])[1] == alone == described(model, direction, [9, 8, 6, 7])[3]
    assert described(model, direction, [8])[0] != alone
    for name_of_field, value in described(model, direction, [7], batch_size=5)[0].items():
        if not isinstance(value, str):
            np.testing.assert_allclose(value, alone[name_of_field], atol=1e-4)


@pytest.mark.parametrize(("name", "direction"), directions(lambda one: one.gives == FIELDS))
def test_fields_of_a_sound_can_be_stored_and_judged_by(name: str, direction: str) -> None:
    model = made(name)
    for fields in (*described(model, direction, [1, 2, 3, 4]), *silence(model, direction)):
        assert json.loads(json.dumps(fields, allow_nan=False)) == fields
        assert len(fields["embedding"]) > 1
        if "probabilities" in fields:
            assert sum(fields["probabilities"]) == pytest.approx(1, abs=1e-4)
            assert fields["predicted"] == model.config.labels[int(np.argmax(fields["probabilities"]))]


def silence(model: Model, direction: str) -> list[dict[str, Any]]:
    empty = [np.zeros((1, frames), np.float32) for frames in (0, 1, 3 * model.length)]
    with torch.inference_mode():
        return model.eval().describe([Request(0, {}, {AUDIO: one}, direction=direction) for one in empty], 2)


@pytest.mark.parametrize(("name", "direction"), directions(lambda one: SEED in one.needs))
def test_a_seed_gives_the_same_sound_beside_any_other(name: str, direction: str) -> None:
    model = made(name)
    sound = rendered(model, direction, [7, 1, 2, 3])
    assert sound.shape[1] == model.channels or model.directions(model.config)[direction].gives_array
    assert not torch.equal(sound[0], sound[1])
    bound = 10 ** (model.directions(model.config)[direction].bound_db / 20)
    for others, place in (([9, 8, 7, 6], 2), ([7], 0)):
        torch.testing.assert_close(sound[0], rendered(model, direction, others)[place], atol=bound, rtol=0)


@pytest.mark.parametrize(("name", "direction"), directions(lambda one: one.streams and one.from_seeds))
def test_a_stream_from_a_seed_is_decided_by_it(name: str, direction: str) -> None:
    model = made(name).eval()
    about = model.directions(model.config)[direction]
    wanted = request(model, direction, 3)
    seconds = getattr(wanted.options, "seconds", None)
    samples = about.samples if seconds is None else round(seconds * model.sample_rate)
    with torch.inference_mode():
        sound, again, other = (
            np.concatenate(list(model.stream(dataclasses.replace(wanted, seed=seed))), axis=1) for seed in (3, 3, 4)
        )
    assert sound.shape == (model.channels, samples) or about.gives_array
    np.testing.assert_array_equal(sound, again)
    assert not np.array_equal(sound, other)


@pytest.mark.parametrize(("name", "direction"), directions(lambda one: one.streams and not one.from_seeds))
def test_a_stream_is_the_same_wherever_it_is_cut(name: str, direction: str) -> None:
    """To 1e-5 of full scale, in two channels where it reads them, with the latency that it states."""
    model = made(name).eval()
    about = model.directions(model.config)[direction]
    wanted = request(model, direction, 3, frames=6000, channels=about.channels or 2 * model.channels)
    given = wanted.arrays[about.needs_array] if about.needs_array else wanted.audio[AUDIO]
    ratio = about.hop if about.needs_array else Fraction(1, about.hop) if about.gives_array else 1
    empty = dataclasses.replace(wanted, audio={}, arrays={})
    assert model.player(empty, len(given)).latency == about.latency
    whole = joined(model, empty, [given], ratio)
    assert whole.shape[1] == math.ceil(given.shape[1] * ratio) and np.isfinite(whole).all()
    for size in (1, 7, 64, 1000) if len(given[0]) < 1000 or model.config.length < 1000 else (64, 1000):
        blocks = [given[:, first : first + size] for first in range(0, given.shape[1], size)]
        np.testing.assert_allclose(joined(model, empty, blocks, ratio), whole, atol=1e-5)


def joined(model: Model, wanted: Request, blocks: list[np.ndarray], ratio: int | Fraction) -> np.ndarray:
    with torch.inference_mode():
        return np.concatenate(list(played(model.player(wanted, len(blocks[0])), iter(blocks), ratio)), axis=1)


@pytest.mark.parametrize("name", CASES)
def test_rendering_parts_are_parts_of_the_model(name: str) -> None:
    model = made(name)
    own = {id(parameter) for parameter in model.parameters()}
    parts = model.rendering_parts()
    assert parts
    assert all(id(parameter) in own for part in parts.values() for parameter in part.parameters())


def keeps_to(model: Model, there: torch.device, has: Callable[[torch.Tensor], bool]) -> None:
    """Train, validate and render on a device; each direction is as near to the CPU's output as it states."""
    model.to(there)
    model.fit(batch_of(model).to(there) for _ in range(2))
    model.fit_examples(held_out(model))
    losses = [step(model, number, there) for number in (1, 2)]
    assert all(has(loss) for one in losses for loss in one.values())
    assert all(has(tensor) for tensor in model.state_dict().values())
    with torch.inference_mode():
        model.eval().validate(held_out(model))
    for name, about in model.directions(model.config).items():
        if about.gives == FIELDS:
            assert described(model, name, [1, 2])
        else:
            sound = rendered(model, name, [1, 2], there)
            assert has(sound)
            assert torch.isfinite(sound).all()


@pytest.mark.parametrize("name", CASES)
def test_a_model_keeps_to_the_device_it_is_on(name: str) -> None:
    """On a device that is simulated, and refuses what a real one refuses."""
    devices = OtherDevice()
    with devices as there:
        keeps_to(made(name), there, devices.has)


@pytest.mark.parametrize("name", CASES)
def test_a_real_device_renders_what_the_cpu_does(name: str, real_device: torch.device) -> None:
    """Within the bound of each direction; only with `pytest --device cuda`."""
    keeps_to(made(name), real_device, lambda tensor: tensor.device.type == real_device.type)
    model, again = made(name), made(name).to(real_device)
    for direction, about in model.directions(model.config).items():
        if about.gives != FIELDS:
            here = rendered(model, direction, [1, 2]).double()
            there = rendered(again, direction, [1, 2], real_device).cpu().double()
            level, difference = (float(one.square().mean().sqrt()) for one in (here, there - here))
            assert 20 * math.log10(max(difference, 1e-12) / level) < about.bound_db, direction


@pytest.mark.parametrize("name", CASES)
def test_the_smallest_batch_gives_finite_losses(name: str) -> None:
    model = made(name)
    losses = [step(model, number, examples=type(model).least_batch) for number in range(1, 4)]
    assert all(torch.isfinite(loss) for one in losses for loss in one.values())
