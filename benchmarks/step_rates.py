"""Steps a second of `tonemill train`, beside a plain loop over one batch: parts of `benchmarks.accelerator`.

The plain loop has the same net and `torch.optim`, eager, and one batch that is on the device already. `peak` is memory
of the accelerator, or of the process on a CPU, where it never falls. Five steps of WaveGAN are its five updates of the
critic and one of the generator.
"""

from __future__ import annotations

import dataclasses
import io
import resource
import time
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any, Final

PRECISIONS: Final = ("fp32", "bf16")


@dataclasses.dataclass(frozen=True)
class Place:
    """Where and how thoroughly to measure.

    Args:
        device: `cpu`, `cuda` or `mps`.
        small: sizes and counts that a CPU does in seconds, to see that a part runs.
        corpora: the folder of `clips` and `pairs`.
        work: an empty folder.
    """

    device: str
    small: bool
    corpora: Path
    work: Path


@dataclasses.dataclass(frozen=True)
class Case:
    """A training that is measured: at the size of its paper, and small.

    Args:
        settings: of the model.
        small: the same.
        batch_size, steps: of both; a small one has 4 and 6.
        corpus: `clips` or `pairs`.
    """

    settings: Mapping[str, Any]
    small: Mapping[str, Any]
    batch_size: int = 64
    steps: int = 200
    corpus: str = "clips"


CASES: Final[dict[str, Case]] = {
    "wavegan": Case({"dim": 64}, {"dim": 4}),
    "specgan": Case({"dim": 64}, {"dim": 4}),
    "classifier": Case({"label": "folder"}, {"label": "folder", "chunk_seconds": 0.4}),
    "effect": Case(
        {"network": "wavenet", "length": 8192},
        {"network": "wavenet", "preset": "nano", "length": 1024, "allow": ("short",)},
        16,
        200,
        "pairs",
    ),
    "vocoder": Case({"generator": "vocos"}, {"generator": "vocos", "width": 16, "blocks": 1}, 16, 100),
}

QUICK: Final = {"log_every": 1, "listen_every": 10**9, "listen_clips": 1, "checkpoint_every": 10**9}
"""Settings of a training that does nothing between its steps but write figures."""


def rate_of(run: Path) -> float:
    """Steps a second of a run, by the lines of its metrics.jsonl."""
    from tonemill.pipelines.runs.metric_lines import METRICS, read_lines

    timed = [(line["step"], line["seconds"]) for line in read_lines(run / METRICS) if "seconds" in line]
    # The first third chooses kernels and fills what the loader has ahead.
    (first, begin), (last, end) = timed[len(timed) // 3], timed[-1]
    return float((last - first) / (end - begin))


def trained_rate(name: str, place: Place, precision: str) -> tuple[float, float]:
    """Steps a second of `tonemill train`, by its own lines, and the peak of memory in MB."""
    from tonemill.models.contract import load_model
    from tonemill.pipelines import config
    from tonemill.pipelines.corpus.corpus import open_corpus
    from tonemill.pipelines.progress import Progress
    from tonemill.pipelines.runs.run import TrainConfig
    from tonemill.pipelines.training.loop import train

    case, kind = CASES[name], load_model(name)
    steps, size = (6, 4) if place.small else (case.steps, case.batch_size)
    values = case.small if place.small else case.settings
    settings = TrainConfig(steps=steps, batch_size=size, device=place.device, precision=precision, **QUICK)  # type: ignore[arg-type]
    settings = dataclasses.replace(settings, **({"overfit": size} if place.small else {"log_every": 10}))  # type: ignore[arg-type]
    _forget_peak(place)
    folder = place.work / f"{name}-{precision}"
    corpus = open_corpus(place.corpora / case.corpus)
    model_config = config.build(kind.config_of(values), values, name)
    train(name, model_config, settings, corpus, folder, Progress(quiet=True, stream=io.StringIO()))
    return rate_of(folder), _peak_mb(place)


def plain_rate(name: str, place: Place, precision: str) -> tuple[float, float]:
    """The same of a plain loop over one batch."""
    import torch

    from tonemill.models.contract import Batch, build_model, load_model
    from tonemill.pipelines import config
    from tonemill.pipelines.corpus.corpus import open_corpus
    from tonemill.pipelines.training.facts import facts_of
    from tonemill.pipelines.training.loader import Batches

    case, kind, device = CASES[name], load_model(name), torch.device(place.device)
    steps, size = (6, 4) if place.small else (case.steps, case.batch_size)
    values = case.small if place.small else case.settings
    corpus = open_corpus(place.corpora / case.corpus)
    torch.manual_seed(0)
    model = build_model(kind, kind.settle(config.build(kind.config_of(values), values, name), facts_of(corpus)), {})
    batch: Batch = Batches(corpus, "train", model.roles, model.length, size, pad=model.pads_short).batch(0)
    model.fit([batch])
    _forget_peak(place)
    model, batch, optimizers = model.to(device).train(), batch.to(device), model.optimizers()

    def update(optimizer: str, loss: Any) -> None:
        optimizers[optimizer].zero_grad()
        loss.backward()
        optimizers[optimizer].step()

    begin = 0.0
    for step in range(1, steps + 1):
        if step == steps // 3 + 1:
            _wait(place)
            begin = time.perf_counter()
        with torch.autocast(device.type, torch.bfloat16) if precision == "bf16" else nullcontext():
            model.training_step(batch, step, update)
    _wait(place)
    return (steps - steps // 3) / (time.perf_counter() - begin), _peak_mb(place)


def step_rates(name: str, place: Place) -> list[str]:
    """A table of both, in fp32 and bf16."""
    rows = ["| | steps/s | plain, steps/s | ratio | of fp32 | peak, MB | plain, MB |", "|---|--:|--:|--:|--:|--:|--:|"]
    full = 0.0
    for precision in PRECISIONS:
        (ours, our_peak), (plain, plain_peak) = (rate(name, place, precision) for rate in (trained_rate, plain_rate))
        full = full or ours
        cells = f"{ours:.2f} | {plain:.2f} | {ours / plain:.2f} | {ours / full:.2f} | {our_peak:,.0f}"
        rows.append(f"| {name}, {precision} | {cells} | {plain_peak:,.0f} |")
    return rows


def _wait(place: Place) -> None:
    import torch

    if place.device != "cpu":
        torch.accelerator.synchronize()


def _forget_peak(place: Place) -> None:
    import torch

    if place.device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _peak_mb(place: Place) -> float:
    import torch

    if place.device == "cuda":
        return torch.cuda.max_memory_allocated() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
