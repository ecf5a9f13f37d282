"""Clusters: the best copy is kept whatever order files come in, and nothing goes without a kept copy it sounds like."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile

from tonemill.audiotools.comparison.fingerprint import Fingerprint, fingerprint
from tonemill.audiotools.synthetic import hit
from tonemill.audiotools.waveform import Waveform
from tonemill.pipelines.dedup import clusters
from tonemill.pipelines.dedup.clusters import Clusters, find
from tonemill.pipelines.dedup.fingerprints import Entry, key_of
from tonemill.pipelines.recipes.recipe import Recipe

HERTZ = 44100
SNARE = (0.5 * hit("snare", HERTZ, 1, {})).astype(np.float32)


class Held(Entry):
    """An entry whose fingerprint is in memory."""

    made: Fingerprint

    def load(self) -> Fingerprint:
        return self.made


def entry(samples: np.ndarray, **measures: object) -> Entry:
    made = replace(fingerprint([Waveform(samples, HERTZ)]), **measures)
    names = ("pcm_digest", "sample_rate", "bandwidth_hz", "bits", "clipped", "sounding_seconds", "outline")
    held = Held(**{name: getattr(made, name) for name in names}, place=Path(), offset=0, samples=0)
    object.__setattr__(held, "made", made)
    return held


def recipe(path: str, subtype: str = "PCM_16") -> Recipe:
    channels = 2 if "stereo" in path else 1
    return Recipe(path, {"audio": {"uri": path, "sha256": path, "subtype": subtype, "channels": channels}})


def found(recipes: list[Recipe], entries: list[Entry], workers: int = 1) -> Clusters:
    kept = {key_of(one): made for one, made in zip(recipes, entries, strict=True)}
    return find(recipes, kept, workers, lambda done, of: None)


def copy(number: int, **measures: object) -> Entry:
    """A copy of the snare, a little softer than the last one, so that no two are equal."""
    return entry(SNARE * np.float32(1 - 0.01 * number), **measures)


RANKED = [
    (recipe("z_wide.wav"), copy(1)),
    (recipe("z_narrow_stereo.wav"), copy(7, bandwidth_hz=11000.0, bits=8)),
    (recipe("a_narrow.wav"), copy(2, bandwidth_hz=11000.0)),
    (recipe("a_narrow_8.wav"), copy(3, bandwidth_hz=11000.0, bits=8)),
    (recipe("a_narrow_8_clipped.wav"), copy(4, bandwidth_hz=11000.0, bits=8, clipped=True)),
    (recipe("a_lossy.ogg", "VORBIS"), copy(5)),
    (recipe("b_lossy.mp3", "MPEG_LAYER_III"), copy(6)),
]


@pytest.mark.parametrize("seed", range(4))
def test_the_best_copy_is_kept_in_any_order(seed: int) -> None:
    for best in range(len(RANKED) - 1):
        some = RANKED[best:]
        mixed = random.Random(seed).sample(some, len(some))
        result = found([one for one, _ in mixed], [made for _, made in mixed], workers=seed + 1)
        first = mixed.index(some[0])
        assert set(result.copies) == set(range(len(some))) - {first}
        assert set(result.copies.values()) == {first}
        assert set(result.clusters.values()) == {some[0][1].pcm_digest[:16]}


def test_equal_samples_are_copies_and_the_first_by_path_is_kept() -> None:
    recipes = [recipe("b.wav"), recipe("a.wav"), recipe("c.wav"), recipe("c.wav")]
    result = found(recipes, [copy(0)] * 4)
    assert (result.copies, result.exact, result.decoded) == ({0: 1, 2: 1, 3: 1}, 3, 4)


def test_other_hits_and_other_roles_are_left_alone() -> None:
    others = [entry((0.5 * hit("snare", HERTZ, seed, {})).astype(np.float32)) for seed in range(2, 6)]
    result = found([recipe(f"{number}.wav") for number in range(4)], others)
    assert not result.clusters
    pair = Recipe("pair", {"dry": {"uri": "d", "sha256": "d"}, "wet": {"uri": "w", "sha256": "w"}})
    assert not found([recipe("a.wav"), pair], [copy(0), copy(0)]).clusters


def test_in_a_chain_only_what_a_kept_copy_replaces_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    entries = [copy(number) for number in range(3)]
    places = {made.pcm_digest: number for number, made in enumerate(entries)}
    near = lambda a, b: abs(places[a.pcm_digest] - places[b.pcm_digest]) < 2  # noqa: E731
    monkeypatch.setattr(clusters, "are_copies", near)
    result = found([recipe("a.wav"), recipe("b.wav"), recipe("c.wav")], entries)
    assert len(set(result.clusters.values())) == 1
    assert result.copies == {1: 0}


def test_a_copy_is_marked_before_every_other_step() -> None:
    one = replace(recipe("b.wav"), steps=[{"step": "resample", "rate": 8000}])
    result = Clusters({0: "c", 1: "c"}, {0: 1}, {0: 1}, 0, 2)
    marked = result.marked(0, one, lambda kept: "a.wav", keep_all=False)
    assert marked.steps == [{"step": "duplicate", "version": 1, "of": "a.wav"}, *one.steps]
    kept = result.marked(0, one, lambda kept: "a.wav", keep_all=True)
    assert (kept.steps, kept.fields) == (one.steps, {"duplicate_cluster": "c", "duplicate_of": "a.wav"})
    assert result.marked(5, one, lambda kept: "", keep_all=False) is one


def test_lossy_subtypes_are_known() -> None:
    lossy = {name for name in soundfile.available_subtypes() if name.startswith(clusters.LOSSY) or "ADPCM" in name}
    lossless = set(soundfile.available_subtypes()) - lossy
    assert {"VORBIS", "OPUS", "MPEG_LAYER_III", "ULAW", "IMA_ADPCM", "GSM610"} <= lossy
    assert {"PCM_16", "PCM_24", "PCM_S8", "PCM_U8", "FLOAT", "DOUBLE", "ALAC_16"} <= lossless
