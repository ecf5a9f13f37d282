"""How many steps a training has that ends after minutes, for models whose settings follow from it."""

from __future__ import annotations

import contextlib
import statistics
import time
from pathlib import Path
from typing import Any, Final

import torch

from tonemill.audiotools.errors import UsageError
from tonemill.models.contract import Model, build_model
from tonemill.models.exchange import Paced
from tonemill.pipelines import config
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.runs.run import RUN_JSON, TrainConfig, open_run
from tonemill.pipelines.training.beginning import batches_for
from tonemill.pipelines.training.processes import ALONE, Processes
from tonemill.pipelines.training.stepping import Learner, seed_of, step_each
from tonemill.pipelines.training.updater import Updater

TIMED_STEPS: Final = 5
"""Steps that tell how long one takes; the first, which chooses kernels, does not count."""


def pace_settings(kind: type, model_config: Any) -> set[str]:
    """Names of the settings that follow from the number of steps."""
    if not isinstance(kind, Paced):
        return set()
    few, many = (config.to_dict(kind.paced(model_config, steps)) for steps in (1, 2))
    return {name for name in few if few[name] != many[name]}


def with_known_pace(kind: type[Model], given: Any, model_config: Any, settings: TrainConfig, folder: Path) -> Any:
    """The config with the usual pace, open where steps have yet to be timed; a run that goes on keeps what it chose.

    Args:
        kind, settings: of the run.
        given: its config before it was settled.
        model_config: settled.
        folder: of the run.
    """
    kept = {name for name in kind.kept if getattr(given, name, "") is None} | pace_settings(kind, model_config)
    if kept and (folder / RUN_JSON).exists() and (run := open_run(folder)).last() is not None:
        before = kind.current(run.model_config)
        settled = config.to_dict(model_config) | {name: before.get(name) for name in kept}
        # Settings that do not fit the kept ones are others than the run's, which `earlier_run` refuses by name.
        with contextlib.suppress(UsageError):
            return config.build(type(model_config), settled, run.model)
    return kind.paced(model_config, None) if isinstance(kind, Paced) and not _is_timed(settings) else model_config


def with_timed_pace(
    kind: type[Model],
    model_config: Any,
    settings: TrainConfig,
    corpus: Corpus,
    device: torch.device,
    runs: int = 1,
    processes: Processes = ALONE,
) -> Any:
    """The config of a new run, with the pace of a training of the wanted minutes.

    Args:
        kind, model_config, settings, corpus, device: of the run.
        runs: that share the minutes.
        processes: that train it together; the first one's time counts.

    Raises:
        CorpusError: the corpus has no batches for it.
    """
    if not isinstance(kind, Paced) or not _is_timed(settings) or not pace_settings(kind, model_config):
        return model_config
    within = 60 * float(settings.minutes or 0.0) / runs
    seconds = torch.tensor(_seconds_of_a_step(kind, model_config, settings, corpus, device, processes), device=device)
    processes.copy_from_first([seconds])
    return kind.paced(model_config, max(1, round(within / float(seconds))))


def _is_timed(settings: TrainConfig) -> bool:
    return settings.steps is None and settings.minutes is not None


def _seconds_of_a_step(
    kind: type[Model],
    model_config: Any,
    settings: TrainConfig,
    corpus: Corpus,
    device: torch.device,
    processes: Processes,
) -> float:
    """The median of a few steps of a model that is forgotten."""
    torch.manual_seed(seed_of(settings.seed, "weights"))
    model: Model = build_model(kind, model_config, {}).to(device)
    scaler = torch.amp.GradScaler(device.type, enabled=settings.precision == "fp16")
    update = Updater(model.optimizers(), device, scaler, settings.clip_norm, settings.accumulate)
    batches, seconds = batches_for(model, corpus, settings, 0, processes.rank, processes.count), []
    for number in range(TIMED_STEPS):
        begin = time.perf_counter()
        learner = Learner(model, update, number + 1)
        (losses,) = step_each([learner], [batches.batch(number).to(device)], settings, device)
        # Reading a number waits for the device.
        float(next(iter(losses.values())))
        seconds.append(time.perf_counter() - begin)
    batches.close()
    return statistics.median(seconds[1:])
