"""Render requests with a trained model, in batches of one size, so that a seed always gives the same bytes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch

from tonemill.audiotools.editing.resampling import resample
from tonemill.audiotools.errors import RunError, UsageError
from tonemill.audiotools.waveform import Waveform
from tonemill.models.contract import Model, Request
from tonemill.pipelines.runs.checkpoints import load_for_rendering
from tonemill.pipelines.runs.run import open_run
from tonemill.pipelines.storage.paths import to_path

_device_in_use = threading.Lock()
"""One worker at a time computes: a forward pass already uses every core, or the whole accelerator."""

_loading = threading.Lock()


def render(model: Model, requests: Sequence[Request], batch_size: int, device: torch.device) -> list[Waveform]:
    """Audio for each request, in order.

    The last batch is padded to `batch_size`, for another size would choose other kernels and so other roundings.

    Raises:
        UsageError: a request holds a field that the model cannot use.
    """
    rendered: list[Waveform] = []
    for first in range(0, len(requests), batch_size):
        inputs = [model.inputs(request) for request in requests[first : first + batch_size]]
        padded = inputs + [inputs[-1]] * (batch_size - len(inputs))
        stacked = {name: torch.stack([one[name] for one in padded]).to(device) for name in padded[0]}
        with _device_in_use, torch.inference_mode():
            audio = model.render(stacked).float().cpu().numpy()
        rendered += [Waveform(samples, model.sample_rate) for samples in audio[: len(inputs)]]
    return rendered


def heard_at(waveform: Waveform, sample_rate: int) -> Waveform:
    """A sound at the rate that a model hears at."""
    if waveform.sample_rate == sample_rate:
        return waveform
    return Waveform(resample(waveform.samples, waveform.sample_rate, sample_rate), sample_rate)


def describe(model: Model, requests: Sequence[Request], batch_size: int, device: torch.device) -> list[dict[str, Any]]:
    """What a model that makes fields says of each request, in order."""
    with _device_in_use, torch.inference_mode():
        return model.to(device).describe(requests, batch_size)


def loaded_for(uri: str, step: int, digest: str, device: str) -> tuple[Model, torch.device]:
    """The model that a recipe names, and where it computes; loaded once and kept for the next batch.

    Raises:
        RunError: it is missing, damaged, or not the one that the recipe was written for.
    """
    chosen = pick_device(device)
    with _loading:
        return _loaded(uri, step, digest, str(chosen)), chosen


@lru_cache(maxsize=2)
def _loaded(uri: str, step: int, digest: str, device: str) -> Model:
    run = open_run(to_path(uri))
    checkpoint = run.checkpoint(str(step))
    if checkpoint.digest != digest:
        raise RunError(f"{checkpoint.folder} is not the checkpoint that the recipe names; write the recipes anew.")
    return load_for_rendering(run, checkpoint, torch.device(device))


def pick_device(wish: str) -> torch.device:
    """The device of a name; `auto` takes an accelerator where there is one.

    Raises:
        UsageError: there is no such device here.
    """
    there = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if wish == "auto":
        return torch.device(next(device for device in ("cuda", "mps", "cpu") if there[device]))
    if not there[wish]:
        raise UsageError(f"--device is {wish}, and this machine has {', '.join(d for d in there if there[d])}.")
    return torch.device(wish)
