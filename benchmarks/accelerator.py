"""Measure training and rendering on an accelerator, part by part, each in under three minutes.

    python -m benchmarks.accelerator --make CORPORA                    # once, on any machine: a minute
    python -m benchmarks.accelerator --corpora CORPORA --device cuda --only wavegan render
    python -m benchmarks.accelerator --device cpu --small              # to see that all of it runs: ten minutes

Nothing is read but CORPORA: `clips`, drum sounds of 16384 samples at 16 kHz in folders by kind, and `pairs` of dry and
wet. A part is a function of a `Place` that gives lines to print; `PARTS` lists them.

    contract     tests of every model on the device (`pytest --device`), on a CPU on the simulated one
    MODEL        steps a second of `tonemill train` in fp32 and bf16 beside a plain loop (`benchmarks.step_rates`)
    plain_nets   an update of both nets of WaveGAN beside PyTorch's own layers (`benchmarks.wavegan`)
    render       clips a second of `seeds | render | shard` as whole processes, WaveGAN at the paper's size; and beyond
                 the first thousand
    outside      what a training takes besides its steps and besides importing torch
    rave, diffusion, loopgan   of their own benchmarks
    library      four captures of effects that train at once, beside one alone (`benchmarks.library`)
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

from benchmarks.step_rates import CASES, PRECISIONS, Place, step_rates

LENGTH: Final = 16384
TONEMILL: Final = str(Path(sys.executable).with_name("tonemill"))


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
