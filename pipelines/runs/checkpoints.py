"""Save and load what training needs to go on: safetensors for tensors, JSON for the rest, never code."""

from __future__ import annotations

import hashlib
import json
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from tonemill.audiotools.errors import RunError
from tonemill.models.contract import Model, load_model
from tonemill.pipelines import config
from tonemill.pipelines.runs.run import OPTIMIZERS, STATE, WEIGHTS, Checkpoint, Run
from tonemill.pipelines.storage import commit

AVERAGE: Final = "average."
"""Prefix of the averaged weights, beside those of the model itself."""


class State:
    """A model in training, with everything that changes from step to step.

    Args:
        model: on its device.
        optimizers: by name.
        decay: of the running average of what rendering uses; None keeps none.
    """

    def __init__(self, model: Model, optimizers: Mapping[str, torch.optim.Optimizer], decay: float | None) -> None:
        self.model = model
        self.optimizers = optimizers
        self.step = 0
        self.seconds = 0.0
        self.score: float | None = None
        self._decay = decay
        self.average = rendering_weights(model) if decay is not None else {}
        self.average = {name: tensor.clone() for name, tensor in self.average.items()}

    def advance(self) -> None:
        """Count a step and move the averages."""
        self.step += 1
        if self._decay is None:
            return
        with torch.no_grad():
            for name, tensor in rendering_weights(self.model).items():
                if tensor.is_floating_point():
                    self.average[name].lerp_(tensor, 1 - self._decay)
                else:
                    self.average[name].copy_(tensor)

    def save(self, folder: Path) -> None:
        """Write a checkpoint beside the others, all at once."""
        target = folder / "checkpoints" / f"{self.step:08d}"
        target.parent.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(prefix=commit.TEMPORARY, dir=target.parent))
        tensors, plain = _optimizer_state(self.optimizers)
        try:
            save_file(_weights(self.model, self.average), part / WEIGHTS)
            save_file(tensors, part / OPTIMIZERS)
            digest = hashlib.sha256((part / WEIGHTS).read_bytes()).hexdigest()
            state = {
                "step": self.step,
                "seconds": self.seconds,
                "score": self.score,
                "sha256": digest,
                "optimizers": plain,
            }
            (part / STATE).write_text(json.dumps(state))
            for path in part.iterdir():
                commit.sync_file(path)
            part.chmod(0o755)
            shutil.rmtree(target, ignore_errors=True)
            part.replace(target)
            commit.sync_folder(target.parent)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(part, ignore_errors=True)
            raise commit.unwritable(target, error if isinstance(error, OSError) else OSError(str(error))) from error

    def load(self, checkpoint: Checkpoint) -> None:
        """Go back to a checkpoint.

        Raises:
            RunError: it is damaged.
        """
        try:
            with safe_open(checkpoint.weights, "pt") as file:
                names = list(file.keys())
                weights = {name: file.get_tensor(name) for name in names}
            self.model.load_state_dict({name: t for name, t in weights.items() if not name.startswith(AVERAGE)})
            for name, tensor in self.average.items():
                tensor.copy_(weights[AVERAGE + name])
            with safe_open(checkpoint.folder / OPTIMIZERS, "pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  (no mapping)
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(_restored(name, tensors, checkpoint.state["optimizers"][name]))
        except (OSError, SafetensorError, KeyError, RuntimeError, ValueError) as error:
            raise damaged(checkpoint, error) from error
        self.step = checkpoint.step
        self.seconds = float(checkpoint.state["seconds"])
        self.score = checkpoint.state["score"]

    def load_weights_from(self, run: Run) -> str:
        """Take over another run's weights where names and shapes agree; returns what was taken, in words.

        Raises:
            RunError: nothing agrees, or the checkpoint is damaged.
        """
        checkpoint = run.checkpoint()
        own = self.model.state_dict()
        taken = {}
        try:
            with safe_open(checkpoint.weights, "pt") as file:
                for name in set(file.keys()) & set(own):
                    tensor = file.get_tensor(name)
                    if tensor.shape == own[name].shape:
                        taken[name] = tensor
        except (OSError, SafetensorError) as error:
            raise damaged(checkpoint, error) from error
        if not taken:
            raise RunError(
                f"--init-from {run.folder}: no weight of its {run.model} has the name and shape of one of this model."
            )
        self.model.load_state_dict({**own, **taken})
        for name, tensor in rendering_weights(self.model).items():
            if name in self.average:
                self.average[name].copy_(tensor)
        return f"Took {len(taken)} of {len(own)} tensors from {checkpoint.folder}."


def load_for_rendering(run: Run, checkpoint: Checkpoint, device: torch.device) -> Model:
    """A model with the weights to render with: the averages, where the run kept some.

    Raises:
        RunError: the checkpoint is damaged, or of a model that has changed since.
    """
    model_class = load_model(run.model)
    settings: Any = config.build(model_class.config_of(run.model_config), run.model_config, f"{run.folder}")
    model = model_class(settings)
    try:
        with safe_open(checkpoint.weights, "pt") as file:
            names = set(file.keys())
            own = rendering_weights(model)
            wanted = {name: AVERAGE + name if AVERAGE + name in names else name for name in own}
            with torch.no_grad():
                for name, stored in wanted.items():
                    tensor = file.get_tensor(stored)
                    if tensor.shape != own[name].shape:
                        raise ValueError(f"{name} has the shape {tuple(tensor.shape)}, not {tuple(own[name].shape)}")
                    own[name].copy_(tensor)
    except (OSError, SafetensorError, ValueError) as error:
        raise damaged(checkpoint, error) from error
    return model.to(device).eval()


def rendering_weights(model: Model) -> dict[str, Tensor]:
    """Parameters and buffers that rendering uses, by their names in the whole model."""
    chosen = {
        id(tensor) for part in model.rendering_parts().values() for tensor in part.state_dict(keep_vars=True).values()
    }
    return {name: t.detach() for name, t in model.state_dict(keep_vars=True).items() if id(t) in chosen}


def damaged(checkpoint: Checkpoint, error: Exception) -> RunError:
    return RunError(
        f"{checkpoint.folder} cannot be used: {error}. Remove that folder to go on from the checkpoint before it."
    )


def _weights(model: Model, average: Mapping[str, Tensor]) -> dict[str, Tensor]:
    named = {**model.state_dict(), **{AVERAGE + name: tensor for name, tensor in average.items()}}
    return {name: tensor.detach().cpu().contiguous() for name, tensor in named.items()}


def _optimizer_state(optimizers: Mapping[str, torch.optim.Optimizer]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors as NAME.INDEX.KEY, and what JSON can hold, whose numbers come back exactly."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {}
    for name, optimizer in optimizers.items():
        full = optimizer.state_dict()
        rest: dict[str, dict[str, Any]] = {}
        for index, entries in full["state"].items():
            rest[str(index)] = {key: value for key, value in entries.items() if not isinstance(value, Tensor)}
            found = {f"{name}.{index}.{key}": value for key, value in entries.items() if isinstance(value, Tensor)}
            tensors |= {key: value.detach().cpu().contiguous() for key, value in found.items()}
        plain[name] = {"state": rest, "param_groups": full["param_groups"]}
    return tensors, plain


def _restored(name: str, tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> dict[str, Any]:
    state: dict[int, dict[str, Any]] = {int(index): dict(entries) for index, entries in plain["state"].items()}
    for key, tensor in tensors.items():
        owner, index, entry = key.rsplit(".", 2)
        if owner == name:
            state[int(index)][entry] = tensor
    groups = [{k: tuple(v) if k == "betas" else v for k, v in group.items()} for group in plain["param_groups"]]
    return {"state": state, "param_groups": groups}
