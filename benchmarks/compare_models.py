"""Train generators on one corpus for equal minutes, and judge equally many clips of each by one judge.

    tonemill scan one-shots | tonemill resample --rate 16000 --channels mono |
        tonemill slice --samples 16384 --short pad | tonemill shard corpora/hits --valid 0.2 --group path
    python -m benchmarks.compare_models corpora/hits --judge-corpus corpora/others -o compared --minutes 30
    python -m benchmarks.compare_models corpora/hits --judge runs/ears -o compared --runs wavegan=runs/w

The judge must know none of the clips: it is a run of a classifier, or is trained here for as many minutes on a corpus
of other recordings. Each generator has the settings of a small processor (`SETTINGS`), which --set replaces. OUTPUT
keeps runs, rendered corpora, table.md, result.json and report.html, and a command that is given again goes on.

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
    "diffusion": "--batch-size 8 --ema 0.999",
    "loopgan": "--batch-size 8 --width 64",
}
"""Of each generator, so that some minutes on two cores show something."""

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
    """Train a run, or go on with it, to so many minutes."""
    words = ["--minutes", minutes, *shlex.split(settings)]
    _, seconds = run("train", name, corpus, "-o", folder, *words, "-q")
    noted(costs, f"train {folder.name}", Cost(seconds, float(open_run(folder).checkpoint().step)))


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
        training, rendering = (noted(costs, f"{what} {name}") for what in ("train", "render"))
        cells = [
            f"{training.about:,.0f}" if training else "",
            f"{training.cpu_seconds:,.0f}" if training else "",
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
    parser.add_argument("--models", nargs="*", default=[], choices=list(SETTINGS), help="to train; default: all")
    parser.add_argument("--runs", nargs="*", default=[], help="runs that are there, as wavegan=runs/w")
    parser.add_argument("--set", nargs="*", default=[], help="settings, as wavegan='--dim 32 --batch-size 64'")
    parser.add_argument("--minutes", type=float, default=30.0, help="of training, each (default 30)")
    parser.add_argument("--clips", type=int, default=500, help="of each (default 500)")
    options = parser.parse_args()
    if (options.judge is None) == (options.judge_corpus is None):
        parser.error("give one of --judge and --judge-corpus")
    options.output.mkdir(parents=True, exist_ok=True)
    costs = options.output / "costs.json"
    runs = {name: Path(place) for name, _, place in (text.partition("=") for text in options.runs)}
    settings = {**SETTINGS, **{name: words for name, _, words in (text.partition("=") for text in options.set)}}
    judge = options.judge
    if judge is None:
        judge = options.output / "runs" / "judge"
        trained("classifier", options.judge_corpus, judge, options.minutes, "", costs)
    for name in options.models or ([] if runs else list(SETTINGS)):
        runs[name] = options.output / "runs" / name
        trained(name, options.corpus, runs[name], options.minutes, settings[name], costs)
    corpora = {name: options.output / "corpora" / name for name in runs}
    for name, folder in runs.items():
        rendered(folder, options.clips, corpora[name], costs)
    found, _ = run("evaluate", *corpora.values(), "--against", options.corpus, "--judge", judge, "--json", "-q")
    result = json.loads(found)
    judged = options.output / "result.json"
    judged.write_text(json.dumps(result, indent=1))
    lines = table(list(runs), result, costs)
    (options.output / "table.md").write_text("\n".join([*lines, "", *result["in_words"]]) + "\n")
    run("report", *corpora.values(), options.corpus, "--metrics", judged, "-o", options.output / "report.html", "-q")
    print("\n".join([*lines, "", *result["in_words"], *result["notes"]]))


if __name__ == "__main__":
    main()
