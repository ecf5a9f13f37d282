"""Measure training and rendering on an accelerator, part by part, each in under three minutes.

    python -m benchmarks.accelerator --make CORPORA                    # once, on any machine: a minute
    python -m benchmarks.accelerator --corpora CORPORA --device cuda --only wavegan render
    python -m benchmarks.accelerator --device cpu --small              # to see that all of it runs: ten minutes

Nothing is read but CORPORA: `clips`, drum sounds of 16384 samples at 16 kHz in folders by kind, and `pairs` of dry and
wet. A part is a function of a `Place` that gives lines to print; another issue adds its own to `PARTS`.

    contract     tests of every model on the device (`pytest --device`), on a CPU on the simulated one
    MODEL        steps a second of `tonemill train` in fp32 and bf16, from the lines of metrics.jsonl, beside a plain
                 loop: the same net and `torch.optim`, eager, one batch that is on the device already; `peak` is memory
                 of the accelerator, or of the process on a CPU, where it never falls. Five steps of WaveGAN are its
                 five updates of the critic and one of the generator
    plain_nets   an update of both nets of WaveGAN beside PyTorch's own layers (`benchmarks.wavegan`)
    render       clips a second of `seeds | render | shard` as whole processes, WaveGAN at the paper's size; and beyond
                 the first thousand
    outside      what a training takes besides its steps and besides importing torch
    rave, diffusion, loopgan   of their own benchmarks
    library      four captures of effects that train at once, beside one alone (`benchmarks.library`)
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import json
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final

LENGTH: Final = 16384
TONEMILL: Final = str(Path(sys.executable).with_name("tonemill"))
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


def make(folder: Path) -> None:
    """The corpora that the parts read, of the drum machine."""
    raw = folder / "raw"
    _run("drums", raw, "--hits", "100", "--loops", "0")
    fit = ["resample --rate 16000 --channels mono", f"slice --samples {LENGTH} --short pad"]
    _pipe([f"scan {raw}", *fit, f"shard {folder / 'clips'} --valid 0.2 -q"])
    _make_pairs(folder / "raw-pairs")
    pairs = f"pair {folder / 'raw-pairs/dry'} {folder / 'raw-pairs/wet'}"
    _pipe([pairs, f"slice --samples {LENGTH}", f"shard {folder / 'pairs'} -q"])


def _make_pairs(folder: Path) -> None:
    """Loops and what a soft limiter makes of them."""
    import numpy as np
    import soundfile

    from tonemill.audiotools.synthetic import loop

    for number in range(8):
        dry = loop(90 + 5 * number, 4, 44100, seed=number)[0]
        for kind, sound in (("dry", dry), ("wet", np.tanh(3 * dry) / 3)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            soundfile.write(folder / kind / f"{number}.wav", sound, 44100)


def contract(place: Place) -> list[str]:
    """What the contract test finds on the device."""
    chosen = ["--device", place.device, "-k", "real_device" if place.device != "cpu" else "keeps_to_the_device"]
    if place.small:
        chosen[-1] += " and (wavegan or vocos or lstm)"
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "tests/models/test_contract.py", *chosen]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))] + [
        (done.stdout or done.stderr).strip().splitlines()[-1]
    ]


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
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    timed = [(line["step"], line["seconds"]) for line in lines if "seconds" in line]
    # The first third chooses kernels and fills what the loader has ahead.
    (first, begin), (last, end) = timed[len(timed) // 3], timed[-1]
    return (last - first) / (end - begin), _peak_mb(place)


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


def plain_nets(place: Place) -> list[str]:
    """What `benchmarks.wavegan` prints, in both precisions."""
    size = ["--dim", "4", "--batch", "2", "--rounds", "1"] if place.small else ["--dim", "64", "--batch", "64"]
    rounds = [] if place.small else ["--rounds", "20"]
    lines = []
    for precision in PRECISIONS:
        words = [*size, *rounds, "--device", place.device, "--precision", precision]
        lines += _module("benchmarks.wavegan", *words)
    return lines


def render(place: Place) -> list[str]:
    """Clips a second through the whole pipe; the second row has what starts and ends it taken off."""
    run, corpus = place.work / "render-run", place.corpora / "clips"
    dim, counts = (4, (16, 48)) if place.small else (64, (1000, 9000))
    words = ["--dim", str(dim), "--steps", "1", "--batch-size", "2", "--listen-clips", "1", "--device", place.device]
    _run("train", "wavegan", corpus, "-o", run, *words, "-q")
    seconds = []
    for count in counts:
        begin = time.perf_counter()
        made = place.work / f"rendered-{count}"
        _pipe([f"seeds {count}", f"render {run} --device {place.device}", f"shard {made} -q"])
        seconds.append(time.perf_counter() - begin)
    rows = [
        f"{count} clips in {took:.1f} s: {count / took:.0f} a second"
        for count, took in zip(counts, seconds, strict=True)
    ]
    # On a busy machine fewer clips may take longer.
    if seconds[1] > seconds[0]:
        between = (counts[1] - counts[0]) / (seconds[1] - seconds[0])
        rows.append(f"beyond the first {counts[0]}: {between:.0f} a second")
    return rows


def outside(place: Place) -> list[str]:
    """Seconds besides the steps, of trainings that a user begins with."""
    from benchmarks.outside_steps import measured

    rows = ["| | outside: wall, s | CPU, s | steps: wall, s | CPU, s |", "|---|--:|--:|--:|--:|"]
    steps = ("--batch-size", "4", "--steps", "4") if place.small else ("--batch-size", "16", "--steps", "100")
    for name, words in (("wavegan", ("--dim", "16")), ("classifier", ("--label", "folder"))):
        found = measured(name, place.corpora / "clips", [*words, *steps, "--device", place.device])
        cells = [f"{found[what][side]:.1f}" for what in ("outside", "steps") for side in ("wall", "cpu")]
        rows.append(f"| {name} {' '.join(words)} | {' | '.join(cells)} |")
    return rows


def rave(place: Place) -> list[str]:
    """Of `benchmarks.rave`."""
    import torch

    from benchmarks.rave import HEADER
    from benchmarks.rave import rave as rows_of

    return [*HEADER.splitlines(), *rows_of(torch.device(place.device), place.small)]


def diffusion(place: Place) -> list[str]:
    """Of `benchmarks.diffusion`."""
    import torch

    from benchmarks.diffusion import diffusion as rows_of

    return [f"{what}: {value:.2f} {unit}" for what, value, unit in rows_of(torch.device(place.device), place.small)]


def loopgan(place: Place) -> list[str]:
    """Of `benchmarks.loopgan`."""
    import torch

    from benchmarks.loopgan import loopgan as rows_of

    rows = rows_of(torch.device(place.device), place.small)
    return [", ".join(f"{name} {value}" for name, value in row.items()) for row in rows]


def library(place: Place) -> list[str]:
    """Of `benchmarks.library`."""
    import torch

    from benchmarks.library import library as rows_of

    rows = rows_of(torch.device(place.device), place.small, place.work / "library")
    return [f"{what}: {value:.3g} {unit}".rstrip() for what, value, unit in rows]


PARTS: Final[dict[str, Callable[[Place], Sequence[str]]]] = {
    "contract": contract,
    **{name: partial(step_rates, name) for name in CASES},
    "plain_nets": plain_nets,
    "render": render,
    "outside": outside,
    "rave": rave,
    "diffusion": diffusion,
    "loopgan": loopgan,
    "library": library,
}
"""Each gives lines to print; the first of them asks most of the device."""


def _run(*words: str | Path) -> None:
    subprocess.run([TONEMILL, *map(str, words)], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _pipe(commands: Sequence[str]) -> None:
    """A shell pipeline of commands of tonemill."""
    text = " | ".join(f"{TONEMILL} {command}" for command in commands)
    subprocess.run(["bash", "-o", "pipefail", "-c", text], check=True, stdout=subprocess.DEVNULL)


def _module(name: str, *words: str) -> list[str]:
    done = subprocess.run([sys.executable, "-m", name, *words], check=True, stdout=subprocess.PIPE, text=True)
    return done.stdout.splitlines()


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


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--make", type=Path, metavar="CORPORA", help="make the corpora and end")
    parser.add_argument("--corpora", type=Path, help="what --make made; otherwise it is made for this call")
    parser.add_argument("--only", nargs="+", choices=list(PARTS), default=list(PARTS), metavar="PART")
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda", "mps"))
    parser.add_argument("--small", action="store_true", help="only to see that it runs")
    options = parser.parse_args()
    if options.make is not None:
        make(options.make)
        return
    warnings.filterwarnings("ignore")
    with tempfile.TemporaryDirectory() as folder:
        place = Place(options.device, options.small, options.corpora or Path(folder) / "corpora", Path(folder))
        if options.corpora is None:
            make(place.corpora)
        for name in options.only:
            begin = time.perf_counter()
            print(f"\n## {name}\n", *PARTS[name](place), sep="\n", flush=True)
            print(f"\n{time.perf_counter() - begin:.0f} s", flush=True)


if __name__ == "__main__":
    main()
