"""Digits spoken by a GAN that has learned for minutes, and what a judge of other recordings takes them for.

    python -m benchmarks.speedrun DIGITS                               # 6.5 minutes of training, on an accelerator
    python -m benchmarks.speedrun DIGITS --device cpu --small          # in minutes, to see that it runs

DIGITS holds files named DIGIT_SPEAKER_NUMBER.wav, as those of the Free Spoken Digit Dataset (8 kHz). They are resampled
to 16 kHz; half of the recordings train WaveGAN with the digit as its class, the others a classifier, the judge. Then
100 clips of each digit are rendered and judged.

    judged right     share of clips that the judge takes for the digit of its request; wanted are 58 %, the share of
                     WaveGAN's digits that people labelled right (Donahue et al., 2019)
    inception score  from 1 to 10; wanted is more than 3
    real             the same of the recordings that the GAN learned from, which the judge has not seen
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tonemill.pipelines.evaluation.metrics import HELD_OUT

TONEMILL: Final = str(Path(sys.executable).with_name("tonemill"))
DIGITS: Final = "0123456789"
RIGHT, SCORE = "label_agreement", "inception_score"
WANTED: Final = {RIGHT: 0.58, SCORE: 3.0}
GAN: Final = ["--dim", "64", "--batch-size", "64", "--ema", "0.999", "--precision", "fp32"]
SMALL_GAN: Final = ["--dim", "4", "--batch-size", "16", "--listen-clips", "2"]


def run(*words: object, given: bytes | None = None) -> bytes:
    """What a command of tonemill prints."""
    done = subprocess.run([TONEMILL, *map(str, words)], input=given, stdout=subprocess.PIPE, check=True)
    return done.stdout


def piped(*commands: Sequence[object]) -> bytes:
    """What the last of several commands prints, each reading from the one before."""
    found: bytes | None = None
    for words in commands:
        found = run(*words, given=found)
    return found or b""


def measured(digits: Path, work: Path, device: str, small: bool) -> dict[str, Any]:
    """Metrics of rendered clips and of real ones, and the seconds that each part took."""
    seconds: dict[str, float] = {}
    limits = {"gan": ["--steps", "4"], "judge": ["--steps", "10", "--batch-size", "8"]}
    if not small:
        limits = {"gan": ["--minutes", "5.5"], "judge": ["--minutes", "1"]}
    corpus, generator, judge = work / "digits", work / "gan", work / "judge"

    def timed(name: str, *commands: Sequence[object]) -> bytes:
        begin = time.perf_counter()
        found = piped(*commands)
        seconds[name] = time.perf_counter() - begin
        return found

    timed(
        "corpus",
        ("scan", digits, "--fields", "{label}_{speaker}_{index}"),
        ("resample", "--rate", 16000, "--channels", "mono"),
        ("slice", "--samples", 16384, "--short", "pad"),
        ("shard", corpus, "--test", 0.5, "-q"),
    )
    # A judge listens little: what counts is the end.
    common = ("--label", "label", "--device", device, "-q", "--listen-every", 10**6)
    gan = SMALL_GAN if small else GAN
    timed("judge", ("train", "classifier", corpus, "-o", judge, "--split", "test", *common, *limits["judge"]))
    timed("gan", ("train", "wavegan", corpus, "-o", generator, *common, *gan, *limits["gan"]))
    count = 4 if small else 100
    begin = time.perf_counter()
    stream = b""
    for digit in DIGITS:
        seeds = ("seeds", count, "--seed", digit, "--set", f"label={digit}")
        stream += piped(seeds, ("render", generator, "--device", device))
    run("shard", work / "rendered", "-q", given=stream)
    seconds["render"] = time.perf_counter() - begin
    words = ("evaluate", work / "rendered", "--against", corpus, "--judge", judge, "--device", device, "--json", "-q")
    found = json.loads(timed("evaluate", words).splitlines()[-1])
    return {"metrics": found["metrics"], "seconds": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("digits", type=Path)
    parser.add_argument("--device", default="cuda", choices=("cpu", "cuda", "mps"))
    parser.add_argument("--small", action="store_true", help="only to see that it runs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measured(options.digits, Path(folder), options.device, options.small)
    print("| | rendered | real | wanted |\n|---|--:|--:|--:|")
    for name, least in WANTED.items():
        rows = found["metrics"].get(name, {})
        values = [rows[row]["value"] if row in rows else float("nan") for row in ("generated", HELD_OUT)]
        print(f"| {name.replace('_', ' ')} | {values[0]:.2f} | {values[1]:.2f} | {least:g} |")
    print("\n" + ", ".join(f"{name} {seconds:.0f} s" for name, seconds in found["seconds"].items()))


if __name__ == "__main__":
    main()
