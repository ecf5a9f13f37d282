"""What held-out frames show of a prior: their likelihood beside that of linear models."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from tonemill.models.exchange import Request, Validation
from tonemill.models.prior.frames import FrameModel
from tonemill.models.prior.settings import PriorConfig


def validated(model: FrameModel, config: PriorConfig, held_out: Iterable[Request]) -> Validation | None:
    """Nats for each live coordinate of held-out frames; None where there are none.

    Nats are of the density of normalised frames, so a corpus of another level has the same.
    """
    sums, frames = torch.zeros(3, dtype=torch.float64), 0
    for some in _some(held_out, config, model.linear.mean.device):
        ours = model.log_likelihood(some).sum(dim=2) / model.linear.live_rows
        linear = model.linear.likelihood(model.linear.normalized(some))
        sums += torch.tensor([float(one.sum()) for one in (ours, linear.autoregressive, linear.independent)])
        frames += some.shape[1]
    if not frames:
        return None
    ours, autoregressive, independent = (sums / frames).tolist()
    values = {
        "held_out_nats": ours,
        "above_autoregression_nats": ours - autoregressive,
        "above_independence_nats": ours - independent,
        "live_rows": float(model.linear.live_rows),
        "validated_frames": float(frames),
    }
    return Validation(-ours, values)


def _some(held_out: Iterable[Request], config: PriorConfig, device: torch.device) -> Iterator[Tensor]:
    """Held-out frames (1, time, rows), each example whole, until there are enough."""
    left = config.validate_seconds * (config.sample_rate or 1) / (config.hop or 1) or float("inf")
    for request in held_out:
        values = request.arrays[str(config.array)][:, : int(min(left, request.arrays[str(config.array)].shape[1]))]
        if values.shape[1]:
            yield torch.from_numpy(np.array(values, np.float32).T.copy())[None].to(device)
        left -= values.shape[1]
        if left < 1:
            return
