"""Exported generators give the clips of a render: with classes, loops, post filters, and batches of any size."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from tonemill.models.contract import Model, Request, load_model
from tonemill.models.parts.adversarial import Adversarial
from tonemill.models.parts.griffin_lim import griffin_lim
from tonemill.models.parts.portable import loaded_script, onnx_session
from tonemill.models.specgan import HOP_LENGTH

CLASSES = {"label": "kind", "labels": ("kick", "snare"), "label_dim": 3}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("wavegan", {"length": 1024}),
    ("wavegan", {"length": 2048, "post_filter": 16, "upsampling": "nearest", "loop": True, **CLASSES}),
    ("specgan", {"length": 4096, **CLASSES}),
    ("specgan", {"length": 4096, "upsampling": "nearest", "loop": True, "channels": 2}),
]


def made(name: str, settings: dict[str, Any]) -> Adversarial:
    torch.manual_seed(0)
    model_class: type[Model] = load_model(name)
    config: Any = model_class.Config
    model = model_class(config(sample_rate=8000, dim=2, **{"channels": 1, **settings})).eval()
    assert isinstance(model, Adversarial)
    return model


def batch(model: Adversarial, count: int) -> dict[str, torch.Tensor]:
    fields = {"kind": "snare"} if model.config.labels else {}
    each = [model.inputs(Request(seed, fields, {})) for seed in range(count)]
    return {name: torch.stack([one[name] for one in each]) for name in each[0]}


def output_of(data: bytes, form: str, inputs: dict[str, torch.Tensor]) -> np.ndarray:
    if form == "torchscript":
        with torch.inference_mode():
            found: np.ndarray = loaded_script(data)(*inputs.values()).numpy()
        return found
    (found,) = onnx_session(data).run(None, {name: x.numpy() for name, x in inputs.items()})
    return found


@pytest.mark.parametrize(("name", "settings"), CASES)
@pytest.mark.parametrize("form", ["onnx", "torchscript"])
def test_a_file_gives_what_a_render_gives(name: str, settings: dict[str, Any], form: str) -> None:
    pytest.importorskip("onnxruntime")
    model = made(name, settings)
    data = model.exported(form, None, {})
    assert model.export_error_db(form, None, data) < -100
    for count in (1, 5):
        inputs = batch(model, count)
        given = {key: x for key, x in inputs.items() if key != "phase"}
        output, rendered = output_of(data, form, given), model.render(inputs).numpy()
        if name == "specgan":
            config = model.config
            phase, magnitudes = inputs["phase"], torch.from_numpy(np.array(output))
            if config.loop:
                magnitudes, phase = magnitudes.repeat(1, 1, 3, 1), phase.repeat(1, 1, 3, 1)
            found = griffin_lim(magnitudes, phase, HOP_LENGTH, 60, config.griffin_lim_momentum, config.inversion)
            first = config.length if config.loop else 0
            output = found[..., first : first + config.length].numpy()
        assert output.shape == rendered.shape
        # Griffin and Lim's algorithm makes more of differences between the last bits.
        level, difference = (float(np.sqrt(np.mean(np.square(x)))) for x in (rendered, output - rendered))
        assert difference < 1e-3 * level


def test_a_file_of_other_weights_is_noticed() -> None:
    pytest.importorskip("onnxruntime")
    model = made(*CASES[0])
    data = model.exported("onnx", None, {})
    with torch.no_grad():
        next(model.generator.layers.parameters()).mul_(1.1)
    assert model.export_error_db("onnx", None, data) > -60


def test_a_program_finds_rate_classes_and_transform_in_the_file() -> None:
    pytest.importorskip("onnxruntime")
    session = onnx_session(made(*CASES[2]).exported("onnx", None, {}))
    facts = session.get_modelmeta().custom_metadata_map
    assert {
        "sample_rate": "8000",
        "labels": '["kick", "snare"]',
        "n_fft": "256",
        "hop_length": "128",
    }.items() <= facts.items()
    assert [one.name for one in session.get_inputs()] == ["latent", "label"]
    assert [one.name for one in session.get_outputs()] == ["magnitudes"]
