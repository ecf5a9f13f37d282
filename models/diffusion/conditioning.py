"""What a clip is made for, beside noise: a class, numbers, a vector or a caption, of a corpus's fields and arrays.

Each condition turns an example or a request into a row of numbers, and rows into features, which are added to those of
the noise level, and tokens, which cross-attention searches. There is a row for "nothing": a share of training clips has
it, and so have those whose field is empty, so that a model can be guided away from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from tonemill.audiotools.errors import CorpusError
from tonemill.models.contract import Batch, CorpusFacts, Request
from tonemill.models.diffusion.attention import Tokens
from tonemill.models.diffusion.captions import CaptionEncoder, caption_bytes
from tonemill.models.diffusion.settings import DiffusionConfig
from tonemill.models.directions import RequestField
from tonemill.models.parts.labels import class_numbers, requested_class, settled_labels
from tonemill.models.parts.numbers import number_fields, number_ranges, scaled_number, settled_numbers

Rows = Mapping[str, Tensor]
"""For each condition that a model has, the rows of a batch."""


class Read(NamedTuple):
    """What the network reads of a condition."""

    features: Float[Tensor, "batch modulation_dim"]
    tokens: Tokens | None = None
    visible: Bool[Tensor, "batch tokens"] | None = None


class ClassCondition(nn.Embedding):
    """The class of a clip: one vector for each, and one for none."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__(len(config.labels) + 1, config.modulation_dim)
        self._config = config
        # Training begins without a difference between classes.
        nn.init.zeros_(self.weight)

    def of_batch(self, batch: Batch) -> Int[Tensor, "batch"]:
        return class_numbers(batch, str(self._config.label), self._config.labels)

    def of_request(self, request: Request) -> Int[Tensor, ""]:
        """Raises: UsageError: the model was not trained on that class."""
        config, draws = self._config, np.random.Generator(np.random.PCG64(request.seed))
        return requested_class(request, str(config.label), config.labels, config.condition_dropout, draws)

    def nothing(self, rows: Int[Tensor, "batch"]) -> Int[Tensor, "batch"]:
        """Rows of "nothing" in place of some."""
        return torch.full_like(rows, self.num_embeddings - 1)

    def read(self, rows: Int[Tensor, "batch"]) -> Read:
        return Read(self(rows))


class NumberCondition(nn.Module):
    """Numbers of a clip: each from -1 to 1 over the range in the corpus, and whether it is there."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self._config = config
        self.widen = nn.Conv1d(2 * len(config.numbers), config.modulation_dim, 1)
        self.features = _zeroed(config.modulation_dim, config.modulation_dim)

    def of_batch(self, batch: Batch) -> Float[Tensor, "batch numbers"]:
        fields = zip(*(batch.fields[name] for name in self._config.numbers), strict=True)
        return torch.stack([self._row(values) for values in fields]).to(batch.device)

    def of_request(self, request: Request) -> Float[Tensor, "numbers"]:
        return self._row([request.fields.get(name) for name in self._config.numbers])

    def _row(self, values: Sequence[Any]) -> Float[Tensor, "numbers"]:
        rows = []
        for value, (_, low, high) in zip(values, number_ranges(self._config), strict=True):
            rows += [0.0, 0.0] if value is None else [scaled_number(value, low, high), 1.0]
        return torch.tensor(rows)

    def nothing(self, rows: Float[Tensor, "batch numbers"]) -> Float[Tensor, "batch numbers"]:
        """Rows of "nothing" in place of some."""
        return torch.zeros_like(rows)

    def read(self, rows: Float[Tensor, "batch numbers"]) -> Read:
        return Read(self.features(nn.functional.silu(self.widen(rows[..., None])))[..., 0])


class VectorCondition(nn.Module):
    """An array of a clip, as an embedding: each of its frames is a token; a last row holds whether it is there."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self._config = config
        self.tokens = nn.Conv1d(int(config.embedding_rows or 0) + 1, config.modulation_dim, 1)
        self.features = _zeroed(config.modulation_dim, config.modulation_dim)

    def of_batch(self, batch: Batch) -> Float[Tensor, "batch rows frames"]:
        return nn.functional.pad(batch.arrays[str(self._config.embedding)].float(), (0, 0, 0, 1), value=1.0)

    def of_request(self, request: Request) -> Float[Tensor, "rows frames"]:
        array = request.arrays.get(str(self._config.embedding))
        if array is None:
            return torch.zeros(int(self._config.embedding_rows or 0) + 1, 1)
        return nn.functional.pad(torch.from_numpy(np.array(array, np.float32)), (0, 0, 0, 1), value=1.0)

    def nothing(self, rows: Float[Tensor, "batch rows frames"]) -> Float[Tensor, "batch rows frames"]:
        """Rows of "nothing" in place of some."""
        return torch.zeros_like(rows)

    def read(self, rows: Float[Tensor, "batch rows frames"]) -> Read:
        tokens = self.tokens(rows)
        visible = torch.ones(len(tokens), tokens.shape[2], dtype=torch.bool, device=tokens.device)
        return Read(self.features(tokens.mean(dim=2, keepdim=True))[..., 0], tokens, visible)


class CaptionCondition(nn.Module):
    """The caption of a clip, by an encoder of its bytes."""

    def __init__(self, config: DiffusionConfig) -> None:
        super().__init__()
        self._config = config
        self.encoder = CaptionEncoder(config.caption_bytes, config.modulation_dim, config.caption_blocks)
        self.features = _zeroed(config.modulation_dim, config.modulation_dim)

    def of_batch(self, batch: Batch) -> Int[Tensor, "batch bytes"]:
        rows = [self._row(value) for value in batch.fields[str(self._config.caption)]]
        return torch.stack(rows).to(batch.device)

    def of_request(self, request: Request) -> Int[Tensor, "bytes"]:
        return self._row(request.fields.get(str(self._config.caption)))

    def _row(self, value: Any) -> Int[Tensor, "bytes"]:
        return torch.from_numpy(caption_bytes(None if value is None else str(value), self._config.caption_bytes))

    def nothing(self, rows: Int[Tensor, "batch bytes"]) -> Int[Tensor, "batch bytes"]:
        """Rows of "nothing" in place of some."""
        return torch.zeros_like(rows)

    def read(self, rows: Int[Tensor, "batch bytes"]) -> Read:
        tokens, visible = self.encoder(rows)
        return Read(self.features(tokens[..., :1])[..., 0], tokens, visible)


Condition = ClassCondition | NumberCondition | VectorCondition | CaptionCondition


def conditions_of(config: DiffusionConfig) -> dict[str, Condition]:
    """The conditions of a settled config, by name."""
    found: dict[str, Condition] = {}
    if config.labels:
        found["classes"] = ClassCondition(config)
    if config.numbers:
        found["numbers"] = NumberCondition(config)
    if config.embedding is not None:
        found["embedding"] = VectorCondition(config)
    if config.caption is not None:
        found["caption"] = CaptionCondition(config)
    return found


def settled_conditions(config: Any, corpus: CorpusFacts) -> Any:
    """The config with the classes, ranges and sizes of a corpus.

    Raises:
        CorpusError: a field or an array is missing, or does not vary; the message names the mend.
    """
    train = f"tonemill train diffusion {corpus.name} -o RUN --minutes 60"
    labels = settled_labels(config.label, config.labels, corpus, train) if config.label is not None else ()
    numbers = settled_numbers(config.numbers, corpus.given, corpus, train)
    if config.caption is not None and config.caption not in corpus.texts:
        there = f"It has {', '.join(corpus.texts)}" if corpus.texts else "It has none"
        raise CorpusError(f"{corpus.name} has no text field {config.caption!r}. {there}. Train without: `{train}`.")
    rows = hop = None
    if config.embedding is not None:
        if config.embedding not in corpus.arrays:
            raise CorpusError(
                f"{corpus.name} holds {corpus.holds}, but --embedding is {config.embedding}, and not every example "
                f"has that array. Train without it: `{train}`."
            )
        rows, hop = corpus.arrays[config.embedding]
    return replace(
        config,
        labels=labels,
        **numbers,
        embedding_rows=rows,
        embedding_hop=hop,
    )


def missing_conditions(config: DiffusionConfig, corpus: CorpusFacts) -> list[str]:
    """How many examples lack a field that clips are made for, in words."""
    known = {**corpus.spelt, **corpus.given}
    counts = {name: known[name].missing for name in config.numbers}
    if config.caption is not None:
        counts[config.caption] = corpus.texts[config.caption]
    return [
        f"{count} of the {corpus.examples} examples of {corpus.name} have no {name}; they are trained on without "
        f"it. This makes a corpus without such examples: `tonemill open {corpus.name} | tonemill select '{name} != "
        "None' | tonemill shard OTHER`."
        for name, count in counts.items()
        if count
    ]


def condition_fields(config: DiffusionConfig) -> dict[str, RequestField]:
    """The fields that a request may hold; those without which nothing was trained are required."""
    required = not config.condition_dropout
    found = {config.label: RequestField(choices=config.labels)} if config.label else {}
    found |= number_fields(config, required)
    if config.caption is not None:
        found[config.caption] = RequestField(required=required)
    return found


def dropped(conditions: Mapping[str, Condition], rows: Rows, batch: Batch, share: float) -> Rows:
    """Rows of which a share is "nothing": of each condition on its own, and, where there are several, of all at once.

    Args:
        conditions: by name.
        rows: of the batch.
        batch: decides the draws.
        share: from 0 up to 1.
    """
    if not rows:
        return rows
    all_at_once = batch.draw(torch.rand) < share
    found = {}
    for name, one in rows.items():
        absent = all_at_once if len(rows) == 1 else all_at_once | (batch.draw(torch.rand) < share)
        found[name] = torch.where(absent.reshape(-1, *[1] * (one.ndim - 1)), conditions[name].nothing(one), one)
    return found


def _zeroed(before: int, after: int) -> nn.Conv1d:
    """A product that gives zeros at first; a convolution of one tap, whose rounding is the same beside any others."""
    layer = nn.Conv1d(before, after, 1)
    nn.init.zeros_(layer.weight)
    assert layer.bias is not None
    nn.init.zeros_(layer.bias)
    return layer
