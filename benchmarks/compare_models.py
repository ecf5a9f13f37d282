"""Train generators on one corpus for equal minutes of CPU time, and judge equally many clips of each by one judge.

    tonemill scan one-shots | tonemill resample --rate 16000 --channels mono |
        tonemill slice --samples 16384 --short pad | tonemill shard corpora/hits --valid 0.2 --group path
    python -m benchmarks.compare_models corpora/hits --judge-corpus corpora/others -o compared --minutes 30
    python -m benchmarks.compare_models corpora/hits --judge runs/ears -o compared --runs wavegan=runs/w

The judge must have seen none of the clips: it is a run of a classifier, or is trained here for as many minutes on a
corpus of other recordings. Each generator has the settings of a small processor (`SETTINGS`), which --set replaces.
RAVE has half of the minutes, the prior over its latents the other half. OUTPUT keeps runs, rendered corpora, table.md,
result.json and report.html, and a command that is given again goes on.

    cost to train      CPU seconds, and steps
    cost to render     CPU seconds for a second of sound, of the whole command
    other columns      as `tonemill evaluate`, with 95 % intervals; real clips that were held out stand below
"""

from __future__ import annotations

import argparse
import json
import resource
import shlex
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tonemill.pipelines.corpus.corpus import open_corpus
from tonemill.pipelines.evaluation.metrics import METRICS
from tonemill.pipelines.runs.run import open_run

SETTINGS: Final = {
    "wavegan": "--dim 16 --batch-size 16 --ema 0.999",
    "specgan": "--dim 16 --batch-size 16 --ema 0.999",
    "diffusion": "--batch-size 8 --length {samples} --ema 0.999",
    "loopgan": "--batch-size 8 --width 64 --bars 1 --bpm {bpm!r}",
    "rave": "--architecture v2-small --capacity 24 --latent-dim 16 --length {samples} --batch-size 8 "
    "--scales 1024 --scales 512 --scales 256 --scales 128 --fine-tune-after 0",
    "prior": "--batch-size 16 --width 128 --length {samples} --ema 0.999",
}
"""Of each model, so that some minutes on two cores show something; of clips of {samples}, one bar at {bpm}."""

CODECS: Final = {"prior": "rave"}
"""Generators of latents, and the model that encodes and decodes these."""

GENERATORS: Final = tuple(name for name in SETTINGS if name not in CODECS.values())

MOST_CALLS: Final = 8
"""Of `train`, until a run has had its CPU time: on a busy machine it is less than the time on the clock."""

SHOWN: Final = (
    *("kernel_audio_distance", "frechet", "precision", "recall", "coverage", "inception_score"),
    *("mel_nearest_train", "copies", "nearest_self"),
)
TONEMILL: Final = str(Path(sys.executable).with_name("tonemill"))


@dataclass(frozen=True)
class Cost:
    """What a step of the comparison took.

    Args:
        cpu_seconds: of all its processes.
        about: steps that were trained, or seconds of sound that were rendered.
    """

    cpu_seconds: float
    about: float


def run(*words: object, given: bytes | None = None) -> tuple[bytes, float]:
    """The output of a command, and the CPU seconds that it and its processes took.

    Raises:
        SystemExit: it failed; its own message is on the screen.
    """
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([TONEMILL, *map(str, words)], input=given, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"tonemill {shlex.join(map(str, words))} ended with {done.returncode}.")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return done.stdout, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def noted(costs: Path, name: str, cost: Cost | None = None) -> Cost | None:
    """A cost that an earlier call noted; `cost` is added to it and noted."""
    known: dict[str, list[float]] = json.loads(costs.read_text()) if costs.exists() else {}
    if cost is not None:
        known[name] = [known.get(name, [0.0])[0] + cost.cpu_seconds, cost.about]
        costs.write_text(json.dumps(known))
    return Cost(*known[name]) if name in known else None


def trained(name: str, corpus: Path, folder: Path, minutes: float, settings: str, costs: Path) -> None:
    """Train a run, or go on with it, until it has had so many minutes of CPU time (95 % of them are enough)."""
    for _ in range(MOST_CALLS):
        spent = noted(costs, f"train {folder.name}")
        left = minutes - (spent.cpu_seconds / 60 if spent else 0.0)
        if left < 0.05 * minutes:
            return
        trained_for = open_run(folder).checkpoint().state["seconds"] / 60 if spent else 0.0
        _, seconds = run(
            "train", name, corpus, "-o", folder, "--minutes", trained_for + left, *shlex.split(settings), "-q"
        )
        noted(costs, f"train {folder.name}", Cost(seconds, float(open_run(folder).checkpoint().step)))


def encoded(folder: Path, corpus: Path, latents: Path) -> None:
    """A corpus of the latents of another."""
    if not (latents / "corpus.json").exists():
        stream, _ = run("open", corpus)
        stream, _ = run("render", folder, "--as", "encode", given=stream)
        run("shard", latents, "-q", given=stream)


def generator(name: str, corpus: Path, output: Path, minutes: float, settings: Mapping[str, str], costs: Path) -> Path:
    """The run of a generator, trained; its codec first where it has one, each for half of the minutes."""
    folder = output / "runs" / name
    codec = CODECS.get(name)
    if codec is None:
        trained(name, corpus, folder, minutes, settings[name], costs)
        return folder
    codec_run = output / "runs" / codec
    trained(codec, corpus, codec_run, minutes / 2, settings[codec], costs)
    latents = output / "corpora" / f"{codec}-latents"
    encoded(codec_run, corpus, latents)
    trained(name, latents, folder, minutes / 2, f"{settings[name]} --codec {shlex.quote(str(codec_run))}", costs)
    return folder


def rendered(folder: Path, clips: int, corpus: Path, costs: Path) -> None:
    """Render clips of the first seeds into a corpus."""
    if (corpus / "corpus.json").exists():
        return
    seeds, _ = run("seeds", clips)
    stream, _ = run("render", folder, given=seeds)
    _, seconds = run("shard", corpus, "-q", given=stream)
    noted(costs, f"render {corpus.name}", Cost(seconds, float(open_corpus(corpus).about["seconds"])))


def table(names: Sequence[str], result: Mapping[str, Any], costs: Path) -> list[str]:
    """Markdown lines: a row for each generator, and for held-out clips."""
    columns = [name for name in SHOWN if name in result["metrics"]]
    heads = ["", "steps", "train, CPU s", "render, CPU s a second", *(METRICS[name][0] for name in columns)]
    lines = [f"| {' | '.join(heads)} |", "|---|" + "--:|" * (len(heads) - 1)]
    rows = {name: name if len(names) > 1 else "generated" for name in names}
    for name, row in {**rows, "held out": "held_out"}.items():
        models = [model for model in (CODECS.get(name), name) if model]
        training = [cost for cost in (noted(costs, f"train {model}") for model in models) if cost]
        rendering = noted(costs, f"render {name}")
        cells = [
            " + ".join(f"{cost.about:,.0f}" for cost in training),
            " + ".join(f"{cost.cpu_seconds:,.0f}" for cost in training),
            f"{rendering.cpu_seconds / rendering.about:.3f}" if rendering else "",
            *(_cell(result["metrics"][column].get(row)) for column in columns),
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def _cell(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return ""
    value = f"{one['value']:.3g}"
    return value if one["low"] is None else f"{value} [{one['low']:.3g}, {one['high']:.3g}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("corpus", type=Path, help="that the generators learn from, with a valid split")
    parser.add_argument("-o", "--output", type=Path, required=True, help="folder")
    parser.add_argument("--judge", type=Path, help="a run of a classifier")
    parser.add_argument("--judge-corpus", type=Path, help="of other recordings, to train a judge on")
    parser.add_argument("--models", nargs="*", default=[], choices=GENERATORS, help="to train; default: all")
    parser.add_argument("--runs", nargs="*", default=[], help="runs that are there, as wavegan=runs/w")
    parser.add_argument("--set", nargs="*", default=[], help="settings, as wavegan='--dim 32 --batch-size 64'")
    parser.add_argument("--minutes", type=float, default=30.0, help="of CPU time to train each (default 30)")
    parser.add_argument("--clips", type=int, default=500, help="of each (default 500)")
    options = parser.parse_args()
    if (options.judge is None) == (options.judge_corpus is None):
        parser.error("give one of --judge and --judge-corpus")
    options.output.mkdir(parents=True, exist_ok=True)
    costs = options.output / "costs.json"
    runs = {name: Path(place) for name, _, place in (text.partition("=") for text in options.runs)}
    about = open_corpus(options.corpus).about
    seconds = about["seconds"] / about["examples"]
    clip = {"samples": round(seconds * about["sample_rate"]), "bpm": 240 / seconds}
    replaced = {name: words for name, _, words in (text.partition("=") for text in options.set)}
    settings = {name: words.format_map(clip) for name, words in {**SETTINGS, **replaced}.items()}
    judge = options.judge
    if judge is None:
        judge = options.output / "runs" / "judge"
        trained("classifier", options.judge_corpus, judge, options.minutes, "", costs)
    for name in options.models or ([] if runs else GENERATORS):
        runs[name] = generator(name, options.corpus, options.output, options.minutes, settings, costs)
    corpora = {name: options.output / "corpora" / name for name in runs}
    for name, folder in runs.items():
        rendered(folder, options.clips, corpora[name], costs)
    found, _ = run("evaluate", *corpora.values(), "--against", options.corpus, "--judge", judge, "--json", "-q")
    result = json.loads(found)
    judged = options.output / "result.json"
    judged.write_text(json.dumps(result, indent=1))
    lines = table(list(runs), result, costs)
    (options.output / "table.md").write_text("\n".join([*lines, "", *result["in_words"]]) + "\n")
    places = [*corpora.values(), options.corpus]
    page = options.output / "report.html"
    run("report", *places, "--against", options.corpus, "--metrics", judged, "-o", page, "-q")
    print("\n".join([*lines, "", *result["in_words"], *result["notes"]]))


if __name__ == "__main__":
    main()
