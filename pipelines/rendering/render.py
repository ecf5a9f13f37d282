"""Render requests with a trained model, in batches of one size, so that a request always gives the same bytes."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from tonemill.audiotools.editing.resampling import resample
from tonemill.audiotools.errors import RunError, UsageError
from tonemill.audiotools.waveform import Waveform
from tonemill.models.contract import Model, Request
from tonemill.pipelines.runs.checkpoints import load_for_rendering
from tonemill.pipelines.runs.files import opened
from tonemill.pipelines.runs.parents import parents_of
from tonemill.pipelines.storage.paths import to_path

_device_in_use = threading.Lock()
"""One worker at a time computes: a forward pass already uses every core, or the whole accelerator."""

_loading = threading.Lock()


def render(
    model: Model, requests: Sequence[Request], batch_size: int, device: torch.device
) -> list[Float32[np.ndarray, "channels _"]]:
    """What the model renders for each request, in order: audio (channels, time), or an array (channels, frames).

    A batch is padded to `batch_size`, for another size would choose other kernels and so other roundings. Requests
    whose inputs differ in shape are not stacked.

    Args:
        model: in eval mode, on the device.
        requests: of one direction, with equal options.
        batch_size: requests rendered at once.
        device: of the model.

    Raises:
        UsageError: a request holds a field that the model cannot use.
    """
    rendered: list[np.ndarray] = []
    for some in _of_one_shape([model.inputs(request) for request in requests], batch_size):
        padded = some + [some[-1]] * (batch_size - len(some))
        stacked = {name: torch.stack([one[name] for one in padded]).to(device) for name in padded[0]}
        with _device_in_use, torch.inference_mode():
            output = model.render(stacked, requests[0].direction, requests[0].options)
        rendered += list(output.float().cpu().numpy()[: len(some)])
    return rendered


def _of_one_shape(inputs: Sequence[dict[str, Tensor]], most: int) -> Iterator[list[dict[str, Tensor]]]:
    """Neighbours whose inputs have the same shapes, at most so many at a time."""
    for _, same in itertools.groupby(inputs, key=lambda one: {name: x.shape for name, x in one.items()}):
        group = list(same)
        yield from (group[first : first + most] for first in range(0, len(group), most))


def at_rate(waveform: Waveform, sample_rate: int) -> Waveform:
    """A sound at the rate of a model."""
    if waveform.sample_rate == sample_rate:
        return waveform
    return Waveform(resample(waveform.samples, waveform.sample_rate, sample_rate), sample_rate)


def describe(model: Model, requests: Sequence[Request], batch_size: int, device: torch.device) -> list[dict[str, Any]]:
    """The fields that a model gives for each request, in order."""
    with _device_in_use, torch.inference_mode():
        return model.to(device).describe(requests, batch_size)


def loaded_for(
    uri: str,
    step: int,
    digest: str,
    device: str,
    parents: Mapping[str, str] | None = None,
    parents_uri: Mapping[str, str] | None = None,
) -> tuple[Model, torch.device]:
    """The model that a recipe names, and its device; loaded once and kept for the next batch.

    Args:
        uri: of the run.
        step: of its checkpoint.
        digest: of the checkpoint's weights.
        device: or auto.
        parents: digests of the runs that it leans on, by setting; None where no recipe states them.
        parents_uri: folder of those runs; default: the paths in run.json.

    Raises:
        RunError: it is missing, damaged, or not the one that the recipe was written for.
    """
    chosen = pick_device(device)
    known = tuple(sorted(parents.items())) if parents is not None else None
    with _loading:
        return _loaded(uri, step, digest, str(chosen), known, tuple(sorted((parents_uri or {}).items()))), chosen


@lru_cache(maxsize=2)
def _loaded(
    uri: str,
    step: int,
    digest: str,
    device: str,
    parents: tuple[tuple[str, str], ...] | None,
    parents_uri: tuple[tuple[str, str], ...],
) -> Model:
    run = opened(to_path(uri))
    checkpoint = run.checkpoint(str(step))
    places = {name: to_path(place) for name, place in parents_uri}
    digests = {name: parent.checkpoint.digest for name, parent in parents_of(run, places).items()}
    if checkpoint.digest != digest or (parents is not None and digests != dict(parents)):
        raise RunError(
            f"{checkpoint.folder} is not the checkpoint that the recipe was made for: the run, or one that it "
            "uses, was trained further or replaced. Repeat the whole pipe from its first command."
        )
    return load_for_rendering(run, checkpoint, torch.device(device), places)


def pick_device(wish: str) -> torch.device:
    """The device of a name; `auto` takes an accelerator where there is one.

    Raises:
        UsageError: there is no such device here.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wish == "auto":
        return torch.device(next(device for device in ("cuda", "mps", "cpu") if there[device]))
    if not there[wish]:
        usable = " or ".join(device for device in there if there[device])
        raise UsageError(
            f"--device is {wish}, which PyTorch cannot use on this machine. Give {usable}; `tonemill doctor` lists "
            "the devices."
        )
    return torch.device(wish)
