"""What the pages of docs work on: each folder, file, corpus or run that a command names, made where it is missing."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

import numpy as np
import soundfile
from conftest import Ended, noise, write_wav

from tonemill.audiotools.demo_corpus import write_drum_machine
from tonemill.audiotools.synthetic import PATTERNS, loop
from tonemill.models.contract import load_model

RATE = 16000

SHORT = {
    "wavegan": "--length 4096 --dim 2 --critic-steps 1 --batch-size 2",
    "specgan": "--length 4096 --dim 2 --critic-steps 1 --griffin-lim-iterations 2 --batch-size 2",
    "classifier": "--batch-size 4",
    "effect": "--length 1024 --preset nano --batch-size 2",
    "vocoder": "--width 16 --batch-size 2",
    "rave": "--architecture v2-small --length 16896 --capacity 4 --latent-dim 8 --fine-tune-after 1 --batch-size 2",
    "prior": "--length 8192 --width 8 --batch-size 2",
    "loopgan": "--width 4 --batch-size 2",
    "diffusion": "--length 16384 --channels-per-level 8 --factors 16 --items 1 --attentions 0 --head-dim 8 "
    "--modulation-dim 16 --batch-size 2",
}
"""Flags that make a step short, behind those of a page: of two the last counts."""


def words(folder: Path) -> None:
    """300 words named as spoken digits are: of ten digits, three speakers and ten takes."""
    named = product(range(10), ("theo", "jackson", "nicolas"), range(10))
    for number, (label, speaker, take) in enumerate(named):
        write_wav(folder / f"{label}_{speaker}_{take}.wav", 9000 + 100 * label, seed=number, rate=8000)


def takes(folder: Path) -> None:
    """Forty of three seconds, 16 kHz."""
    for number in range(40):
        write_wav(folder / f"{number}.wav", 3 * RATE, seed=number, rate=RATE)


def hits(folder: Path) -> None:
    """Kicks, snares and hats, in a folder each, 48 kHz."""
    write_drum_machine(folder.parent / "drum-machine", hits=4, loops=0)
    for path in sorted((folder.parent / "drum-machine").rglob("*.wav")):
        place = folder / path.parent.name.rstrip("s") / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        samples, rate = soundfile.read(path, always_2d=True)
        soundfile.write(place, np.resize(samples, (rate, samples.shape[1])), rate)
    shutil.rmtree(folder.parent / "drum-machine")


def loops(folder: Path) -> None:
    """Two packs of fifty loops of two bars, in stereo, with their tempo in their names."""
    for number in range(100):
        name, pattern = list(PATTERNS.items())[number % len(PATTERNS)]
        place = folder / f"pack{number % 2}" / f"{name}{number}_120.wav"
        place.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(place, loop(120, 2, 44100, pattern, seed=number).T, 44100)


def dry(folder: Path) -> None:
    for number in range(3):
        place = folder / f"mix{number}.wav" if number == 2 else folder / f"take{number}.wav"
        place.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(place, noise(12 * RATE, seed=number), RATE)


def wet(suffix: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        source = folder.parent / ("di" if folder.name.startswith("pedal") else "dry")
        if not source.exists():
            dry(source)
        folder.mkdir(parents=True, exist_ok=True)
        for path in source.iterdir():
            samples, rate = soundfile.read(path)
            soundfile.write(folder / f"{path.stem}{suffix}.wav", np.tanh(4 * samples), rate)

    return make


def pedals(folder: Path) -> None:
    for name in ("fuzz", "drive"):
        wet(f"__{name}")(folder)


def sound(seconds: float, rate: int = RATE) -> Callable[[Path], None]:
    return lambda path: soundfile.write(path, noise(int(seconds * rate), seed=7), rate)


def table(path: Path) -> None:
    """A row for each hit of `sounds`, with a caption and a number."""
    rows = [
        f"{sample.relative_to(path.parent / 'sounds')},{sample.parent.name} of the drum machine,0.{number % 10}"
        for number, sample in enumerate(sorted((path.parent / "sounds").rglob("*.wav")))
    ]
    path.write_text("\n".join(["path,title,drive", *rows]) + "\n")


def names(path: Path) -> None:
    """As people's own tables have them: another name for the column of files, and a column called split."""
    files = sorted(one.name for one in (path.parent / "clips").iterdir())
    parts = ["train" if number % 4 else "valid" for number in range(len(files))]
    path.write_text("\n".join(["fname,split", *(",".join(one) for one in zip(files, parts, strict=True))]) + "\n")


def spoken(form: str) -> Callable[[Path], None]:
    """A table without names of columns, with a line for each of the forty takes of `wavs`."""
    return lambda path: (path.write_text("".join(f"{form.format(name=name)}\n" for name in range(40))), None)[1]


def stems(folder: Path) -> None:
    for name in ("song1/drums/1", "song1/bass/1", "song2/drums/1"):
        write_wav(folder / f"{name}.wav", seed=len(name))


FILES: dict[str, Callable[[Path], None]] = {
    **dict.fromkeys(("recordings", "digits", "clips", "more"), words),
    **dict.fromkeys(("raw", "voice"), takes),
    **dict.fromkeys(("oneshots", "sounds", "oneshots/sn"), hits),
    "loops": loops,
    "low": lambda folder: (folder.mkdir(), sound(1.5, 12000)(folder / "low.wav"))[0],
    "di": dry,
    "dry": dry,
    "pedal": wet(""),
    "pedals": pedals,
    "wet": wet("__fuzz"),
    "stems": stems,
    "drums.wav": sound(2),
    "guitar.wav": sound(2),
    "sounds.csv": table,
    "clips.csv": names,
    "wavs": takes,
    "metadata.csv": spoken("{name}|text {name}|words of {name}"),
    "kaldi/text": spoken("{name} words of {name}"),
}
"""What makes each folder or file of sounds that a page names."""

BESIDE = {"sounds.csv": "sounds", "clips.csv": "clips", "metadata.csv": "wavs", "kaldi/text": "wavs"}
"""The folder that a table is about."""

DIFFERENT = re.compile(r"tonemill diff|--fail-if")
"""Of these, exit code 1 is an answer, and no failure."""

CLIPS = "tonemill resample --rate 16000 --channels mono | tonemill slice --samples 16384 --short pad"
PIPES: dict[str, str] = {
    **{
        f"corpora/{name}": "tonemill scan recordings --fields '{label}_{speaker}_{take}' | "
        f"{CLIPS} | tonemill shard corpora/{name} --valid 0.3"
        for name in ("digits", "real", "a", "b")
    },
    "corpora/drums": "tonemill scan oneshots --fields '{folder}/{name}' | "
    f"{CLIPS} | tonemill shard corpora/drums --valid 0.3",
    "corpora/drums48": "tonemill scan oneshots | tonemill channels mean | tonemill shard corpora/drums48 --valid 0.3",
    "corpora/loops": "tonemill scan loops | tonemill channels mean | tonemill resample --rate 16000 | "
    "tonemill shard corpora/loops --valid 0.3",
    "corpora/voice": f"tonemill scan voice | {CLIPS} | tonemill shard corpora/voice --valid 0.3",
    "corpora/amp": "tonemill pair di pedal | tonemill align | tonemill slice --seconds 2 | "
    "tonemill shard corpora/amp --valid 0.3",
    "corpora/soxr": "tonemill scan recordings | tonemill resample --rate 6000 | "
    "tonemill shard corpora/soxr --valid 0.2",
    "corpora/resampy": "tonemill scan recordings | tonemill resample --rate 6000 --engine resampy | "
    "tonemill shard corpora/resampy --valid 0.4",
    **{
        f"runs/{name}": f"tonemill train wavegan corpora/digits -o runs/{name} --steps 9"
        for name in ("digits", "drums", "a", "b")
    },
    "runs/vocoder": "tonemill train vocoder corpora/loops -o runs/vocoder",
    "runs/classifier": "tonemill train classifier corpora/real -o runs/classifier --label label --steps 9",
    "runs/amp": "tonemill train effect corpora/amp -o runs/amp",
    "renders/wavegan": "tonemill seeds 24 | tonemill render runs/digits | tonemill write renders/wavegan",
    "renders/loopgan": "tonemill seeds 24 --seed 9 | tonemill render runs/digits | tonemill write renders/loopgan",
    "corpora/generated": "tonemill seeds 24 | tonemill render runs/drums | tonemill shard corpora/generated",
    "corpora/drums-generated": "tonemill seeds 24 | tonemill render runs/drums | "
    "tonemill shard corpora/drums-generated",
    **{
        f"corpora/{name}": f"tonemill seeds 24 | tonemill render runs/{name} | tonemill shard corpora/{name}"
        for name in ("wavegan", "specgan")
    },
    "runs/wavegan": "tonemill train wavegan corpora/digits -o runs/wavegan --steps 9",
    "runs/specgan": "tonemill train specgan corpora/digits -o runs/specgan --steps 9",
    **{
        f"{name}.json": f"tonemill evaluate corpora/generated --against corpora/real --json > {name}.json"
        for name in "ab"
    },
}
"""The pipe that makes each corpus, run or file that a page names and no command before has made."""


def commands_of(page: str) -> Iterator[str]:
    """The commands in the blocks of a page, a line each, without prompts and remarks."""
    for block in re.findall(r"```(?:sh|console)\n(.*?)```", page, re.DOTALL):
        lines = re.sub(r"(\||\\)\n\s*", lambda match: "| " if match[1] == "|" else "", block).splitlines()
        is_session = any(line.startswith("$ ") for line in lines)
        for line in lines:
            if is_session and not line.startswith("$ "):
                continue
            command = re.sub(r"\s{2,}#.*$", "", line.removeprefix("$ ")).strip()
            if "tonemill " in command:
                yield command


def needed(command: str, known: Collection[str] = (*FILES, *PIPES)) -> Iterator[str]:
    """The names in a command that can be made, as they stand there."""
    for word in re.findall(r"[\w./-]+", re.sub(r"(?<=\s)(-o|>|shard|write|--cache|preview)\s+\S+", "", command)):
        if (name := word.rstrip("/")) in known:
            yield name


def _shorter(training: re.Match[str]) -> str:
    words, model = training[1].rstrip(), training[2]
    if model not in SHORT or "--help" in words:
        return words
    has_end = "--steps" in words or "--config" in words or "steps" in load_model(model).usual
    return f"{words} {SHORT[model]} {'--steps 2 ' if has_end else ''}"


def shortened(command: str) -> str:
    """A command whose trainings end after two steps, if they end at all, and whose long renders are of two seconds.

    A model may need --steps or --minutes.
    """
    if "--search" in command:
        return re.sub(r"--minutes \S+", "--minutes 0.05 --batch-size 2", command)
    short = re.sub(r" --minutes \S+", " --steps 2", command)
    short = re.sub(r" --(fine-tune-after|decay-steps) \S+", "", short)
    short = re.sub(r"(tonemill train (\w+)[^|]*)", _shorter, short)
    short = short.replace("--task autoencode", "--task autoencode --compression 16")
    short = re.sub(r"(tonemill render [^|]*--seconds) \d\d+", r"\1 2", short)
    # Only these two have presets.
    short = re.sub(r"(--network (?!wavenet|chain)\w+[^|]*?) --preset nano", r"\1", short)
    return re.sub(r"tonemill seeds \d+", "tonemill seeds 24", short)


@dataclass(frozen=True)
class Workplace:
    """A folder in which commands run one after another, and what one needs is made where it is missing.

    Args:
        folder: where all of it is.
        start: runs a command there.
        own: commands that come later; one that makes what is needed is run before those of `pipes`.
        files: what makes each folder or file of sounds.
        pipes: the command that makes each corpus, run or other file.
        beside: what must be there before a file is made.
    """

    folder: Path
    start: Callable[[str], Ended]
    own: Sequence[str] = ()
    files: Mapping[str, Callable[[Path], None]] = field(default_factory=lambda: FILES)
    pipes: Mapping[str, str] = field(default_factory=lambda: PIPES)
    beside: Mapping[str, str] = field(default_factory=lambda: BESIDE)

    def make(self, name: str) -> None:
        place = self.folder / name
        if place.exists():
            return
        place.parent.mkdir(parents=True, exist_ok=True)
        if name in self.beside:
            self.make(self.beside[name])
        if name in self.files:
            self.files[name](place)
            return
        makes = re.compile(rf"(?:shard|write|-o) {re.escape(name)}(?![\w-])")
        self.run(next((one for one in self.own if makes.search(one)), None) or self.pipes[name])

    def run(self, command: str) -> Ended:
        """Run a command, with shorter trainings; it must end well."""
        for name in needed(command, {*self.files, *self.pipes}):
            self.make(name)
        ended = self.start(shortened(command))
        allowed = (0, 1) if DIFFERENT.search(command) else (0,)
        assert ended.code in allowed, f"{shortened(command)}\n{ended.err[-3000:]}"
        return ended
