"""How near captures of real effects come in two minutes: the standard WaveNet and A2, on what they did not learn from.

    OMP_NUM_THREADS=1 python -m benchmarks.captures EFFECTS -o captures                  # 24 cells: an hour of one core
    OMP_NUM_THREADS=1 python -m benchmarks.captures EFFECTS -o captures --only fuzz-mix  # the cells of that name

EFFECTS has the folders `dry` (bass, drums, guitar, mix) and `wet` (SOURCE__EFFECT). Each cell learns from three sources
of an effect, for as many minutes as all others, and is judged on the whole of the fourth. Batches of 4 clips, the rate
falls over the steps that fit the minutes. A finished cell is kept in OUTPUT/cells, and a killed one goes on where its
last checkpoint was; the table holds what is finished.

    standard, a2   ESR of the best checkpoint on the fourth source; of A2 that of its larger member
    dry            ESR of the dry signal at its best gain: what doing nothing gives
    steps          that fitted the minutes
    median         over the cells of an effect, and over all; the interval is the 95 % one of the median of all, by its
                   order statistics
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from math import comb
from pathlib import Path
from typing import Any, Final

from tonemill.models.effect.settings import config_of_network
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.runs.run import TrainConfig
from tonemill.pipelines.training.loop import train

TONEMILL: Final = str(Path(sys.executable).with_name("tonemill"))
EFFECTS: Final = ("fuzz", "overdrive", "compressor")
SOURCES: Final = ("bass", "drums", "guitar", "mix")
NETWORKS: Final = {"standard": "wavenet", "a2": "packed"}


def corpus_without(source: str, effects: Path, output: Path) -> Corpus:
    """All effects of all sources, of which one source is held out."""
    folder = output / "corpora" / source
    if not (folder / "corpus.json").exists():
        chosen = shlex.quote(f"effect in {list(EFFECTS)}")
        held_out = shlex.quote(f'path.startswith("{source}")')
        dry, wet = (shlex.quote(str(effects / name)) for name in ("dry", "wet"))
        stages = [
            f"pair -q {dry} {wet}",
            "align -q",
            f"select {chosen}",
            "slice --seconds 10 --tail keep",
            f"shard -q {shlex.quote(str(folder))} --valid-where {held_out}",
        ]
        text = " | ".join(f"{TONEMILL} {stage}" for stage in stages)
        subprocess.run(["bash", "-o", "pipefail", "-c", text], check=True, stdout=subprocess.DEVNULL)
    return open_corpus(folder)


def cell(effect: str, source: str, network: str, effects: Path, output: Path, minutes: float) -> dict[str, Any]:
    """Train and judge one, unless that was done."""
    folder = output / "cells" / f"{effect}-{source}-{network}"
    done = folder / "cell.json"
    if done.exists():
        return dict(json.loads(done.read_text()))
    corpus = corpus_without(source, effects, output)
    settings = TrainConfig(
        minutes=minutes, batch_size=4, clip_norm=1.0, where=f"effect == {effect!r}", checkpoint_minutes=0.5,
        checkpoint_every=10**9, listen_every=10**9, listen_clips=1,
    )  # fmt: skip
    # All of the fourth source is played; the effects' own delays are no faults of the pairs.
    config = config_of_network(NETWORKS[network])(validate_seconds=0.0, stability_seconds=5.0, allow=("latency",))
    trained = train("effect", config, settings, corpus, folder, Progress())
    if trained.interrupted:
        raise SystemExit(130)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    figures = next(line for line in reversed(lines) if "esr" in line)
    found = {"esr": trained.run.checkpoint("best").score, "dry": figures["esr_of_dry"], "steps": trained.step}
    part = done.with_suffix(".part")
    part.write_text(json.dumps(found))
    part.replace(done)
    return found


def table(found: Mapping[tuple[str, str, str], Mapping[str, Any]]) -> list[str]:
    """A row for each effect and held-out source, and medians."""
    lines = [
        "| effect | judged on | standard | a2 | dry | steps of standard | of a2 |",
        "|---|---|--:|--:|--:|--:|--:|",
    ]
    for effect in EFFECTS:
        for source in SOURCES:
            cells = [found.get((effect, source, network), {}) for network in NETWORKS]
            if any(cells):
                numbers = [one.get("esr") for one in cells] + [next(one["dry"] for one in cells if one)]
                texts = [
                    *("" if one is None else f"{one:.2g}" for one in numbers),
                    *(f"{one.get('steps', '')}" for one in cells),
                ]
                lines.append(f"| {effect} | {source} | {' | '.join(texts)} |")
    for name, effects in (*((one, (one,)) for one in EFFECTS), ("all", EFFECTS)):
        texts = []
        for network in NETWORKS:
            scores = [one["esr"] for (effect, _, other), one in found.items() if effect in effects and other == network]
            texts.append(_median(scores, name == "all"))
        lines.append(f"| {name} | median | {' | '.join(texts)} | | | |")
    return lines


def _median(scores: Sequence[float], interval: bool) -> str:
    if not scores:
        return ""
    text = f"{statistics.median(scores):.2g}"
    if not interval or len(scores) < 6:
        return text
    # P(fewer than k of n lie below the median) = sum of comb(n, i) / 2^n for i below k.
    ordered, n = sorted(scores), len(scores)
    k = max(k for k in range(n // 2) if sum(comb(n, i) for i in range(k + 1)) / 2**n <= 0.025)
    return f"{text} ({ordered[k]:.2g} to {ordered[n - 1 - k]:.2g})"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("effects", type=Path, help="the folder of `dry` and `wet`")
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--only", nargs="+", default=[""], metavar="NAME", help="cells whose name begins so")
    options = parser.parse_args()
    found = {}
    for effect in EFFECTS:
        for source in SOURCES:
            for network in NETWORKS:
                if f"{effect}-{source}-{network}".startswith(tuple(options.only)):
                    arguments = (effect, source, network, options.effects, options.output, options.minutes)
                    found[effect, source, network] = cell(*arguments)
    print(*table(found), sep="\n")


if __name__ == "__main__":
    main()
