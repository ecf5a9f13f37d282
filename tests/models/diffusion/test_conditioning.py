"""Classes, numbers, embeddings and captions: what a model reads of them, and what a corpus must hold."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from autoregressive_noise import noise

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.contract import Batch, CorpusFacts, Request
from tonemill.models.diffusion import MODEL
from tonemill.models.diffusion.captions import CaptionEncoder, caption_bytes
from tonemill.models.diffusion.conditioning import conditions_of, dropped
from tonemill.models.diffusion.model import OPTIMIZER, Diffusion
from tonemill.models.diffusion.options import Generating, Resembling
from tonemill.models.diffusion.settings import DiffusionConfig
from tonemill.models.exchange import ArrayFacts, Range
from tonemill.pipelines.recipes.conditions import condition

TINY: dict[str, Any] = {
    "length": 1024,
    "channels_per_level": (8, 8),
    "factors": (8, 4),
    "items": (1, 1),
    "attentions": (0, 1),
    "modulation_dim": 16,
    "head_dim": 8,
    "zero_init": False,
    "caption_bytes": 12,
    "caption_blocks": 2,
}
FACTS = CorpusFacts(
    "corpora/sounds",
    ("audio",),
    16000,
    1,
    {"kind": ("kick", "snare"), "title": ("a kick", "two snares")},
    {"drive": Range(0.0, 2.0, 3), "gain": Range(1.0, 1.0, 0)},
    {"clap": ArrayFacts(5, None)},
    texts={"kind": 0, "title": 7},
    examples=40,
)
ALL = {"label": "kind", "numbers": ("drive",), "caption": "title", "embedding": "clap"}
FIELDS: list[dict[str, Any]] = [
    {"kind": "kick", "drive": 1.5, "title": "a kick"},
    {"kind": "snare", "drive": None, "title": None},
]


def settled(**settings: Any) -> DiffusionConfig:
    config: DiffusionConfig = MODEL.settle(DiffusionConfig(**{**TINY, **settings}), FACTS)
    return config


def conditioned(**settings: Any) -> Diffusion:
    """A model whose conditions matter, as after training."""
    torch.manual_seed(0)
    model = MODEL(settled(**settings)).eval()
    model.fit([Batch({"audio": noise(8, 1024, 0)}, {})])
    for one in model.denoiser.conditions.values():
        for parameter in one.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def clips(model: Diffusion, *requests: Request) -> torch.Tensor:
    inputs = [model.inputs(one) for one in requests]
    stacked = {name: torch.stack([one[name] for one in inputs]) for name in inputs[0]}
    return model.render(stacked, "render", requests[0].options)


def wanted(options: Any = None, seed: int = 1, array: np.ndarray | None = None, **fields: Any) -> Request:
    arrays = {} if array is None else {"clap": array}
    return Request(seed, fields, {}, arrays, "render", options or Generating(steps=2))


@pytest.mark.parametrize("name", ["drive", "title", "kind"])
def test_a_clip_is_made_for_its_condition(name: str) -> None:
    """And one that lacks it is as without guidance 0."""
    setting, values = {
        "drive": ({"numbers": ("drive",)}, (0.0, 2.0)),
        "title": ({"caption": "title"}, ("a kick", "kick a")),
        "kind": ({"label": "kind"}, ("kick", "snare")),
    }[name]
    model = conditioned(**setting)
    first, second = (clips(model, wanted(**{name: value})) for value in values)
    nothing = clips(model, wanted())
    assert (
        min(float((one - other).abs().max()) for one, other in itertools.combinations((first, second, nothing), 2))
        > 1e-4
    )
    away = clips(model, wanted(Generating(steps=2, guidance=0.0), **{name: values[0]}))
    torch.testing.assert_close(away, nothing, atol=1e-6, rtol=0)


def test_a_clip_is_made_for_an_array() -> None:
    model, draws = conditioned(embedding="clap"), np.random.default_rng(0)
    arrays = [draws.standard_normal((5, frames)).astype(np.float32) for frames in (1, 1, 3)]
    options = Resembling(steps=2)
    first, second, third = (clips(model, wanted(options, array=one)) for one in arrays)
    nothing = clips(model, wanted(options))
    assert first.shape == third.shape == (1, 1, 1024)
    assert min(float((first - other).abs().max()) for other in (second, third, nothing)) > 1e-4
    assert not torch.equal(first, clips(model, wanted(Resembling(steps=2, seed=1), array=arrays[0])))
    direction = MODEL.directions(model.config)["render"]
    assert (direction.needs, direction.rows, direction.hop) == (("clap",), 5, 0)


def test_a_clip_for_a_caption_is_the_same_beside_any_other() -> None:
    model = conditioned(label="kind", numbers=("drive",), caption="title")
    one = wanted(kind="kick", drive=0.3, title="a kick")
    others = [wanted(seed=seed, title="x" * seed) for seed in (2, 3, 4)]
    assert torch.equal(clips(model, one, *others)[0], clips(model, *others, one)[3])


def test_a_caption_is_its_bytes_and_none_is_as_an_empty_one() -> None:
    assert caption_bytes("aé", 4).tolist() == [98, 0xC3 + 1, 0xA9 + 1, 0]
    assert caption_bytes("abcdef", 3).tolist() == [98, 99, 100]
    assert not caption_bytes(None, 3).any() and not caption_bytes("", 3).any()


@pytest.mark.parametrize("dim", [3, 16, 20])
def test_what_stands_after_a_caption_changes_none_of_its_tokens(dim: int) -> None:
    """Padding is masked, which the reference's cross-attention does not do (UNetV0), for tokens of any size."""
    torch.manual_seed(0)
    encoder = CaptionEncoder(8, dim, 2).eval()
    rows = torch.from_numpy(caption_bytes("abc", 8))[None]
    tokens, visible = encoder(rows)
    assert visible[0].tolist() == [True] * 4 + [False] * 5
    with torch.no_grad():
        encoder.values.weight[0] += 1
    torch.testing.assert_close(encoder(rows)[0][..., :4], tokens[..., :4])


def test_a_share_of_clips_has_each_condition_dropped_and_guidance_one_that_has_none() -> None:
    """One condition: the share. Two: each is dropped alone, too, and both together about as often as one by itself."""
    batch = Batch({"audio": torch.zeros(20_000, 1, 1)}, {"drive": [1.0] * 20_000, "title": ["a"] * 20_000})
    for settings, shares in (({"caption": "title"}, {"caption": 0.2}), (ALL, {"numbers": 0.36, "caption": 0.36})):
        conditions = {name: one for name, one in conditions_of(settled(**settings)).items() if name in shares}
        torch.manual_seed(0)
        rows = dropped(conditions, {name: one.of_batch(batch) for name, one in conditions.items()}, batch, 0.2)
        absent = {name: ~one.flatten(1).any(dim=1) for name, one in rows.items()}
        for name, share in shares.items():
            assert float(absent[name].float().mean()) == pytest.approx(share, abs=0.015)
    together = absent["numbers"] & absent["caption"]
    assert float(together.float().mean()) == pytest.approx(0.2 + 0.8 * 0.2**2, abs=0.015)


def test_examples_without_a_caption_or_a_number_are_learned_without_and_counted() -> None:
    model = MODEL(settled(**ALL)).train()
    fields = {name: [one[name] for one in FIELDS] for name in FIELDS[0]}
    batch = Batch({"audio": noise(2, 1024, 0)}, fields, {"clap": torch.randn(2, 5, 1)})
    rows = {name: one.of_batch(batch) for name, one in model.denoiser.conditions.items()}
    assert rows["numbers"].tolist() == [[0.5, 1.0], [0.0, 0.0]]
    assert not rows["caption"][1].any() and rows["caption"][0].any()
    losses = model.training_step(batch, 1, lambda _, loss: loss.backward())
    assert torch.isfinite(losses["loss"])
    assert all(one.grad is not None for one in model.denoiser.conditions["caption"].parameters())
    mend = "This makes a corpus without such examples: `tonemill open corpora/sounds | tonemill select"
    assert MODEL.remarks(model.config, FACTS) == [
        f"{count} of the 40 examples of corpora/sounds have no {name}; they are trained on without it. {mend} "
        f"'{name} != None' | tonemill shard OTHER`."
        for name, count in (("drive", 3), ("title", 7))
    ]
    there = condition("title != None", "WHERE")
    assert [there(one) for one in FIELDS] == [True, False] and not there({"drive": 1.0})
    assert not MODEL.remarks(settled(label="kind"), FACTS)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"caption": "words"}, "corpora/sounds has no text field 'words'. It has kind, title. Train without"),
        ({"numbers": ("pan",)}, "has no number 'pan' to learn from; it has drive, gain"),
        (
            {"numbers": ("title",)},
            "'title' counts as text in corpora/sounds, because some of its values are no finite numbers",
        ),
        ({"numbers": ("gain",)}, "'gain' is 1 in every example of corpora/sounds"),
        ({"embedding": "t5"}, "but --embedding is t5, and not every example has that array"),
    ],
)
def test_what_a_corpus_does_not_hold_is_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(CorpusError) as refused:
        settled(**settings)
    assert words in str(refused.value)


def test_an_array_can_be_read_where_clips_are_made_of_nothing_else() -> None:
    with pytest.raises(UsageError, match="--embedding is clap, which works with --task plain only"):
        DiffusionConfig(task="upsample", embedding="clap")


def test_without_dropout_a_condition_is_required() -> None:
    fields = MODEL.directions(settled(numbers=("drive",), caption="title", condition_dropout=0.0))["render"].fields
    assert fields["drive"].required and fields["title"].required
    fields = MODEL.directions(settled(numbers=("drive",), caption="title"))["render"].fields
    assert not fields["drive"].required and (fields["drive"].low, fields["drive"].high) == (0.0, 2.0)


SLOT = 512
WORDS = ("kick", "hiss", "beep", "buzz")


def word(name: str, draws: np.random.Generator) -> np.ndarray:
    """64 ms at 8 kHz, of a random level."""
    time = np.arange(SLOT) / 8000
    wave = {
        "kick": np.sin(2 * np.pi * (60 * time + 4 * (1 - np.exp(-time / 0.02)))),
        "hiss": np.random.default_rng(7).standard_normal(SLOT) / 2,
        "beep": np.sin(2 * np.pi * 1000 * time),
        "buzz": 0.7 * np.sign(np.sin(2 * np.pi * 250 * time)),
    }[name]
    return (wave * np.exp(-time / 0.02) * draws.uniform(0.5, 1)).astype(np.float32)


def spectrum(clip: np.ndarray) -> np.ndarray:
    """Sixteen bands of a slot, whatever its level."""
    power = np.abs(np.fft.rfft(clip / (np.sqrt((clip**2).mean()) + 1e-6)))[: SLOT // 2]
    return np.asarray(np.log(power.reshape(16, -1).mean(axis=1) + 0.3))


@pytest.mark.slow
def test_orders_of_words_that_were_never_seen_are_rendered_right() -> None:
    """Three of four words in order, 16 of the 24 orders in training: chance is 1 in 24, and three times that is wanted.

    The judge takes each third of a clip for the word whose mean spectrum is nearest, and is never wrong on real clips.
    """
    draws = np.random.default_rng(0)
    orders = [tuple(order) for order in draws.permutation(list(itertools.permutations(WORDS, 3)))]
    held_out, seen = orders[:8], orders[8:]
    templates = {name: spectrum(word(name, draws)) for name in WORDS}

    def clip(order: tuple[str, ...]) -> np.ndarray:
        return np.concatenate([word(name, draws) for name in order])[None]

    def judged(sound: np.ndarray) -> tuple[str, ...]:
        spectra = [spectrum(part) for part in sound.reshape(3, SLOT)]
        return tuple(min(WORDS, key=lambda name: float(((one - templates[name]) ** 2).sum())) for one in spectra)

    assert all(judged(clip(order)) == order for order in orders)

    def batch(size: int) -> Batch:
        chosen = [seen[number] for number in draws.integers(len(seen), size=size)]
        audio = torch.from_numpy(np.stack([clip(order) for order in chosen]))
        return Batch({"audio": audio}, {"title": [" ".join(order) for order in chosen]})

    config = DiffusionConfig(
        length=3 * SLOT,
        channels_per_level=(16, 32, 64, 128),
        factors=(1, 8, 4, 4),
        items=(1, 1, 1, 2),
        attentions=(0, 0, 1, 1),
        modulation_dim=64,
        learning_rate=2e-3,
        caption="title",
        caption_bytes=16,
        caption_blocks=2,
        sample_rate=8000,
        channels=1,
    )
    torch.manual_seed(0)
    model = MODEL(config)
    model.fit([batch(64)])
    optimizer, weights = model.optimizers()[OPTIMIZER], list(model.parameters())

    def update(_: str, loss: torch.Tensor) -> None:
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()

    for step in range(1, 421):
        for group in optimizer.param_groups:
            group["lr"] = model.learning_rate(OPTIMIZER, step)
        model.train().training_step(batch(16), step, update)
    model.eval()
    right = []
    for order in held_out:
        requests = [wanted(Generating(guidance=3.0), seed=seed, title=" ".join(order)) for seed in range(4)]
        right += [judged(one[0].numpy()) == order for one in clips(model, *requests)]
    assert np.mean(right) > 3 / 24
