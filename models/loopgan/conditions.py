"""What a loop is made to be, beside its latent vector: a class, as the key or the kit, and numbers, as the tempo.

A condition is one vector: a 1 at the place of the class, or at the last of them for "no label", then each number,
brought from its range in the corpus to -1 to 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.directions import RequestField
from tonemill.models.exchange import Batch, CorpusFacts, Request
from tonemill.models.loopgan.settings import LoopGANConfig
from tonemill.models.parts.labels import drawn_classes, requested_class, settled_labels
from tonemill.models.parts.numbers import number_fields, number_ranges, scaled_number, settled_numbers
from tonemill.models.parts.seeded import drawn


def settled_conditions(config: LoopGANConfig, corpus: CorpusFacts) -> LoopGANConfig:
    """The config with the classes and the ranges of a corpus.

    Raises:
        CorpusError: a field is missing, or the same throughout; the message names the mend.
    """
    train = f"tonemill train loopgan {corpus.name} -o RUN --minutes 60"
    if config.label is not None:
        config = replace(config, labels=settled_labels(config.label, config.labels, corpus, train))
    numbers = settled_numbers(config.numbers, corpus.numbers, corpus, train)
    known = {**corpus.spelt, **corpus.numbers}
    for name in config.numbers:
        if known[name].missing:
            raise CorpusError(
                f"{known[name].missing} examples of {corpus.name} have no {name}. Leave them out: "
                f"`tonemill open {corpus.name} | tonemill select '{name} != None' | tonemill shard NEW`."
            )
    return replace(config, **numbers)


def request_fields(config: LoopGANConfig) -> Mapping[str, RequestField]:
    """The fields that a render reads."""
    fields = {config.label: RequestField(choices=config.labels)} if config.label else {}
    return {**fields, **number_fields(config)}


def of_batch(config: LoopGANConfig, batch: Batch) -> Float[Tensor, "batch condition"] | None:
    """The conditions of training examples; None where there are none."""
    device = next(iter(batch.audio.values())).device
    parts = []
    if config.label is not None:
        classes = drawn_classes(batch, config.label, config.labels, config.label_dropout)
        parts.append(F.one_hot(classes, len(config.labels) + 1).float())
    for name, low, high in number_ranges(config):
        values = [scaled_number(one, low, high) for one in batch.fields[name]]
        parts.append(torch.tensor(values, device=device)[:, None])
    return torch.cat(parts, dim=1) if parts else None


def of_request(config: LoopGANConfig, request: Request) -> Float[np.ndarray, "condition"] | None:
    """The condition of a request; what it does not state is drawn as training examples have it.

    Raises:
        UsageError: the model was not trained on a value.
    """
    if config.label is None and not config.numbers:
        return None
    # Between two seeds of different classes stands a mixture of these.
    return drawn(
        request, lambda seed: _of_seed(config, request, seed), lambda one, other, share: one + share * (other - one)
    )


def _of_seed(config: LoopGANConfig, request: Request, seed: int) -> Float[np.ndarray, "condition"]:
    draws = np.random.default_rng([seed, 2000])
    parts: list[float] = []
    if config.label is not None:
        chosen = requested_class(request, config.label, config.labels, config.label_dropout, draws)
        parts += F.one_hot(chosen, len(config.labels) + 1).tolist()
    for name, low, high in number_ranges(config):
        value = request.fields.get(name)
        if value is None:
            value = draws.uniform(low, high)
        if not low <= float(value) <= high:
            raise UsageError(f"{name} is {float(value):g}, but this model was trained on {low:g} to {high:g}.")
        parts.append(scaled_number(value, low, high))
    return np.array(parts)
