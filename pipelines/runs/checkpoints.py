"""Save and load what training needs to go on: safetensors for tensors, JSON for the rest, never code."""

from __future__ import annotations

import math
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from tonemill.audiotools.errors import RunError
from tonemill.models.contract import Model, build_model, load_model
from tonemill.pipelines import config
from tonemill.pipelines.runs import checkpoint_folder
from tonemill.pipelines.runs.checkpoint_folder import (
    CHECKPOINTS,
    DIGESTS,
    OPTIMIZERS,
    SCORE_STEP,
    STATE,
    WEIGHTS,
    Checkpoint,
    not_finite,
)
from tonemill.pipelines.runs.files import FileRun
from tonemill.pipelines.runs.parents import parents_of
from tonemill.pipelines.runs.run import Run
from tonemill.pipelines.storage import commit, json_files

AVERAGE: Final = "average."
"""Prefix of the averaged weights, beside those of the model itself."""


class State:
    """A model in training, with everything that changes from step to step.

    Args:
        model: on its device, and fitted: the averages begin with its weights.
        optimizers: by name.
        decay: of the running average of what rendering uses; None keeps none.
        scaler: of losses, for fp16; None scales none.
    """

    def __init__(
        self,
        model: Model,
        optimizers: Mapping[str, torch.optim.Optimizer],
        decay: float | None,
        scaler: torch.amp.GradScaler | None = None,
    ) -> None:
        self.model = model
        self.optimizers = optimizers
        self.scaler = scaler if scaler is not None else torch.amp.GradScaler("cpu", enabled=False)
        self.step = 0
        self.seconds = 0.0
        self.score: float | None = None
        self.score_step: int | None = None
        self.best_score: float | None = None
        self.since_best = 0
        """Scores since the best one."""
        self.turned: list[str] = []
        """Names of the model's turns that are done."""
        self._decay = decay
        weights = rendering_weights(model) if decay is not None else {}
        self.average = {name: tensor.clone() for name, tensor in weights.items()}
        self._learned = {name for name, _ in model.named_parameters(remove_duplicate=False)}

    def advance(self) -> None:
        """Count a step and move the averages: of parameters, for buffers are statistics and are copied.

        The first averages are short, so that what a model began with does not outlive it: the decay of step t is
        (1 + t) / (10 + t) at most, as in TensorFlow's ExponentialMovingAverage.
        """
        self.step += 1
        if self._decay is None:
            return
        decay = min(self._decay, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            for name, tensor in rendering_weights(self.model).items():
                if name in self._learned and tensor.is_floating_point():
                    self.average[name].lerp_(tensor, 1 - decay)
                else:
                    self.average[name].copy_(tensor)

    def measured(self, score: float | None) -> None:
        """Note the score of the weights as they are now."""
        self.score, self.score_step = score, self.step
        if score is not None and math.isfinite(score):
            better = self.best_score is None or score < self.best_score
            self.best_score = score if better else self.best_score
            self.since_best = 0 if better else self.since_best + 1

    @contextmanager
    def turning(self, name: str) -> Iterator[None]:
        """Do a turn of the model; the averages take over what it changes."""
        before = {key: tensor.clone() for key, tensor in rendering_weights(self.model).items()} if self.average else {}
        yield
        self.turned.append(name)
        self.score = None
        now = rendering_weights(self.model) if before else {}
        with torch.no_grad():
            for key, tensor in before.items():
                if not torch.equal(tensor, now[key]):
                    self.average[key].copy_(now[key])

    def refuse_not_finite(self, folder: Path) -> None:
        """Refuse weights and averages that hold a NaN or an infinity.

        Raises:
            RunError: names one, the last good checkpoint of the run, and what to try.
        """
        name = not_finite(_named(self.model, self.average))
        if name is not None:
            raise RunError(f"{name} is NaN or infinite at step {self.step}. {way_out(folder)}")

    def save(self, folder: Path) -> None:
        """Write a checkpoint beside the others, all at once.

        Raises:
            RunError: weights or averages are not finite.
            OutputError: it cannot be written.
        """
        self.refuse_not_finite(folder)
        target = folder / CHECKPOINTS / f"{self.step:08d}"
        part = checkpoint_folder.temporary_beside(target)
        try:
            part.mkdir(parents=True)
            self._write(part)
            if target.exists():
                checkpoint_folder.remove(target)
            part.replace(target)
            commit.sync_folder(target.parent)
        except (OSError, SafetensorError) as error:
            raise commit.unwritable(target, error if isinstance(error, OSError) else OSError(str(error))) from error
        finally:
            shutil.rmtree(part, ignore_errors=True)

    def _write(self, folder: Path) -> None:
        tensors, plain = _optimizer_state(self.optimizers)
        weights = {name: tensor.cpu().contiguous() for name, tensor in _named(self.model, self.average).items()}
        digests = {}
        for name, content in ((WEIGHTS, weights), (OPTIMIZERS, tensors)):
            save_file(content, folder / name)
            # safetensors lets only the owner read; the folder has the mode that the umask leaves.
            (folder / name).chmod(folder.stat().st_mode & 0o666)
            commit.sync_file(folder / name)
            digests[DIGESTS[name]] = commit.fingerprint(folder / name)["sha256"]
        known = self.score_step == self.step and self.score is not None and math.isfinite(self.score)
        state = {
            "step": self.step,
            "seconds": self.seconds,
            "score": self.score if known else None,
            SCORE_STEP: self.step if known else None,
            **digests,
            "optimizers": plain,
            "scaler": self.scaler.state_dict(),
            "best_score": self.best_score,
            "since_best": self.since_best,
            "turned": self.turned,
        }
        json_files.write_sealed(folder / STATE, state)

    def load(self, checkpoint: Checkpoint) -> None:
        """Go back to a checkpoint.

        Raises:
            RunError: it is damaged, not finite, or of a model that has changed since.
        """
        weights = read_tensors(checkpoint, WEIGHTS)
        tensors = read_tensors(checkpoint, OPTIMIZERS)
        refuse_saved_not_finite(checkpoint, weights)
        try:
            self.model.load_state_dict({name: t for name, t in weights.items() if not name.startswith(AVERAGE)})
            for name, tensor in self.average.items():
                tensor.copy_(weights[AVERAGE + name])
            for name, optimizer in self.optimizers.items():
                optimizer.load_state_dict(_restored(name, tensors, checkpoint.state["optimizers"][name]))
            # The version before kept no scale, which then begins where it began.
            if self.scaler.is_enabled() and checkpoint.state.get("scaler"):
                self.scaler.load_state_dict(checkpoint.state["scaler"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise _unfit(checkpoint, error) from error
        self.step = checkpoint.step
        self.seconds = float(checkpoint.state["seconds"])
        self.score, self.score_step = checkpoint.score, checkpoint.step
        self.best_score = checkpoint.state.get("best_score")
        self.since_best = int(checkpoint.state.get("since_best", 0))
        self.turned = list(checkpoint.state.get("turned", []))


def load_for_rendering(
    run: Run, checkpoint: Checkpoint, device: torch.device, places: Mapping[str, Path] | None = None
) -> Model:
    """A model with the weights to render with: the averages, where the run kept some.

    Args:
        run: of the model.
        checkpoint: of the run.
        device: for the model and its parents.
        places: of runs that it leans on and that have moved, by setting.

    Raises:
        RunError: the checkpoint is damaged, not finite, or of a model that has changed since; or a parent is missing.
    """
    if isinstance(run, FileRun):
        return run.model_in().to(device)
    model_class = load_model(run.model)
    values = model_class.current(run.model_config)
    settings: Any = config.build(model_class.config_of(values), values, f"{run.folder}")
    parents = {
        name: load_for_rendering(one.run, one.checkpoint, device) for name, one in parents_of(run, places or {}).items()
    }
    model = build_model(model_class, settings, parents)
    own = rendering_weights(model)
    path = checkpoint.whole(WEIGHTS)
    try:
        with safe_open(path, "pt") as file:
            names = set(file.keys())
            wanted = {name: AVERAGE + name if AVERAGE + name in names else name for name in own}
            chosen = {name: file.get_tensor(stored) for name, stored in wanted.items()}
    except (OSError, SafetensorError) as error:
        raise _unfit(checkpoint, error) from error
    refuse_saved_not_finite(checkpoint, chosen)
    with torch.no_grad():
        for name, tensor in chosen.items():
            if tensor.shape != own[name].shape:
                shapes = f"{tuple(tensor.shape)}, not {tuple(own[name].shape)}"
                raise _unfit(checkpoint, ValueError(f"{name} has the shape {shapes}"))
            own[name].copy_(tensor)
    return model.to(device).eval()


def rendering_weights(model: Model) -> dict[str, Tensor]:
    """Parameters and buffers that rendering uses, by their names in the whole model."""
    chosen = {
        id(tensor) for part in model.rendering_parts().values() for tensor in part.state_dict(keep_vars=True).values()
    }
    return {name: t.detach() for name, t in model.state_dict(keep_vars=True).items() if id(t) in chosen}


def way_out(folder: Path) -> str:
    """What to do where training went wrong, in words, from the last good checkpoint of a run."""
    tries = "Try a lower --learning-rate, --precision fp32, or another --seed"
    good = checkpoint_folder.last_good(folder)
    if good is None:
        return f"There is no good checkpoint yet. {tries}, with another -o."
    return (
        f"The last good checkpoint is {good.folder}; nothing was saved after it. {tries}, with another -o: "
        f"--init-from {folder} starts from its weights."
    )


def read_tensors(checkpoint: Checkpoint, name: str) -> dict[str, Tensor]:
    """What a file of a checkpoint holds, by name.

    Raises:
        RunError: it is damaged, or may not be read.
    """
    path = checkpoint.whole(name)
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise checkpoint.spoilt(name, f"cannot be used: {error}") from error


def refuse_saved_not_finite(checkpoint: Checkpoint, weights: Mapping[str, Tensor]) -> None:
    name = not_finite(weights)
    if name is not None:
        raise checkpoint.diverged(name)


def _unfit(checkpoint: Checkpoint, error: Exception) -> RunError:
    """The error for a checkpoint whose files are those that were saved."""
    reason = " ".join(str(error).split()).rstrip(". ")
    return RunError(
        f"{checkpoint.folder} is intact, but does not fit the model of this version of tonemill: {reason}. Train "
        "again with another -o, or use the version that wrote it, which run.json names."
    )


def _named(model: Model, average: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """All that is saved of a model, by the names in the file."""
    named = {**model.state_dict(), **{AVERAGE + name: tensor for name, tensor in average.items()}}
    return {name: tensor.detach() for name, tensor in named.items()}


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
