"""The training loop, the same for every model: seeding, precision, averages, checkpoints, listening.

Step n draws its randomness from the run's seed and n, and its batch is the n-th of the loader. So a run that was
interrupted and goes on learns, on a CPU, bit for bit what an uninterrupted one does.
"""

from __future__ import annotations

import hashlib
import math
import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor

from tonemill.audiotools.errors import OutputError, RunError, TonemillError
from tonemill.models.contract import Model, build_model, load_model
from tonemill.pipelines import config
from tonemill.pipelines.corpus import environment
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.rendering.render import pick_device
from tonemill.pipelines.runs import checkpoint_folder, checkpoints
from tonemill.pipelines.runs.checkpoints import load_for_rendering
from tonemill.pipelines.runs.directions import described
from tonemill.pipelines.runs.metric_log import Metrics
from tonemill.pipelines.runs.parents import USES, Parent, chosen_parents, parents_of
from tonemill.pipelines.runs.run import (
    RUN_JSON,
    RUN_TOML,
    SCHEMA,
    Run,
    TrainConfig,
    open_run,
    prune,
    refuse_other_config,
)
from tonemill.pipelines.storage import commit, folders, json_files
from tonemill.pipelines.training.beginning import batches_for, begin, refuse_small_batches
from tonemill.pipelines.training.facts import facts_of
from tonemill.pipelines.training.listener import Listener
from tonemill.pipelines.training.loader import batches

OUT_OF_MEMORY: Final = ("can't allocate memory", "not enough memory", "out of memory", "CUBLAS_STATUS_ALLOC_FAILED")
"""What PyTorch says in a plain RuntimeError where a CPU, an MPS device or a library of CUDA has no more memory."""

TWICE_SECONDS: Final = 1.0
"""Two signals that come within this are one wish."""


@dataclass(frozen=True)
class Trained:
    """What a call of `train` left."""

    run: Run
    step: int
    interrupted: bool


def train(
    name: str,
    model_config: Any,
    settings: TrainConfig,
    corpus: Corpus,
    folder: Path,
    progress: Progress,
    init_from: Run | None = None,
) -> Trained:
    """Train a model on a corpus into a run folder, going on where an earlier call stopped.

    Raises:
        CorpusError: the corpus does not fit the model.
        RunError: the folder holds a run of other settings, or a loss is no longer finite.
        OutputError: the folder holds something else, or cannot be written.
    """
    model_class = load_model(name)
    parents = _parents(model_class, model_config, folder)
    facts = replace(facts_of(corpus), parents={setting: one.facts() for setting, one in parents.items()})
    model_config = model_class.settle(model_config, facts)
    device = pick_device(settings.device)
    refuse_small_batches(model_class, name, settings.batch_size)
    torch.manual_seed(_seed_of(settings.seed, "weights"))
    loaded = {setting: load_for_rendering(one.run, one.checkpoint, device) for setting, one in parents.items()}
    model = build_model(model_class, model_config, loaded)
    with _held(folder), _within_memory(folder, settings):
        run = _earlier(folder, name, model_config, settings, corpus)
        saved = run.last() if run is not None else None
        model.to(device)
        if run is None:
            taken = begin(model, corpus, settings, device, init_from)
            if taken is not None:
                progress.say(taken)
            run = _begun(folder, name, model_config, settings, corpus, model, parents)
        checkpoint_folder.sweep(run.folder)
        scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
        state = checkpoints.State(model, model.optimizers(), settings.ema, scaler)
        if saved is not None:
            state.load(saved)
        return _loop(state, run, settings, corpus, device, progress)


class Updater:
    """Steps optimizers for `Model.training_step`; with fp16 it scales losses so that small gradients survive."""

    def __init__(
        self, optimizers: Mapping[str, torch.optim.Optimizer], device: torch.device, scaler: torch.amp.GradScaler
    ) -> None:
        self._optimizers = optimizers
        self._device = device.type
        self._scaler = scaler

    def __call__(self, optimizer: str, loss: Tensor) -> None:
        chosen = self._optimizers[optimizer]
        chosen.zero_grad(set_to_none=True)
        # Backward runs in the types that forward chose; PyTorch advises against autocast around it
        # (https://docs.pytorch.org/docs/stable/amp.html).
        with torch.autocast(self._device, enabled=False):
            self._scaler.scale(loss).backward()
            self._scaler.step(chosen)
            self._scaler.update()
        # Within a step autocast keeps weights in half precision, which now are those from before the update.
        torch.clear_autocast_cache()


def _loop(
    state: checkpoints.State, run: Run, settings: TrainConfig, corpus: Corpus, device: torch.device, progress: Progress
) -> Trained:
    model = state.model
    dataset = batches_for(model, corpus, settings, first=state.step)
    processes = settings.loader_workers if settings.loader_workers is not None else 4 * (device.type != "cpu")
    update = Updater(state.optimizers, device, state.scaler)
    metrics = Metrics(run.folder, state.step)
    listener = Listener(run.folder, corpus, settings, model, metrics)
    clock = _Clock(state.seconds)
    total = settings.steps if settings.steps is not None else None
    with progress.phase(f"train {run.folder}", total, "steps") as phase, _interruptible() as interrupted, metrics:
        phase.reach(state.step, counted=False)
        saved = state.step if run.checkpoints() else None
        over = _finished(state.step, clock.seconds, settings)
        incoming = batches(dataset, processes, pin=device.type == "cuda")
        while not interrupted and not over:
            batch = next(incoming).to(device)
            model.train()
            torch.manual_seed(_seed_of(settings.seed, state.step + 1))
            with torch.autocast(device.type, _dtype(settings.precision), enabled=settings.precision != "fp32"):
                losses = model.training_step(batch, state.step + 1, update)
            state.advance()
            state.seconds = clock.seconds
            over = _finished(state.step, clock.seconds, settings)
            metrics.collect(losses)
            if state.step % settings.log_every == 0:
                _refuse_runaway(metrics.write(state.step, clock.seconds), state.step, run)
                phase.about = metrics.line()
            measured = (state.step % settings.listen_every == 0 or over) and _measure(state, run, listener, device)
            if over:
                _refuse_runaway(metrics.write(state.step, clock.seconds), state.step, run)
            if measured or state.step % settings.checkpoint_every == 0 or over:
                _save(state, run, settings)
                saved = state.step
            phase.advance(1)
        if saved != state.step:
            metrics.write(state.step, clock.seconds)
            if not interrupted:
                _measure(state, run, listener, device)
            _save(state, run, settings)
    return Trained(run, state.step, bool(interrupted))


def _measure(state: checkpoints.State, run: Run, listener: Listener, device: torch.device) -> bool:
    """Listen to the weights as they are, unless they are not finite; returns whether they have a score."""
    state.refuse_not_finite(run.folder)
    state.measured(listener.listen(state, device))
    return state.score is not None


def _save(state: checkpoints.State, run: Run, settings: TrainConfig) -> None:
    state.save(run.folder)
    prune(run, settings.keep)


def _finished(step: int, seconds: float, settings: TrainConfig) -> bool:
    return (settings.steps is not None and step >= settings.steps) or (
        settings.minutes is not None and seconds >= settings.minutes * 60
    )


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """Hold the folder of a run; one that was made for a training that is refused goes again."""
    new = not folder.exists()
    try:
        with folders.locked(_claimed(folder)):
            yield
    except TonemillError:
        if new:
            with suppress(OSError):
                folder.rmdir()
        raise


def _claimed(folder: Path) -> Path:
    """The folder, if it is new, empty, or a run."""
    if (folder / RUN_JSON).exists() or folders.is_ours_or_empty(folder, RUN_TOML):
        return folder
    raise OutputError(f"{folder} holds something that tonemill did not make. Name a new folder with -o.")


def _earlier(folder: Path, name: str, model_config: Any, settings: TrainConfig, corpus: Corpus) -> Run | None:
    """The run of a folder, held against the settings; None where there is none, or no step of it was saved."""
    if not (folder / RUN_JSON).exists():
        return None
    run = open_run(folder)
    # A damaged checkpoint is an error here, and no reason to begin in its place.
    if run.last() is None:
        return None
    refuse_other_config(run, config.to_dict(settings), name, config.to_dict(model_config), corpus.about["digest"])
    return run


def _parents(model_class: type[Model], model_config: Any, folder: Path) -> dict[str, Parent]:
    """The runs that a training leans on: those of the run that goes on, or those that its settings name."""
    named = {setting: getattr(model_config, setting) for setting in model_class.uses}
    if (folder / RUN_JSON).exists() and (run := open_run(folder)).last() is not None:
        return parents_of(run, {setting: Path(place) for setting, place in named.items() if place is not None})
    return chosen_parents(model_class.uses, named)


def _begun(
    folder: Path,
    name: str,
    model_config: Any,
    settings: TrainConfig,
    corpus: Corpus,
    model: Model,
    parents: Mapping[str, Parent],
) -> Run:
    """Begin the run of a folder, in place of one of which no step was saved."""
    train_config, model_settings = config.to_dict(settings), config.to_dict(model_config)
    shutil.rmtree(folder / "clips", ignore_errors=True)
    sections = {"run": {"model": name, "corpus": corpus.name}, "train": train_config, "model": model_settings}
    with commit.pending(folder / RUN_TOML) as file:
        file.write(config.to_toml(sections).encode())
    about = {
        "schema": SCHEMA,
        "model": name,
        "model_config": model_settings,
        "train_config": train_config,
        "corpus": corpus.name,
        "corpus_digest": corpus.about["digest"],
        **described(model.directions(model_config), model.exports(model_config)),
        **({USES: {setting: one.recorded(folder) for setting, one in parents.items()}} if parents else {}),
        "sample_rate": model.sample_rate,
        "channels": model.channels,
        "length": model.length,
        "parameters": {part: sum(p.numel() for p in module.parameters()) for part, module in model.named_children()},
        "environment": environment.environment(),
    }
    # Last, for it is what makes the folder a run.
    json_files.write_json(folder / RUN_JSON, about)
    return Run(folder, about)


def _dtype(precision: str) -> torch.dtype:
    return torch.float16 if precision == "fp16" else torch.bfloat16


def _seed_of(seed: int, what: object) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed} {what}".encode()).digest()[:8], "big") >> 1


def _refuse_runaway(values: Mapping[str, float], step: int, run: Run) -> None:
    bad = [name for name, value in values.items() if not math.isfinite(value)]
    if bad:
        raise RunError(f"{' and '.join(bad)} is no longer finite at step {step}. {checkpoints.way_out(run.folder)}")


@contextmanager
def _within_memory(folder: Path, settings: TrainConfig) -> Iterator[None]:
    """Say what needs less memory, where there is not enough.

    Raises:
        RunError: there was not. The step is lost; checkpoints are whole whenever it happens.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError | torch.OutOfMemoryError) and not any(
            words in str(error) for words in OUT_OF_MEMORY
        ):
            raise
        size = settings.batch_size
        mend = f"--batch-size {size // 2}" if size > 1 else "a smaller --length or model, or --precision bf16"
        text = f"There is not enough memory for --batch-size {size}. Try {mend}"
        saved = open_run(folder).checkpoints() if (folder / RUN_JSON).exists() else []
        if saved:
            text += (
                f" in a new run: --init-from {folder} starts it from the weights of step {saved[-1].step}, the last "
                "that was saved"
            )
        raise RunError(f"{text}.") from error


class _Clock:
    """Seconds of training, those of earlier calls included."""

    def __init__(self, earlier: float) -> None:
        self._start = time.monotonic() - earlier

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start


@contextmanager
def _interruptible() -> Iterator[list[int]]:
    """A list that is empty until Ctrl-C or SIGTERM comes; a second Ctrl-C interrupts at once.

    `timeout` sends its signal to a command and then to the command's group, so one wish to stop may come twice.
    """
    caught: list[int] = []
    first = 0.0

    def note(number: int, _: object) -> None:
        nonlocal first
        if caught and number == signal.SIGINT and time.monotonic() > first + TWICE_SECONDS:
            raise KeyboardInterrupt
        first = first or time.monotonic()
        caught.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield caught
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
