"""Arrays come out of the loader beside the audio, cropped at the same instants."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from latents import HOP, encoded
from making import QUIET

from tonemill.audiotools.errors import CorpusError
from tonemill.models.exchange import ArrayFacts
from tonemill.pipelines.building.build import Build, produce
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.engine import engine
from tonemill.pipelines.planning.plan import Output, Splitting
from tonemill.pipelines.planning.planner import make_plan
from tonemill.pipelines.training.facts import facts_of
from tonemill.pipelines.training.loader import Batches, examples_of
from tonemill.pipelines.training.loader_processes import batches

LENGTH = 4 * HOP


@pytest.fixture(scope="module")
def corpora(drums: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Corpus]]:
    """Drums with latents beside the sound, with two hops, and with latents alone."""
    folder = tmp_path_factory.mktemp("latents")
    about = folder / "site" / "latents-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: latents\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[tonemill.steps]\nlatents = latents\n")
    made = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(about.parent))
        for name, settings in {"both": {"keep_audio": True, "embedding": True}, "alone": {}}.items():
            step = {"step": "latents", "version": 1, **settings}
            recipes = [one.then(step) for one in drums.recipes()]
            plan = make_plan(recipes, Output("shards", bits=24), Splitting(), 8.0)
            produce(Build(folder / name, plan, engine.Engine(1), QUIET))
            made[name] = open_corpus(folder / name)
    yield made


def test_a_crop_of_the_audio_and_of_its_latents_are_of_the_same_instants(corpora: dict[str, Corpus]) -> None:
    made = Batches(corpora["both"], "train", ("audio",), LENGTH, 16, arrays=("latents", "embedding"))
    firsts = set()
    for number in range(6):
        batch = made.batch(number)
        assert batch.arrays["latents"].shape == (16, 2, 4)
        assert batch.arrays["embedding"].shape == (16, 2, 1)
        for sound, latents in zip(batch.audio["audio"].numpy(), batch.arrays["latents"].numpy(), strict=True):
            # Stored sound has 24 bits.
            assert abs(encoded(sound) - latents).max() < 2**-22
            firsts.add(float(latents[1, 0]))
    assert len(firsts) > 20


def test_processes_and_devices_change_nothing(corpora: dict[str, Corpus]) -> None:
    made = Batches(corpora["alone"], "train", (), LENGTH, 8, first=3, arrays=("latents",))
    one = next(batches(made, 1, pin=False))
    assert torch.equal(one.arrays["latents"], made.batch(3).arrays["latents"])
    moved = one.to(torch.device("meta"))
    assert moved.arrays["latents"].device.type == "meta"


def test_a_model_reads_what_a_corpus_has_and_computes_what_it_lacks(corpora: dict[str, Corpus], drums: Corpus) -> None:
    facts = facts_of(corpora["both"])
    assert facts.arrays == {"latents": ArrayFacts(2, HOP), "embedding": ArrayFacts(2, None)}
    assert not any(name.startswith(("latents", "embedding")) for name in facts.values)
    alone = facts_of(corpora["alone"])
    assert (alone.roles, alone.channels, alone.sample_rate) == ((), 0, 16_000)
    assert alone.holds == "no audio and array latents"
    assert facts_of(drums).arrays == {}
    for corpus in (drums, corpora["alone"]):
        with pytest.raises(CorpusError, match="no array mel"):
            Batches(corpus, "train", (), LENGTH, 4, arrays=("mel",))
    with pytest.raises(CorpusError, match="shorter than one frame"):
        Batches(corpora["alone"], "train", (), HOP - 1, 4, arrays=("latents",))
    with pytest.raises(CorpusError, match="holds clips of 4096"):
        Batches(corpora["alone"], "train", (), 5000, 4, arrays=("latents",))
    padded: Any = Batches(corpora["alone"], "train", (), 20 * HOP, 4, pad=True, arrays=("latents",)).batch(0)
    assert padded.arrays["latents"].shape == (4, 2, 20)
    assert not padded.arrays["latents"][..., 16:].any()


def test_whole_examples_have_whole_arrays(corpora: dict[str, Corpus]) -> None:
    for one in examples_of(corpora["both"], "train", ("audio",), ("latents",)):
        assert np.allclose(encoded(one.audio["audio"]), one.arrays["latents"], atol=2**-22)
