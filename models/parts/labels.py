"""Classes from a metadata field: those of a corpus, those of a batch, and that of a request.

The class after the last stands for "no label": a share of training clips has it, so that one can render without one.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.exchange import Batch, CorpusFacts, Request


def settled_labels(label: str, labels: tuple[str, ...], corpus: CorpusFacts, train: str) -> tuple[str, ...]:
    """The classes of a corpus.

    Args:
        label: the field.
        labels: the classes, where a person named them.
        corpus: to train on.
        train: the command that trains without classes, for messages.

    Raises:
        CorpusError: the field is missing, has one value, or one that is not named; the message names the mend.
    """
    values = corpus.values.get(label, ())
    if not values:
        known = (
            f"Its fields are {', '.join(corpus.values)}: name one of them, as --label {next(iter(corpus.values))}"
            if corpus.values
            else "It has none"
        )
        raise CorpusError(f"{corpus.name} has no field {label!r}. {known}. `{train}` trains without classes.")
    if len(values) < 2:
        raise CorpusError(
            f"{label!r} is {values[0]!r} in every example of {corpus.name}, but classes need at least two values. "
            f"Train without --label: `{train}`."
        )
    if labels and not set(values) <= set(labels):
        raise CorpusError(
            f"{corpus.name} has {label} {', '.join(values)}, but --labels has only {', '.join(labels)}. "
            f"Leave --labels out: `{train} --label {label}`."
        )
    return labels or values


def class_numbers(batch: Batch, label: str, labels: Sequence[str]) -> Int[Tensor, "batch"]:
    """The class of each example; of one that has none "no label"."""
    index = {name: number for number, name in enumerate((*labels, "None"))}
    return torch.tensor([index[str(value)] for value in batch.fields[label]], device=batch.device)


def drawn_classes(batch: Batch, label: str, labels: Sequence[str], dropout: float) -> Int[Tensor, "batch"]:
    """The class of each example; of a share that is drawn, "no label"."""
    dropped = batch.draw(torch.rand) < dropout
    return class_numbers(batch, label, labels).masked_fill(dropped, len(labels))


def requested_class(
    request: Request, label: str, labels: Sequence[str], dropout: float, draws: np.random.Generator
) -> Int[Tensor, ""]:
    """The class of a request; where it has none "no label", or any class where that was not trained.

    Raises:
        UsageError: the model was not trained on it.
    """
    value = request.fields.get(label)
    if value is None:
        return torch.tensor(len(labels) if dropout > 0 else int(draws.integers(len(labels))))
    if str(value) not in labels:
        raise UsageError(f"{label} is {str(value)!r}, but this model was trained on {', '.join(labels)}.")
    return torch.tensor(list(labels).index(str(value)))
