"""Settings of the loop GAN: its loops, its mel spectrogram, its networks and its training."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Annotated, Any, Final, Literal

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.directions import Bounds
from tonemill.models.exchange import CorpusFacts
from tonemill.models.loopgan.generator import Shape
from tonemill.models.parts.mel import MelConfig, mel_digest, mel_of_parent
from tonemill.models.parts.settings import require_least, settled

RANDOM = "random"
NONE = "none"

LOOPS_PIPE: Final = (
    "`tonemill scan FOLDER | tonemill resample --rate 16000 --channels mono | tonemill loops --bars {bars} "
    "--target-bpm {bpm:g} | tonemill shard CORPUS`"
)
"""Resampled first: a loop that is whole in samples of another rate may be one sample short or long in those of this."""

STAGES = 4
FRAMES = 1 << STAGES
"""A circular layout has a multiple of so many frames."""

PJLOOP_FRAMES = 192
"""Of the published layout, which are the first 1.92 s of loops of 2 s."""


@dataclass(frozen=True)
class LoopGANConfig(MelConfig):
    bars: Annotated[int, "Bars of four beats in a loop."] = 1
    bpm: Annotated[float, "Tempo of the loops: --target-bpm of `tonemill loops`."] = 120.0
    layout: Annotated[Literal["circular", "pjloop"], "Loops that go on where they end, or the published layout."] = (
        "circular"
    )
    latent: Annotated[int, "Numbers of a latent vector."] = 32
    style: Annotated[int, "Numbers of a style."] = 64
    mapping_layers: Annotated[int, "Dense layers from a latent vector to a style."] = 6
    width: Annotated[int, "Channels of the generator's maps; the published have 512."] = 256
    features: Annotated[
        str,
        "What is judged: feature maps of a run of `train classifier --mel-of`, of a random network, or, with none, the "
        "mel itself, by StyleGAN2's own discriminator.",
    ] = RANDOM
    discriminator_width: Annotated[int, "Channels of the maps of StyleGAN2's discriminator."] = 256
    feature_width: Annotated[int, "Channels of the random network's first map; deeper ones have more."] = 64
    vocoder: Annotated[str | None, "A run of a vocoder, whose mel settings are taken; default: Griffin-Lim."] = None
    label: Annotated[str | None, "Field with the class of each loop, as its kit or key; default: no classes."] = None
    labels: Annotated[tuple[str, ...], "The classes; default: all values of the label in the corpus."] = ()
    label_dropout: Annotated[float, "Share of loops trained without their label, to render without one."] = 0.1
    numbers: Annotated[
        tuple[str, ...], "Fields with numbers that loops are made to have, as tempo_bpm_from; default: none."
    ] = ()
    number_low: Annotated[tuple[float, ...], "The least value of each; default: that of the corpus."] = ()
    number_high: Annotated[tuple[float, ...], "The largest value of each; default: that of the corpus."] = ()
    loss: Annotated[
        Literal["hinge", "logistic"] | None, "Of both networks; default: hinge, or logistic with --features none."
    ] = None
    mixing: Annotated[float, "Share of loops that are trained with two styles."] = 0.9
    augment: Annotated[
        Literal["adaptive", "none"], "Change real and generated mels at random, more the surer the discriminator is."
    ] = "adaptive"
    shift: Annotated[bool, "Rotate training loops in time, as a loop may begin anywhere."] = True
    r1_weight: Annotated[float | None, "Of the discriminator's gradients; default: 0, or 10 with --features none."] = (
        None
    )
    path_weight: Annotated[float | None, "Of path lengths; default: 0, or 2 with --features none."] = None
    learning_rate: Annotated[float, "Of both; of Adam."] = 2e-3
    griffin_lim_rounds: Annotated[int, "Of the phase search, without a vocoder."] = 60
    sample_rate: Annotated[int | None, "In hertz; default: the corpus's."] = None
    channels: Annotated[int | None, "One; default: the corpus's."] = None

    def __post_init__(self) -> None:
        super().__post_init__()
        positive = ("bars", "latent", "style", "mapping_layers", "width", "discriminator_width", "feature_width")
        require_least(self, **dict.fromkeys(positive, 1), griffin_lim_rounds=0)
        if not 20 <= self.bpm <= 400:
            raise UsageError(f"--bpm is {self.bpm:g}; it must be from 20 to 400.")
        if not 0 <= self.mixing <= 1:
            raise UsageError(f"--mixing is {self.mixing}; it must be from 0 to 1.")
        if self.mel_bands % FRAMES:
            raise UsageError(f"--mel-bands is {self.mel_bands}; it must be a multiple of {FRAMES}.")
        if not 0 <= self.label_dropout < 1:
            raise UsageError(f"--label-dropout is {self.label_dropout}; it must be from 0 up to, not including, 1.")
        if self.learning_rate <= 0:
            raise UsageError(f"--learning-rate is {self.learning_rate}; it must be above 0.")

    def samples(self, sample_rate: int) -> int:
        """Samples of a loop: whole bars of four beats, to the nearest sample."""
        return round(self.bars * 240 / self.bpm * sample_rate)

    def frames(self, sample_rate: int) -> int:
        """Frames of a loop's mel spectrogram: the multiple of 16 that is nearest to its length in hops."""
        if self.layout == "pjloop":
            return PJLOOP_FRAMES
        return max(1, round(self.samples(sample_rate) / self.hop_length / FRAMES)) * FRAMES

    @property
    def pipe(self) -> str:
        """The commands that make a corpus for it, for messages."""
        return LOOPS_PIPE.format(bars=self.bars, bpm=self.bpm)

    @property
    def condition(self) -> int:
        """Numbers of a condition; 0 where loops are made without."""
        return (len(self.labels) + 1 if self.label else 0) + len(self.numbers)

    def shape(self, sample_rate: int) -> Shape:
        """Sizes of the generator."""
        return Shape(
            self.frames(sample_rate) // FRAMES,
            self.mel_bands // FRAMES,
            STAGES,
            self.width,
            self.latent,
            self.style,
            self.mapping_layers,
            self.layout == "circular",
            self.condition,
        )


def settled_loops(config: LoopGANConfig, corpus: CorpusFacts) -> LoopGANConfig:
    """The config with what the corpus, and the runs that the model leans on, decide.

    Raises:
        CorpusError: the corpus does not fit, or a run has another mel or rate; the message names the mend.
        UsageError: settings do not fit each other.
    """
    config = settled(config, corpus, "loopgan", material="loops", pipe=config.pipe)
    if corpus.channels != 1:
        raise CorpusError(
            f"{corpus.name} holds {corpus.channels} channels, and loopgan makes mono loops. Put `tonemill channels "
            "mean` into the pipe that makes it."
        )
    config = replace(config, **_one_mel(config, corpus))
    config.check_rate(corpus.sample_rate)
    whole = config.samples(corpus.sample_rate) // config.hop_length
    if config.layout == "pjloop" and not PJLOOP_FRAMES <= whole < PJLOOP_FRAMES + FRAMES:
        raise UsageError(
            f"--layout pjloop is for loops of {PJLOOP_FRAMES} to {PJLOOP_FRAMES + FRAMES - 1} frames, such as 2 s "
            f"at 16000 Hz with --hop-length 160, and these loops have {whole}. Leave --layout out: the default "
            "layout takes any length."
        )
    plain = config.features == NONE
    return replace(
        config,
        loss=config.loss or ("logistic" if plain else "hinge"),
        r1_weight=(10.0 if plain else 0.0) if config.r1_weight is None else config.r1_weight,
        path_weight=(2.0 if plain else 0.0) if config.path_weight is None else config.path_weight,
    )


def _one_mel(config: LoopGANConfig, corpus: CorpusFacts) -> dict[str, Any]:
    """The mel settings of the vocoder and of the features, which must be one mel, and not another than what was set."""
    found = {name: mel_of_parent(corpus, name) for name in ("vocoder", "features") if name in corpus.parents}
    digests = {name: mel_digest(mel, corpus.sample_rate) for name, mel in found.items()}
    if len(set(digests.values())) > 1:
        one, other = found.values()
        differing = ", ".join(f"{name} {one[name]} and {other[name]}" for name in one if one[name] != other[name])
        raise CorpusError(
            "--vocoder and --features must read the same mel spectrogram, and theirs differ (digests "
            f"{' and '.join(digests.values())}): {differing}. Train the classifier of --features on the vocoder's "
            f"mel: `tonemill train classifier {corpus.name} --mel-of {config.vocoder} -o runs/ears --steps 1000`."
        )
    taken = next(iter(found.values()), {})
    for name, value in taken.items():
        mine, usual = getattr(config, name), getattr(LoopGANConfig, name)
        if mine not in (usual, value):
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} is {mine}, and that of --{next(iter(found))} is {value}. Leave --{flag} out.")
    return taken


@dataclass(frozen=True)
class LoopOptions:
    truncation: Annotated[
        float, "How far styles are from their mean: 1 as trained, less for fewer surprises, 0 for none.", Bounds(0, 2)
    ] = 1.0
