"""What stands before the first step of a new run: weights of another run, statistics of the corpus, first weights."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterator, Mapping

import torch
from torch import Tensor

from tonemill.audiotools.errors import RunError, UsageError
from tonemill.models.contract import Batch, Model, Request
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.runs.checkpoint_folder import WEIGHTS
from tonemill.pipelines.runs.checkpoints import AVERAGE, read_tensors, refuse_saved_not_finite
from tonemill.pipelines.runs.files import FileRun
from tonemill.pipelines.runs.run import PERMUTED, STREAMED, Run, TrainConfig
from tonemill.pipelines.storage.paths import as_store
from tonemill.pipelines.training.loader import Batches, examples_of
from tonemill.pipelines.training.shard_cache import cache_of


def order_for(corpus: Corpus) -> str:
    """The order in which a new run reads a corpus."""
    return PERMUTED if as_store(corpus.folder) is None else STREAMED


def batches_for(
    model: Model,
    corpus: Corpus,
    settings: TrainConfig,
    first: int = 0,
    rank: int = 0,
    ranks: int = 1,
    order: str = PERMUTED,
) -> Batches:
    """The training batches of a model from a number on, in the order of a name; of each the rows of a rank.

    Raises:
        CorpusError: the corpus has none for it.
    """
    return Batches(
        corpus,
        settings.split,
        model.roles,
        model.length,
        settings.batch_size,
        settings.seed,
        first=first,
        rank=rank,
        ranks=ranks,
        pad=model.pads_short,
        arrays=model.arrays,
        most=settings.overfit,
        augmentation=model.augmentation,
        tars=cache_of(corpus, settings),
        streamed=order == STREAMED,
    )


def examples_for(model: Model, corpus: Corpus, settings: TrainConfig) -> Iterator[Request]:
    """All training examples of a model, whole."""
    tars = cache_of(corpus, settings)
    return examples_of(corpus, settings.split, model.roles, model.arrays, settings.overfit, tars)


def begin(
    model: Model,
    corpus: Corpus,
    settings: TrainConfig,
    device: torch.device,
    source: Run | None,
    order: str = PERMUTED,
) -> str | None:
    """Bring a new model, on its device, to where its first step begins.

    Args:
        model: as its seed made it.
        corpus: that it is fitted to.
        settings: of the run.
        device: of the model.
        source: a run whose weights are taken where names and shapes agree; its averages, where it has some. The rest
            is fitted.
        order: of the examples, as `batches_for` takes it.

    Returns:
        what was taken and what was not, in words; None without a source.

    Raises:
        CorpusError: nothing good would come of training on the corpus.
        RunError: no weight of the source agrees, or its checkpoint is damaged.
    """
    # First, since the message of a model names the mend for examples of another length.
    model.check_examples(examples_for(model, corpus, settings))
    dataset = batches_for(model, corpus, settings, order=order)
    taken = {} if source is None else _weights_of(source, model)
    fitted: set[str] = set()
    if len(taken) < len(model.state_dict()):
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        model.fit(batch.to(device) for batch in epoch_of(dataset, settings.batch_size))
        model.fit_examples(examples_for(model, corpus, settings))
        fitted = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
        # Numbers that are fitted to the corpus together belong together: half of them taken would fit neither corpus.
        parts = {_part(name) for name in fitted - taken.keys()}
        fitted = {name for name in fitted if _part(name) in parts}
        taken = {name: tensor for name, tensor in taken.items() if name not in fitted}
    if taken:
        model.load_state_dict({**model.state_dict(), **taken})
    return None if source is None else _in_words(model, taken, fitted, source)


def refuse_small_batches(model: type[Model], name: str, settings: TrainConfig, processes: int = 1) -> None:
    """Refuse a batch that a model cannot learn from, or that is not so many equal parts.

    Raises:
        UsageError: it, or each of its parts, has too few examples; or parts would be unequal.
    """
    size, parts = settings.batch_size // processes, settings.accumulate
    if size % parts:
        raise UsageError(
            f"--batch-size is {size}, which cannot be divided into {parts} equal parts, as --accumulate needs."
        )
    if size // parts < model.least_batch:
        each = f" and --accumulate {parts}" if parts > 1 else ""
        shared = f" for {processes} processes" if processes > 1 else ""
        raise UsageError(
            f"--batch-size is {settings.batch_size}{shared}{each}, but {name} compares the examples of "
            f"a batch with each other and needs {model.least_batch} or more at once."
        )


def _weights_of(run: Run, model: Model) -> dict[str, Tensor]:
    """What a run's last checkpoint has for a model, by name.

    Raises:
        RunError: nothing agrees, or the checkpoint is damaged.
    """
    if isinstance(run, FileRun):
        return _weights_in(run, model)
    checkpoint = run.checkpoint()
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    stored, taken = read_tensors(checkpoint, WEIGHTS), {}
    for name, own in model.state_dict().items():
        # Buffers are not averaged.
        chosen = AVERAGE + name if name in parameters and AVERAGE + name in stored else name
        if chosen in stored and stored[chosen].shape == own.shape:
            taken[name] = stored[chosen]
    refuse_saved_not_finite(checkpoint, taken)
    if not taken:
        raise RunError(
            f"--init-from {run.folder}: none of its weights ({run.model}) has the name and shape of a weight of "
            "this model. Give a run of the same model."
        )
    return taken


def _weights_in(run: FileRun, model: Model) -> dict[str, Tensor]:
    """All weights of a model in another program's file.

    Raises:
        RunError: it is of another shape than the model: a part of a network is of no use.
    """
    source, own = run.model_in(), model.state_dict()
    found = source.state_dict()
    if {name: tensor.shape for name, tensor in found.items()} != {name: tensor.shape for name, tensor in own.items()}:
        flags = "; ".join(f"{name}: {words}" for name, words in source.about().items())
        raise RunError(
            f"--init-from {run.folder}: its network has another structure than these settings give. {flags}."
        )
    return found


def _in_words(model: Model, taken: Mapping[str, Tensor], fitted: Collection[str], source: Run) -> str:
    every, some = (Counter(map(_part, names)) for names in (model.state_dict(), taken))
    shares = ", ".join(f"{part} ({some[part]} of {count} tensors)" for part, count in every.items() if some[part])
    missing = [part for part in every if not some[part]]
    text = f"Took from {source.checkpoint().folder}: {shares}."
    if missing:
        text += f" Not taken: {', '.join(missing)}."
    if fitted:
        text += f" Fitted to the corpus: {', '.join(sorted(fitted))}."
    return text


def _part(name: str) -> str:
    return name.partition(".")[0]


def epoch_of(dataset: Batches, batch_size: int) -> Iterator[Batch]:
    """Batches that hold each example once, and the first ones again where the last batch is not full."""
    try:
        for number in range(math.ceil(dataset.examples / batch_size)):
            yield dataset.batch(number)
    finally:
        dataset.close()
