"""Refuse settings below their bounds, and corpora that a model cannot learn from, in words that name the flag."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.exchange import CorpusFacts

CLIPS_PIPE: Final = "`tonemill scan FOLDER | tonemill slice --seconds 1 | tonemill shard CORPUS`"


def require_least(settings: object, **least: int) -> None:
    """Hold settings against the least that each may be; one that is None is left to its default.

    Raises:
        UsageError: names the flag and the bound.
    """
    for name, bound in least.items():
        value = getattr(settings, name)
        if value is not None and value < bound:
            raise UsageError(f"--{name.replace('_', '-')} is {value}; it must be at least {bound}.")


def settled(
    config: Any,
    corpus: CorpusFacts,
    model: str,
    *,
    roles: tuple[str, ...] = ("audio",),
    material: str = "single clips",
    pipe: str = CLIPS_PIPE,
    **decided: Any,
) -> Any:
    """The config with the rate and the channels of the corpus, and with what the model decided itself.

    Args:
        config: a frozen dataclass with `sample_rate` and `channels`, each None where the corpus decides.
        corpus: to train on.
        model: its name, for messages.
        roles: waveforms that each example must have.
        material: what these are, for messages.
        pipe: how a corpus of them is made, for messages.
        decided: further fields, by name.

    Raises:
        CorpusError: roles, rate or channels do not fit; the message names the mend.
    """
    if not set(roles) <= set(corpus.roles):
        raise CorpusError(
            f"{corpus.name} holds {corpus.holds}, but {model} learns from {material}. Make a corpus of them: {pipe}."
        )
    rate, channels = config.sample_rate, config.channels
    if rate not in (None, corpus.sample_rate):
        raise CorpusError(
            f"{corpus.name} holds {corpus.sample_rate} Hz audio, but --sample-rate is {rate} Hz. Leave --sample-rate "
            f"out, or put `tonemill resample --rate {rate}` into the pipe that makes the corpus."
        )
    if channels not in (None, corpus.channels):
        raise CorpusError(
            f"{corpus.name} holds audio with {corpus.channels} channel(s), but --channels is {channels}. "
            f"Leave --channels out: `tonemill train {model} {corpus.name} -o RUN --minutes 60`."
        )
    return replace(config, sample_rate=corpus.sample_rate, channels=corpus.channels, **decided)
