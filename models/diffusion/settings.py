"""Settings of diffusion: of the network and its training."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import accumulate
from typing import Annotated, Final, Literal, NamedTuple

from tonemill.audiotools.errors import CorpusError, UsageError
from tonemill.models.diffusion.attention import Positions
from tonemill.models.diffusion.noising import Draws, Objective
from tonemill.models.diffusion.unet import Shape
from tonemill.models.exchange import CorpusFacts
from tonemill.models.parts.codec import latents_of, settled_frames
from tonemill.models.parts.mel import MelConfig
from tonemill.models.parts.settings import require_least


class CodeArray(NamedTuple):
    """The array that a sound is made of, where there is one.

    Args:
        name: of the array.
        about: what it holds, in words.
        hop: samples for a frame.
        rows: numbers of a frame.
    """

    name: str
    about: str
    hop: int
    rows: int


Task = Literal["plain", "upsample", "vocode", "autoencode", "latent"]
PAUSES: Final[dict[Task, int]] = {"plain": 6, "upsample": 6}
"""Octaves in which pauses are read and weighed, by task. Sounds of other tasks are given their levels."""

LATENTS: Final = "latents"
CODEC: Final = "codec"
TASK_HELP: Final = (
    "What the model makes: sound; the upper bands of a sound; sound from mel spectrograms or from latents; or latents."
)


@dataclass(frozen=True)
class DiffusionConfig:
    task: Annotated[Task, TASK_HELP] = "plain"
    length: Annotated[int, "Samples of a training clip; shorter ones are followed by silence."] = 65536
    channels_per_level: Annotated[tuple[int, ...], "Channels of each level, outermost first."] = (
        *(16, 32, 64, 128),
        *(256, 256, 256),
    )
    factors: Annotated[tuple[int, ...], "By which each level lowers the rate."] = (1, 4, 4, 4, 2, 2, 2)
    items: Annotated[tuple[int, ...], "Residual blocks of each level, on each way."] = (1, 2, 2, 2, 2, 2, 2)
    attentions: Annotated[tuple[int, ...], "Attentions after each block of a level."] = (0, 0, 0, 0, 1, 1, 1)
    heads: Annotated[int, "Of an attention."] = 4
    head_dim: Annotated[int, "Channels of each head; even."] = 32
    modulation_dim: Annotated[int, "Size of the features of noise level and class."] = 256
    positions: Annotated[Positions, "What attention sees of the order in time."] = "rotary"
    zero_init: Annotated[bool, "Begin with a network that gives zeros."] = True
    objective: Annotated[Objective, "What is predicted: v, or the velocity of a straight flow."] = "v"
    levels: Annotated[Draws, "How noise levels of training are drawn."] = "stratified"
    scale: Annotated[bool, "Divide by the corpus's level, so that clips have unit variance."] = True
    precondition: Annotated[bool, "Add the network to the exact answer for Gaussian sound of the same spectrum."] = True
    pause_octaves: Annotated[
        int | None,
        "Octaves in which pauses are read and weighed; default: 6 for plain and upsample.",
    ] = None
    label: Annotated[str | None, "Metadata field with the class of each clip; default: no classes."] = None
    labels: Annotated[tuple[str, ...], "The classes; default: all values of the label in the corpus."] = ()
    numbers: Annotated[tuple[str, ...], "Metadata fields with numbers of each clip, as a drive; default: none."] = ()
    number_low: Annotated[tuple[float, ...], "The least value of each; default: that of the corpus."] = ()
    number_high: Annotated[tuple[float, ...], "The largest value of each; default: that of the corpus."] = ()
    embedding: Annotated[
        str | None, "Array beside each clip to learn from, as an embedding of its words; default: none."
    ] = None
    embedding_rows: Annotated[int | None, "Numbers in a frame of --embedding; default: those of the corpus."] = None
    embedding_hop: Annotated[int | None, "Samples of sound per frame of --embedding; default: those of the corpus."] = (
        None
    )
    caption: Annotated[
        str | None, "Metadata field with words on each clip, which an encoder learns to read; default: none."
    ] = None
    caption_bytes: Annotated[int, "Bytes of a caption that are read."] = 64
    caption_blocks: Annotated[int, "Transformer blocks of the encoder of captions."] = 4
    cross_attentions: Annotated[
        tuple[int, ...], "To caption or embedding after each block of a level; default: as many as --attentions."
    ] = ()
    condition_dropout: Annotated[float, "Share of clips trained without label, numbers or words, for --guidance."] = 0.1
    learning_rate: Annotated[float, "Of AdamW."] = 1e-3
    weight_decay: Annotated[float, "Of AdamW."] = 1e-3
    warm_up: Annotated[int, "Steps in which the learning rate rises to its value."] = 50
    validate_clips: Annotated[int, "Held-out clips whose loss is measured at five noise levels; 0: all."] = 32
    sample_rate: Annotated[int | None, "In hertz; default: the corpus's."] = None
    channels: Annotated[int | None, "Of the audio; default: the corpus's."] = None

    def __post_init__(self) -> None:
        require_least(self, heads=1, head_dim=2, modulation_dim=1, warm_up=0, validate_clips=0)
        require_least(self, caption_bytes=1, caption_blocks=1, pause_octaves=0)
        levels = len(self.channels_per_level)
        for name in ("channels_per_level", "factors", "items", "attentions", "cross_attentions"):
            values, least = getattr(self, name), 0 if "attentions" in name else 1
            if name == "cross_attentions" and not values:
                continue
            flag = f"--{name.replace('_', '-')}"
            if not levels or len(values) != levels:
                raise UsageError(
                    f"{flag} has {len(values)} value(s), but there are {levels} --channels-per-level; give as many."
                )
            if min(values) < least:
                raise UsageError(f"{flag} is {' '.join(map(str, values))}; each must be at least {least}.")
        if self.head_dim % 2:
            raise UsageError(f"--head-dim is {self.head_dim}; it must be even, as 32.")
        ratio = math.prod(self.factors)
        if self.length < ratio and self.task != "latent":
            raise UsageError(
                f"--length is {self.length}; it must be at least the product of --factors, which is {ratio}."
            )
        if not self.learning_rate > 0:
            raise UsageError(f"--learning-rate is {self.learning_rate}; it must be above 0, as 0.0001.")
        if not self.weight_decay >= 0:
            raise UsageError(f"--weight-decay is {self.weight_decay}; it must be at least 0.")
        if not 0 <= self.condition_dropout < 1:
            raise UsageError(
                f"--condition-dropout is {self.condition_dropout}; it must be from 0 up to, not including, 1."
            )
        if self.labels and self.label is None:
            raise UsageError(
                f"--labels is {', '.join(self.labels)}, but --label is not given: it names the field that holds them."
            )
        reads_tokens = self.caption is not None or self.embedding is not None
        if self.cross_attentions and not reads_tokens:
            raise UsageError(
                "--cross-attentions needs a caption or an array that it attends to: give --caption FIELD or "
                "--embedding ARRAY."
            )
        if self.pause_octaves and not self.may_pause:
            raise UsageError(
                f"--pause-octaves is {self.pause_octaves}, which works with --task {' or '.join(PAUSES)}, "
                "--precondition and --zero-init only. Leave it out."
            )
        if self.embedding is not None and self.task != "plain":
            raise UsageError(
                f"--embedding is {self.embedding}, which works with --task plain only. Leave one of them out."
            )

    @property
    def may_pause(self) -> bool:
        """Whether pauses can be read and weighed: the weights must begin at 0, beside an answer that is known."""
        return self.task in PAUSES and self.precondition and self.zero_init

    @property
    def usual_octaves(self) -> int:
        """`pause_octaves` where none are given."""
        return PAUSES[self.task] if self.may_pause else 0

    @property
    def array(self) -> CodeArray | None:
        """What `encode` gives and `decode` needs; None where there are no such directions."""
        return None

    @property
    def states_levels(self) -> bool:
        """Whether what is given states the level of each cell of time and frequency, where sampling can begin."""
        return False

    def shape(self, channels: int, appended: int, injected: tuple[int, ...]) -> Shape:
        """Sizes of the U-Net.

        Args:
            channels: of the clips that it makes.
            appended: channels of a condition that it reads beside them.
            injected: channels of one that the items of each level read.
        """
        reads_tokens = self.caption is not None or self.embedding is not None
        return Shape(
            in_channels=channels + appended,
            out_channels=channels,
            channels=self.channels_per_level,
            factors=self.factors,
            items=self.items,
            attentions=self.attentions,
            heads=self.heads,
            head_dim=self.head_dim,
            modulation_dim=self.modulation_dim,
            positions=self.positions,
            injected=injected,
            cross_attentions=(self.cross_attentions or self.attentions) if reads_tokens else (),
            token_dim=self.modulation_dim if reads_tokens else 0,
            zero_init=self.zero_init,
        )


@dataclass(frozen=True)
class UpsampleConfig(DiffusionConfig):
    task: Annotated[Task, TASK_HELP] = "upsample"
    factor: Annotated[int, "The corpus's sample rate over that of the sounds that lack upper bands."] = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        require_least(self, factor=2)


@dataclass(frozen=True)
class VocodeConfig(MelConfig, DiffusionConfig):
    task: Annotated[Task, TASK_HELP] = "vocode"

    def __post_init__(self) -> None:
        MelConfig.__post_init__(self)
        DiffusionConfig.__post_init__(self)

    @property
    def array(self) -> CodeArray:
        return CodeArray("mel", "the log-mel spectrogram", self.hop_length, self.mel_bands * (self.channels or 1))

    @property
    def states_levels(self) -> bool:
        return self.precondition


@dataclass(frozen=True)
class AutoencodeConfig(DiffusionConfig):
    task: Annotated[Task, TASK_HELP] = "autoencode"
    latent_dim: Annotated[int, "Numbers of a frame of latents."] = 32
    level_bands: Annotated[
        int | None, "Of these, levels of so many mel bands; the encoder learns the others; default: half."
    ] = None
    compression: Annotated[int, "Samples for a frame of latents; a product of the first --factors."] = 512
    encoder_dim: Annotated[int, "Channels of the encoder at the sample rate; deeper stages have up to 8 times it."] = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        require_least(self, latent_dim=1, encoder_dim=1)
        if not 0 <= self.stated_bands < self.latent_dim:
            raise UsageError(
                f"--level-bands is {self.level_bands}; it must be at least 0 and below --latent-dim, which is "
                f"{self.latent_dim}."
            )
        ratios = list(accumulate(self.factors, lambda one, other: one * other))
        if self.compression not in ratios:
            raise UsageError(
                f"--compression is {self.compression}; it must be a product of the first --factors: "
                f"{', '.join(map(str, dict.fromkeys(ratios)))}."
            )

    @property
    def array(self) -> CodeArray:
        return CodeArray(LATENTS, "latents", self.compression, self.latent_dim)

    @property
    def states_levels(self) -> bool:
        return self.precondition and self.stated_bands > 0

    @property
    def stated_bands(self) -> int:
        """Rows of a code that are levels of bands; none where a run was made before there were any."""
        return self.level_bands or 0


@dataclass(frozen=True)
class LatentConfig(DiffusionConfig):
    task: Annotated[Task, TASK_HELP] = "latent"
    length: Annotated[int, "Samples of audio that a training example's latents are of."] = 262144
    channels_per_level: Annotated[tuple[int, ...], "Channels of each level, outermost first."] = (128, 256, 256, 256)
    factors: Annotated[tuple[int, ...], "By which each level lowers the rate of frames."] = (1, 2, 2, 2)
    items: Annotated[tuple[int, ...], "Residual blocks of each level, on each way."] = (1, 2, 2, 2)
    attentions: Annotated[tuple[int, ...], "Attentions after each block of a level."] = (0, 1, 1, 1)
    codec: Annotated[str | None, "Run that encoded the latents and makes audio of them; default: latents come out."] = (
        None
    )
    code: Annotated[str, "Array that is learned; the codec decides."] = LATENTS
    hop: Annotated[int | None, "Samples for a frame; default: the corpus's."] = None
    rows: Annotated[int | None, "Numbers of a frame; default: the corpus's."] = None

    @property
    def array(self) -> CodeArray:
        return CodeArray(self.code, "latents", self.hop or 1, self.rows or 1)

    def settled_for(self, corpus: CorpusFacts) -> LatentConfig:
        """With hop and rows of a corpus of latents.

        Raises:
            CorpusError: it has none, or they are no frames in time, or longer than an example, or of another codec.
        """
        name, channels = self.code, 0
        if self.codec is not None:
            name, channels = latents_of(corpus, CODEC, self.codec).name, corpus.parents[CODEC].channels
        ours = settled_frames(self, corpus, name, "--task latent")
        if self.length < ours["hop"]:
            raise CorpusError(
                f"--length is {self.length}, but the array of {corpus.name} has frames of {ours['hop']} samples, "
                f"so a clip would be shorter than one frame. Set --length to {ours['hop']} or more."
            )
        return replace(self, code=name, channels=channels, **ours)


VARIANTS: dict[str, type[DiffusionConfig]] = {
    "plain": DiffusionConfig,
    "upsample": UpsampleConfig,
    "vocode": VocodeConfig,
    "autoencode": AutoencodeConfig,
    "latent": LatentConfig,
}
