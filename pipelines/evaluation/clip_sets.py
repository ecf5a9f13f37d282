"""Sets of clips to compare, from corpora, noise or vectors alone; every clip is read, measured and judged once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, Final

import numpy as np

from tonemill.audiotools.comparison import confidence
from tonemill.audiotools.comparison.descriptors import (
    MEASURES,
    character,
    from_first_sound,
    is_silent,
    noise_with,
    outline,
)
from tonemill.audiotools.errors import AudioError, CorpusError
from tonemill.audiotools.rhythm.beats import find_beats
from tonemill.audiotools.rhythm.onsets import onsets
from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.corpus.corpus import FOLDER, Corpus, folder_of, samples_of
from tonemill.pipelines.corpus.sidecar import source_key
from tonemill.pipelines.evaluation.judge import Judge
from tonemill.pipelines.hashing import number_of
from tonemill.pipelines.progress import Phase
from tonemill.pipelines.rendering.render import at_rate

TOGETHER: Final = 128
MOST_SAMPLES: Final = 1 << 26
"""Of all channels of the clips that are in memory at once."""

MOST_MEASURED: Final = 2000
"""At most so many clips of a set are measured for loudness, colour and seams, which is enough for a mean."""

MOST_TIMED: Final = 200
"""At most so many clips of a set have their tempo estimated, which takes tens of milliseconds each."""

SAME_TEMPO: Final = 0.02


@dataclass(frozen=True)
class Member:
    """A clip before it is read.

    Args:
        key: of the example.
        source: clips of one source are not independent.
        fields: its row of the index.
        read: reads the audio; None where only a vector is given.
    """

    key: str
    source: str
    fields: dict[str, Any]
    read: Callable[[], Waveform] | None = None


@dataclass
class Clips:
    """Measurements of a set of clips; arrays are in the order of `keys`, with NaN or None for what was not measured.

    Args:
        name: of the row: generated, the name of its folder, held_out, noise or reference.
        keys, sources: of each clip.
        vectors: (clips, dimensions), of the judge.
        probabilities: (clips, classes), of the judge.
        outlines: (clips, cells), in decibels.
        measures: by name.
        silent: whether a clip is.
        wanted: the class of each that its model was to render, or None.
        tempo_fits: 1 where the estimated tempo equals the field `tempo_bpm`, 0 where not.
        left_out: why clips are missing, and how many.
    """

    name: str
    keys: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    vectors: np.ndarray | None = None
    probabilities: np.ndarray | None = None
    outlines: np.ndarray | None = None
    measures: dict[str, np.ndarray] = field(default_factory=dict)
    silent: np.ndarray | None = None
    wanted: list[str | None] = field(default_factory=list)
    tempo_fits: np.ndarray | None = None
    left_out: dict[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def groups(self) -> np.ndarray:
        """For the jackknife: clips of one source stay together."""
        return confidence.dealt(self.sources)


@dataclass(frozen=True)
class Measuring:
    """How clips are measured, the same for all sets.

    Args:
        judge: gives embeddings and probabilities; None without a judge.
        sample_rate: in hertz, to which clips are resampled; the lowest of all.
        frames: of an outline.
        workers: threads that read and measure.
    """

    judge: Judge | None
    sample_rate: int
    frames: int
    workers: int


def members_of(corpus: Corpus, splits: Sequence[str]) -> list[Member]:
    """The examples of some splits of a corpus; of pairs, the wet side."""
    role = "audio" if "audio" in corpus.about["roles"] else "wet"
    if role not in corpus.about["roles"]:
        raise CorpusError(
            f"{corpus.name} holds {corpus.holds}; evaluate compares the role audio or wet, which it does not have."
        )

    def reader(row: dict[str, Any]) -> Callable[[], Waveform]:
        return lambda: Waveform(samples_of(corpus.folder, row, role), row["sample_rate"])

    return [
        Member(row["key"], source_key(row["key"]), {FOLDER: folder_of(row["source"]), **row}, reader(row))
        for row in corpus.index().to_pylist()
        if row["split"] in splits
    ]


def noise_like(members: Sequence[Member], spectrum: np.ndarray, count: int, seed: int) -> list[Member]:
    """Noise with the mean spectrum of real clips, of their lengths and channels."""

    def maker(number: int, row: dict[str, Any]) -> Callable[[], Waveform]:
        return lambda: Waveform(
            noise_with(spectrum, row["samples"], row["channels"], seed * 1_000_003 + number), row["sample_rate"]
        )

    rows = [member.fields for member in members]
    return [
        Member(f"noise-{number}", f"noise-{number}", {}, maker(number, rows[number % len(rows)]))
        for number in range(count)
    ]


def chosen(members: Sequence[Member], count: int, seed: int) -> list[Member]:
    """At most `count` of them, by a hash of seed and key, so that a larger choice holds the smaller one."""
    if len(members) <= count:
        return list(members)
    return sorted(members, key=lambda one: number_of(f"{seed} {one.key}"))[:count]


def halves(members: Sequence[Member], seed: int) -> tuple[list[Member], list[Member]]:
    """Two halves, by a hash of seed and source, so that no source is in both."""
    sources = sorted({one.source for one in members}, key=lambda source: number_of(f"{seed} {source}"))
    first = set(sources[: len(sources) // 2])
    return [one for one in members if one.source in first], [one for one in members if one.source not in first]


@dataclass(frozen=True)
class _Measured:
    member: Member
    waveform: Waveform | None
    outline: np.ndarray | None
    measures: dict[str, float]
    silent: bool
    tempo_fits: float


def measure_clips(name: str, members: Sequence[Member], measuring: Measuring, phase: Phase) -> Clips:
    """Read, measure and judge clips, a few at a time; those that cannot be used are counted and left out."""
    clips = Clips(name)
    rows: list[_Measured] = []
    judged: list[tuple[np.ndarray, np.ndarray | None]] = []
    judge = measuring.judge
    timed = sum(1 for one in members if one.fields.get("tempo_bpm"))
    with ThreadPoolExecutor(measuring.workers) as pool:
        for some in _some_at_a_time(members):
            phase.advance(len(some))
            found: list[_Measured] = []
            numbers, these = zip(*some, strict=True)
            measure = partial(_measured, measuring=measuring, members=len(members), timed=timed)
            for one in pool.map(measure, numbers, these):
                if isinstance(one, str):
                    clips.left_out[one] = clips.left_out.get(one, 0) + 1
                else:
                    found.append(one)
            for one, judgement in _judged(found, judge, clips):
                rows.append(replace(one, waveform=None))
                judged.append(judgement)
    clips.keys, clips.sources = [one.member.key for one in rows], [one.member.source for one in rows]
    if judge is not None and judge.label is not None:
        clips.wanted = [None if (v := one.member.fields.get(judge.label)) is None else str(v) for one in rows]
    if not rows:
        return clips
    if judged and judged[0][0].size:
        clips.vectors = np.stack([vector for vector, _ in judged])
        if all(probabilities is not None for _, probabilities in judged):
            clips.probabilities = np.stack([p for _, p in judged if p is not None])
    if all(one.outline is not None for one in rows):
        clips.outlines = np.stack([one.outline for one in rows if one.outline is not None])
        nothing = float("nan")
        clips.measures = {name: np.array([one.measures.get(name, nothing) for one in rows]) for name in MEASURES}
        clips.silent = np.array([one.silent for one in rows])
        clips.tempo_fits = np.array([one.tempo_fits for one in rows])
    return clips


def _some_at_a_time(members: Sequence[Member]) -> Iterator[list[tuple[int, Member]]]:
    """Clips with their numbers, as many as fit into memory together."""
    some: list[tuple[int, Member]] = []
    samples = 0
    for number, member in enumerate(members):
        some.append((number, member))
        samples += member.fields.get("samples", 0) * member.fields.get("channels", 1)
        if len(some) == TOGETHER or samples >= MOST_SAMPLES:
            yield some
            some, samples = [], 0
    if some:
        yield some


def _judged(
    found: Sequence[_Measured], judge: Judge | None, clips: Clips
) -> Iterator[tuple[_Measured, tuple[np.ndarray, np.ndarray | None]]]:
    if judge is None:
        yield from ((one, (np.zeros(0), None)) for one in found)
        return
    empty = Waveform(np.zeros((1, 0), np.float32), 1)
    judgements = judge.judge([(one.member.key, one.waveform or empty) for one in found])
    for one, judgement in zip(found, judgements, strict=True):
        vector = np.asarray(judgement.vector, np.float64)
        if not np.isfinite(vector).all():
            clips.left_out["vector not finite"] = clips.left_out.get("vector not finite", 0) + 1
            continue
        yield one, (vector, None if judgement.probabilities is None else np.asarray(judgement.probabilities))


def _measured(number: int, member: Member, *, measuring: Measuring, members: int, timed: int) -> _Measured | str:
    """The measurements of one clip, or the reason why it cannot be used."""
    if member.read is None:
        return _Measured(member, None, None, {}, False, float("nan"))
    try:
        waveform = member.read()
        at = at_rate(waveform, measuring.sample_rate)
        if not np.isfinite(at.samples).all():
            return "not finite"
        if not at.frames:
            return "no frames"
        cells = outline(from_first_sound(at.samples), at.sample_rate)[:, : measuring.frames]
        cells = np.pad(cells, ((0, 0), (0, measuring.frames - cells.shape[1])), constant_values=cells.min())
        measured = character(at.samples, at.sample_rate) if _is_due(number, members, MOST_MEASURED) else {}
        tempo_bpm = member.fields.get("tempo_bpm")
        fits = float("nan")
        if tempo_bpm and _is_due(number, timed, MOST_TIMED):
            fits = float(_tempo_fits(at, float(tempo_bpm)))
    except (AudioError, CorpusError) as error:
        return getattr(error, "reason", "cannot be read")
    return _Measured(member, waveform, cells.ravel(), measured, is_silent(at.samples), fits)


def _is_due(number: int, count: int, most: int) -> bool:
    """Whether a clip is one of the `most` that are spread evenly over `count`."""
    return count <= most or number * most // count != (number - 1) * most // count


def _tempo_fits(waveform: Waveform, tempo_bpm: float) -> bool:
    """Whether the estimated tempo equals `tempo_bpm`, in the same octave."""
    beats = find_beats(onsets(waveform))
    return abs(beats.tempo_bpm / tempo_bpm - 1) <= SAME_TEMPO
