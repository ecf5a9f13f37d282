"""Numbers from metadata fields that models are made for: their ranges in a corpus, each brought to -1 to 1."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from tonemill.audiotools.errors import CorpusError
from tonemill.models.directions import RequestField
from tonemill.models.exchange import CorpusFacts, Range

Number = int | float  # to beartype, an int is no float


@runtime_checkable
class NumberSettings(Protocol):
    """Settings with numbers; the ranges are those of the corpus, once settled."""

    @property
    def numbers(self) -> tuple[str, ...]: ...
    @property
    def number_low(self) -> tuple[float, ...]: ...
    @property
    def number_high(self) -> tuple[float, ...]: ...


def settled_numbers(
    names: Sequence[str], known: Mapping[str, Range], corpus: CorpusFacts, train: str
) -> dict[str, Any]:
    """The settings `number_low` and `number_high` of fields, each a tuple of floats; text of a number counts as one.

    Args:
        names: of the fields.
        known: the numbers of a corpus from which they may be.
        corpus: whose fields they are.
        train: the command that trains without numbers, for messages.

    Raises:
        CorpusError: a field is missing, is text, or is the same throughout; the message names the mend.
    """
    known = {**corpus.spelt, **known}
    for name in names:
        if name in corpus.texts and name not in known:
            raise CorpusError(
                f"{name!r} counts as text in {corpus.name}, because some of its values are no finite numbers. "
                "Correct the table, and update the corpus from it: `tonemill scan FOLDER --table TABLE | ... | "
                f"tonemill shard {corpus.name} --update`."
            )
        if name not in known:
            there = f"it has {', '.join(known)}" if known else "it has none"
            raise CorpusError(
                f"{corpus.name} has no number {name!r} to learn from; {there}. Train without it: `{train}`."
            )
        if known[name].low == known[name].high:
            raise CorpusError(
                f"{name!r} is {known[name].low:g} in every example of {corpus.name}, so its effect cannot be "
                f"learned. Train without it: `{train}`."
            )
    return {
        "number_low": tuple(float(known[name].low) for name in names),
        "number_high": tuple(float(known[name].high) for name in names),
    }


def number_ranges(config: NumberSettings) -> Iterator[tuple[str, float, float]]:
    """Name, least and largest value of each number of settled settings."""
    return zip(config.numbers, config.number_low, config.number_high, strict=True)


def number_fields(config: NumberSettings, required: bool = False) -> dict[str, RequestField]:
    """The fields with numbers that a request may hold."""
    return {name: RequestField(low, high, required=required) for name, low, high in number_ranges(config)}


def scaled_number(value: Number | str, low: Number, high: Number) -> float:
    """A number, or the text of one, on the scale on which the least is -1 and the largest 1."""
    return 2 * (float(value) - low) / (high - low) - 1
