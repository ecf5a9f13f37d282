"""What every model promises: it learns finite numbers, survives a checkpoint, and renders reproducibly."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from contracts import given
from other_device import HERE, OtherDevice
from safetensors.torch import load_file, save_file

from tonemill.models.contract import Batch, CorpusFacts, Model, Request, load_model
from tonemill.models.plugins import MODELS
from tonemill.pipelines import config

FEW_SPECTRA: dict[str, Any] = {
    "n_fft": 512,
    "length": 4096,
    "discriminators": ("stft",),
    "discriminator_widths": 0.25,
    "adversarial_after": 1,
}

SMALL: dict[str, dict[str, Any]] = {
    "classifier": {"chunk_seconds": 0.4},
    "effect autoregressive": {"length": 256, "context": 16, "width": 16, "depth": 2, "windows": 64},
    "effect chain": {"length": 256, "preset": "nano", "taps": 64},
    "effect fir": {"length": 256, "taps": 64},
    "effect gru": {"length": 256, "hidden_size": 4, "burn_in": 64},
    "effect lstm": {"length": 256, "hidden_size": 4, "burn_in": 64},
    "effect tcn": {"length": 256, "blocks": 2, "tcn_channels": 4},
    "effect wavenet": {"length": 256, "preset": "nano"},
    "specgan": {"length": 4096, "dim": 2, "critic_steps": 2, "griffin_lim_iterations": 4},
    "vocoder melgan": {"width": 16, **FEW_SPECTRA},
    "vocoder vocos": {"width": 8, "blocks": 1, **FEW_SPECTRA},
    "wavegan": {"length": 4096, "dim": 2, "critic_steps": 2},
}
"""Settings that make a model small enough to test; a new model or network adds its own."""

NAMES = MODELS.names()
DESCRIBING = [name for name in NAMES if load_model(name).makes == "fields"]
CASES = [f"{name} {variant}".strip() for name in NAMES for variant in (load_model(name).variants() or [""])]
"""Every model, and every variant of it."""


def made(case: str) -> Model:
    model_class, settings = classed(case)
    roles = ("dry", "wet") if case.startswith("effect") else ("audio",)
    facts = CorpusFacts("corpora/test", roles, 16000, 1, {"label": ("a", "b")})
    torch.manual_seed(0)
    return model_class(model_class.settle(settings, facts))


def classed(case: str, written: Mapping[str, Any] | None = None) -> tuple[type[Model], Any]:
    """The class of a case, and its small settings or those given."""
    name, _, variant = case.partition(" ")
    model_class = load_model(name)
    chosen = {model_class.chooser: variant} if variant else {}
    values = {**chosen, **SMALL.get(case, {}), **given("models", name)} if written is None else written
    return model_class, config.build(model_class.config_of(chosen), values, name)


def batch_of(model: Model, examples: int = 4) -> Batch:
    audio = {role: torch.randn(examples, model.channels, model.length) * 0.1 for role in model.roles}
    return Batch(audio, {"label": ["a", "b", "a", "b"][:examples]})


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
    sounds = [draws.standard_normal((model.channels, 3 * model.length)).astype(np.float32) * 0.1 for _ in range(2)]
    return [
        Request(n, {"label": label}, dict.fromkeys(model.roles, sound))
        for n, (label, sound) in enumerate(zip("ab", sounds, strict=True))
    ]


def rendered(model: Model, seeds: list[int], device: torch.device = HERE) -> torch.Tensor:
    """From the seeds, or from noise of these seeds."""
    audio = {
        seed: {}
        if model.renders_from == "seeds"
        else {"audio": 0.1 * np.random.default_rng(seed).standard_normal((1, 2000)).astype(np.float32)}
        for seed in seeds
    }
    inputs = [model.inputs(Request(seed, {}, audio[seed])) for seed in seeds]
    with torch.inference_mode():
        stacked = {name: torch.stack([one[name] for one in inputs]).to(device) for name in inputs[0]}
        return model.eval().render(stacked)


def described(model: Model, seeds: list[int], batch_size: int = 3) -> list[dict[str, Any]]:
    """What a model says of sounds of different lengths and channels; a seed makes the same one each time."""
    requests = []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        shape = (1 + seed % 2, (0.3, 1.0, 2.7)[seed % 3] * model.length)
        audio = rng.standard_normal((shape[0], int(shape[1]))).astype(np.float32) * 0.1
        requests.append(Request(seed, {}, dict.fromkeys(model.roles, audio)))
    with torch.inference_mode():
        return model.eval().describe(requests, batch_size)


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
    again = model_class(settings)
    again.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    if model.makes == "fields":
        assert described(model, [1, 2]) == described(again, [1, 2])
    else:
        assert torch.equal(rendered(model, [1, 2]), rendered(again, [1, 2]))


@pytest.mark.parametrize("name", DESCRIBING)
def test_a_sound_is_described_the_same_beside_any_other(name: str) -> None:
    model = made(name)
    step(model, 1)
    alone = described(model, [7])[0]
    assert described(model, [3, 7, 1, 2])[1] == alone == described(model, [9, 8, 6, 7])[3]
    assert described(model, [8])[0] != alone
    for name_of_field, value in described(model, [7], batch_size=5)[0].items():
        if not isinstance(value, str):
            np.testing.assert_allclose(value, alone[name_of_field], atol=1e-4)


@pytest.mark.parametrize("name", DESCRIBING)
def test_what_is_said_of_a_sound_can_be_stored_and_judged_by(name: str) -> None:
    model = made(name)
    for said in (*described(model, [1, 2, 3, 4]), *silence(model)):
        assert json.loads(json.dumps(said, allow_nan=False)) == said
        assert len(said["embedding"]) > 1
        if "probabilities" in said:
            assert sum(said["probabilities"]) == pytest.approx(1, abs=1e-4)
            assert said["predicted"] == model.config.labels[int(np.argmax(said["probabilities"]))]


def silence(model: Model) -> list[dict[str, Any]]:
    empty = [np.zeros((1, frames), np.float32) for frames in (0, 1, 3 * model.length)]
    with torch.inference_mode():
        return model.eval().describe([Request(0, {}, dict.fromkeys(model.roles, one)) for one in empty], 2)


@pytest.mark.parametrize("name", [name for name in NAMES if load_model(name).renders_from == "seeds"])
def test_a_seed_gives_the_same_sound_beside_any_other(name: str) -> None:
    model = made(name)
    sound = rendered(model, [7, 1, 2, 3])
    assert sound.shape[1] == model.channels
    assert torch.equal(sound[0], rendered(model, [9, 8, 7, 6])[2])
    assert not torch.equal(sound[0], sound[1])
    torch.testing.assert_close(sound[0], rendered(model, [7])[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", CASES)
def test_rendering_parts_are_parts_of_the_model(name: str) -> None:
    model = made(name)
    own = {id(parameter) for parameter in model.parameters()}
    parts = model.rendering_parts()
    assert parts
    assert all(id(parameter) in own for part in parts.values() for parameter in part.parameters())


@pytest.mark.parametrize("name", CASES)
def test_a_model_keeps_to_the_device_it_is_on(name: str) -> None:
    """On a device that is simulated, and refuses what a real one refuses."""
    model, devices = made(name), OtherDevice()
    with devices as there:
        model.to(there)
        model.fit(batch_of(model).to(there) for _ in range(2))
        model.fit_examples(held_out(model))
        losses = [step(model, number, there) for number in (1, 2)]
        assert all(devices.has(loss) for one in losses for loss in one.values())
        assert all(devices.has(tensor) for tensor in model.state_dict().values())
        with torch.inference_mode():
            model.eval().validate(held_out(model))
        if model.makes == "fields":
            assert described(model, [1, 2])
        else:
            sound = rendered(model, [1, 2], there)
            assert devices.has(sound)
            assert torch.isfinite(sound).all()


@pytest.mark.parametrize("name", CASES)
def test_the_smallest_batch_gives_finite_losses(name: str) -> None:
    model = made(name)
    losses = [step(model, number, examples=type(model).least_batch) for number in range(1, 4)]
    assert all(torch.isfinite(loss) for one in losses for loss in one.values())
