"""Find the real clip nearest to each rendered clip, so that a listener can compare them: it may be a copy."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
import pyarrow as pa
from pyarrow import compute

from tonemill.audiotools.comparison.nearest import SECONDS, Likenesses, likenesses, nearest
from tonemill.audiotools.errors import AudioError
from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.report.cards import read_start
from tonemill.pipelines.report.subject import Place

MOST: Final = 1500
"""Real clips that are searched at most; of a larger corpus so many are drawn at random."""

YARDSTICK: Final = 200
"""Real clips whose distances to their own nearest clips are the scale for what counts as near."""


class Found(NamedTuple):
    """The nearest real clip: its row of the index, its distance, and the unit of the distance."""

    row: dict[str, Any]
    distance: float
    unit: str


@dataclass(frozen=True)
class Neighbours:
    """Real clips among which the nearest is searched.

    Args:
        place: the corpus they are from.
        rows: rows of its index, one for each clip that is searched.
        measured: log-mel features of these clips, or None where `vectors` decide.
        vectors: embeddings by key, of real clips and of others.
        sample_rate: in hertz, at which sounds are compared.
        note: a sentence for the page: how many clips were searched, and by which distance.
    """

    place: Place
    rows: list[dict[str, Any]]
    measured: Likenesses | None
    vectors: Mapping[str, Any]
    sample_rate: int
    note: str

    def find(self, clips: Sequence[tuple[str, Mapping[str, Waveform]]]) -> list[Found | None]:
        """The nearest real clip of each.

        Args:
            clips: key and sounds by role; a key without a vector finds nothing, where vectors were given.
        """
        if self.measured is not None:
            sounds_of_clips = [_one_role(sounds) for _, sounds in clips]
            if not sounds_of_clips:
                return []
            places, distances = nearest(likenesses(sounds_of_clips, self.sample_rate), self.measured)
            return [Found(self.rows[at], float(far), "dB") for at, far in zip(places, distances, strict=True)]
        real = np.stack([self.vectors[row["key"]] for row in self.rows])
        found: list[Found | None] = []
        for key, _ in clips:
            if key not in self.vectors:
                found.append(None)
                continue
            far = np.linalg.norm(real - self.vectors[key], axis=1)
            found.append(Found(self.rows[int(far.argmin())], float(far.min()), "in the embedding"))
        return found


@dataclass(frozen=True)
class KnownNeighbours:
    """Neighbours that a file of metrics names; searched like `Neighbours`."""

    place: Place
    by_key: Mapping[str, Found]
    note: str

    def find(self, clips: Sequence[tuple[str, Mapping[str, Waveform]]]) -> list[Found | None]:
        """The real clip that the file names for each clip."""
        return [self.by_key.get(key) for key, _ in clips]


def known_neighbours(place: Place, pairs: Sequence[tuple[str, str, float, str]]) -> KnownNeighbours:
    """Neighbours from pairs of keys.

    Args:
        place: the corpus of the real clips; pairs whose real clip it lacks are left out.
        pairs: key, key of the real clip, distance and its unit.
    """
    keys = {real for _, real, _, _ in pairs}
    at = np.flatnonzero(compute.is_in(place.index["key"], pa.array(sorted(keys))).to_numpy())
    rows = {row["key"]: row for row in place.index.take(at).to_pylist()}
    by_key = {key: Found(rows[real], far, unit) for key, real, far, unit in pairs if real in rows}
    return KnownNeighbours(place, by_key, f"Beside each is the clip of {place.name} that is nearest to it.")


def neighbours(place: Place, vectors: Mapping[str, Any]) -> Neighbours | None:
    """Measure the real clips of a corpus; of its train split, if it has one, since a model can copy only those.

    Args:
        place: a corpus or a folder of files.
        vectors: embeddings by key; if some are of this corpus they are compared, else the sounds are.

    Returns:
        None where no clip of it can be read.
    """
    index = place.index
    split = "train" if "train" in place.about.get("splits", {}) else None
    at = range(index.num_rows) if split is None else np.flatnonzero(np.array(index["split"].to_pylist()) == split)
    rows = [int(row) for row in at]
    if vectors:
        keys = index["key"].to_pylist()
        rows = [row for row in rows if keys[row] in vectors] or rows
    whole = len(rows)
    chosen = sorted(random.Random(0).sample(rows, min(MOST, whole)))
    records = index.take(chosen).to_pylist()
    where = f"{split} of {place.name}" if split else place.name
    among = f"{whole:,} clips" if whole == len(chosen) else f"{len(chosen):,} clips drawn at random of {whole:,}"
    if records and all(row["key"] in vectors for row in records):
        note = f"Searched {among} in {where} by Euclidean distance of the embeddings given."
        return Neighbours(place, records, None, vectors, 0, note)
    sample_rate = int(place.about["sample_rate"] or max(place.index["sample_rate"].to_pylist(), default=16000))
    sounds_of_clips, kept = [], []
    for record in records:
        try:
            sounds_of_clips.append(_one_role(read_start(place.sounds(record), SECONDS + 0.1)))
        except (AudioError, OSError, KeyError):
            continue
        kept.append(record)
    if not kept:
        return None
    measured = likenesses(sounds_of_clips, sample_rate)
    note = (
        f"Searched {among} in {where}: the nearest has the smallest root mean square difference of log-mel "
        f"spectrograms, levels made equal, over the first {SECONDS:g} s, at {sample_rate} Hz."
    )
    if len(kept) > 2:
        some = Likenesses(measured.levels[:YARDSTICK], measured.frames[:YARDSTICK])
        _, apart = nearest(some, measured, but_itself=True)
        note += f" Real clips lie {np.median(apart):.1f} dB from their own nearest (median of {len(apart)})."
    return Neighbours(place, kept, measured, {}, sample_rate, note)


def _one_role(sounds: Mapping[str, Waveform]) -> Waveform:
    """What is compared of a clip: its only role, the wet of a pair."""
    return sounds.get("wet") or sounds.get("audio") or next(iter(sounds.values()))
