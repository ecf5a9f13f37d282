"""One checkpoint on disk: read its state, hold its files against their digests, and name what mends one that differs.

A checkpoint appears by one rename and goes by one, so its folder is whole or has a name that the next command sweeps.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tonemill.audiotools.errors import RunError
from tonemill.pipelines.runs.metric_lines import METRICS, read_lines
from tonemill.pipelines.storage import commit, json_files
from tonemill.pipelines.storage.paths import kept

if TYPE_CHECKING:
    from torch import Tensor

CHECKPOINTS: Final = "checkpoints"
STATE: Final = "state.json"
WEIGHTS: Final = "weights.safetensors"
OPTIMIZERS: Final = "optimizers.safetensors"

DIGESTS: Final = {WEIGHTS: "sha256", OPTIMIZERS: "optimizers_sha256"}
"""The key of `state.json` that holds the digest of a file; the version before recorded none of the optimizers."""

SCORE_STEP: Final = "score_step"
"""The key of the step at which the score was measured; the version before recorded none, and did not seal the file."""


class _Spoilt(Exception):
    """A file of a checkpoint is missing or differs from what was saved.

    Args:
        found: in words, with the file's name.
        weights: whether it is the weights, without which nothing of the checkpoint can be used.
        diverged: whether it is as it was saved, and training went wrong.
    """

    def __init__(self, found: str, weights: bool = False, diverged: bool = False) -> None:
        super().__init__(found)
        self.weights = weights
        self.diverged = diverged


@dataclass(frozen=True)
class Checkpoint:
    """One saved state of a run."""

    folder: Path
    state: dict[str, Any]

    @property
    def step(self) -> int:
        return int(self.state["step"])

    @property
    def digest(self) -> str:
        """SHA-256 of the weights."""
        return str(self.state["sha256"])

    @property
    def weights(self) -> Path:
        return self.folder / WEIGHTS

    @property
    def score(self) -> float | None:
        """What was measured of these very weights, the smaller the better; None where nothing was.

        The version before put the last score into every checkpoint. There the metrics tell which step it is of.
        """
        if self.state.get("score") is None:
            return None
        known = self.state[SCORE_STEP] == self.step if SCORE_STEP in self.state else self.step in _measured(self.folder)
        return float(self.state["score"]) if known else None

    def whole(self, name: str) -> Path:
        """A file of it whose bytes are those that were saved; of a run in a store, a copy in TMPDIR.

        Raises:
            RunError: they are others, or may not be read.
        """
        try:
            return _whole(self, name)
        except _Spoilt as spoilt:
            raise _refusal(self.folder, spoilt) from spoilt

    def spoilt(self, name: str, found: str) -> RunError:
        """The error for a file of it that cannot be used, with what mends it."""
        return _refusal(self.folder, _Spoilt(f"{self.folder / name} {found}", name == WEIGHTS))

    def diverged(self, tensor: str) -> RunError:
        """The error for weights that were saved and are not finite, as only the version before saved them."""
        found = f"{self.weights} holds weights that are not finite, as {tensor}: training went wrong before step"
        return _refusal(self.folder, _Spoilt(f"{found} {self.step}", weights=True, diverged=True))


def listed(run: Path) -> list[Path]:
    """The folders of a run's checkpoints, oldest first.

    Raises:
        RunError: they may not be listed.
    """
    return [folder for folder in _numbered(run) if refuse_unreadable(folder / STATE)]


def with_whole_states(run: Path) -> list[Checkpoint]:
    """The checkpoints of a run whose state is whole, oldest first.

    Raises:
        RunError: one may not be read.
    """
    found = []
    for folder in listed(run):
        with contextlib.suppress(_Spoilt):
            found.append(_read(folder))
    return found


def read(folder: Path) -> Checkpoint:
    """The checkpoint in a folder.

    Raises:
        RunError: its state is damaged, or may not be read.
    """
    try:
        return _read(folder)
    except _Spoilt as spoilt:
        raise _refusal(folder, spoilt) from spoilt


def last_good(run: Path) -> Checkpoint | None:
    """The newest checkpoint that is whole and finite.

    Raises:
        RunError: the checkpoints may not be listed.
    """
    return next((one for one in map(_good, reversed(listed(run))) if one is not None), None)


def remove(folder: Path) -> None:
    """Remove a checkpoint: at once it is none, and what a kill leaves of it is swept.

    Raises:
        OutputError: it cannot be removed.
    """
    going = temporary_beside(folder)
    try:
        folder.rename(going)
        commit.sync_folder(folder.parent)
    except OSError as error:
        raise commit.unwritable(folder, error) from error
    shutil.rmtree(going, ignore_errors=True)


def sweep(run: Path) -> None:
    """Remove what the version before left where it was killed while it removed a checkpoint: one without a state.

    Raises:
        RunError: the checkpoints may not be listed.
        OutputError: one cannot be removed.
    """
    for folder in _numbered(run):
        if not refuse_unreadable(folder / STATE):
            remove(folder)


def temporary_beside(folder: Path) -> Path:
    """A name of which the next command sweeps what is left."""
    return folder.with_name(f"{commit.TEMPORARY}{secrets.token_hex(8)}")


def not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor that holds a NaN or an infinity."""
    return next((name for name, tensor in tensors.items() if not bool(tensor.isfinite().all())), None)


def refuse_unreadable(path: Path) -> bool:
    """Whether a file is there.

    Raises:
        RunError: it is there and may not be read.
    """
    try:
        # Only regular files are opened: a pipe would wait for a writer.
        if path.is_file():
            with path.open("rb"):
                return True
        return path.exists()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> RunError:
    """The error for a file that is there and cannot be read, which need not be damaged."""
    if isinstance(error, PermissionError):
        return RunError(
            f"{path} cannot be read: {error.strerror}. Its owner can give you the right to read it with `chmod -R "
            "a+rX`."
        )
    return RunError(f"{path} cannot be read: {error.strerror or error}. Check the disk, then repeat the command.")


def _numbered(run: Path) -> list[Path]:
    try:
        found = [path for path in (run / CHECKPOINTS).iterdir() if path.name.isdecimal() and path.is_dir()]
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise _unreadable(run / CHECKPOINTS, error) from error
    return sorted(found, key=lambda path: int(path.name))


def _read(folder: Path) -> Checkpoint:
    path = folder / STATE
    refuse_unreadable(path)
    state = json_files.read_json(path)
    if not isinstance(state, dict) or json_files.SEAL in state or SCORE_STEP in state:
        state = json_files.read_sealed(path)
    if state is None or not _is_state(state) or state["step"] != int(folder.name):
        raise _Spoilt(f"{path} is damaged")
    return Checkpoint(folder, state)


def _is_state(state: Mapping[str, Any]) -> bool:
    score = state.get("score")
    return (
        type(state.get("step")) is int
        and isinstance(state.get("seconds"), int | float)
        and (score is None or isinstance(score, int | float))
        and isinstance(state.get("sha256"), str)
        and isinstance(state.get("optimizers"), dict)
    )


def _whole(checkpoint: Checkpoint, name: str) -> Path:
    path = checkpoint.folder / name
    recorded = checkpoint.state.get(DIGESTS[name])
    try:
        copy = kept(path)
        if copy != path and _digest_of(copy) != recorded:
            # A store's times may be too coarse to tell two versions: fetch it again.
            copy.unlink(missing_ok=True)
            copy = kept(path)
        found = _digest_of(copy)
    except FileNotFoundError:
        raise _Spoilt(f"{path} is missing", name == WEIGHTS) from None
    except OSError as error:
        raise _unreadable(path, error) from error
    if recorded is not None and found != recorded:
        if SCORE_STEP not in checkpoint.state:
            # Nothing seals the state of the version before, so the recorded digest may be what is damaged.
            raise _Spoilt(f"{path} is damaged, or the {STATE} beside it is: its SHA-256 is not the recorded one")
        raise _Spoilt(f"{path} is damaged: its SHA-256 is not the recorded one", name == WEIGHTS)
    return copy


def _digest_of(path: Path) -> str:
    status = path.stat()
    return _digest(path, status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


@lru_cache(maxsize=256)
def _digest(path: Path, *version: int) -> str:
    """SHA-256 of a version of a file, read once."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _good(folder: Path) -> Checkpoint | None:
    """The checkpoint in a folder, if it is whole and its weights are finite."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with contextlib.suppress(_Spoilt, RunError, SafetensorError, OSError):
        checkpoint = _read(folder)
        load_file(_whole(checkpoint, OPTIMIZERS))
        return None if not_finite(load_file(_whole(checkpoint, WEIGHTS))) else checkpoint
    return None


def _refusal(folder: Path, spoilt: _Spoilt) -> RunError:
    """What was found, which checkpoint can be used in its place, and how."""
    there = listed(folder.parent.parent)
    earlier = [one for one in there if int(one.name) < int(folder.name)]
    later = [one for one in there if int(one.name) > int(folder.name)]
    other = next((one for one in map(_good, [*reversed(earlier), *later]) if one is not None), None)
    # Intact weights can still be used, so the message does not advise to remove them.
    away = "Remove {}" if spoilt.weights else "Move {} out of the run"
    mends = []
    if other is not None:
        mends.append(f"Render another checkpoint with --checkpoint {other.step}.")
    elif not spoilt.diverged:
        mends.append("No other checkpoint of the run is intact: restore the file from a backup.")
    if not later:
        first = 0 if other is None else other.step
        after = [one.name for one in there if int(one.name) > first]
        which = "that folder" if len(after) == 1 else f"the folders {' and '.join(after)}"
        mends.append(f"{away.format(which)} to train on from step {first}.")
    if spoilt.diverged:
        mends.append(
            "The same settings may fail in the same way: start a new run with a lower --learning-rate, and another -o."
        )
    return RunError(f"{spoilt}. {' '.join(mends)}")


def _measured(folder: Path) -> frozenset[int]:
    """The steps at which a run was measured, from its metrics."""
    path = folder.parent.parent / METRICS
    if not refuse_unreadable(path):
        return frozenset()
    status = path.stat()
    return _steps_measured(path, status.st_ino, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=4)
def _steps_measured(path: Path, *version: int) -> frozenset[int]:
    # `validated_on` is of models that compare held-out examples, the distance of those that render clips.
    found = {int(record["step"]) for record in read_lines(path) if {"mel_distance_db", "validated_on"} & record.keys()}
    return frozenset(found)
