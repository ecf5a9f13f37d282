"""Every reason a source or clip may be rejected for, what it means, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final, NamedTuple


class Reason(NamedTuple):
    """A reason.

    Args:
        meaning: for a person, as the end of "rejected, for ...".
        mend: what to do about it; commands stand in backquotes.
        passes: it is of the moment and not of the bytes, so the next run tries such sources again.
        by_step: what to do about a reject of a certain step, where `mend` is about several.
    """

    meaning: str
    mend: str
    passes: bool = False
    by_step: Mapping[str, str] = MappingProxyType({})

    def mend_of(self, step: str | None) -> str:
        """What to do about a reject of a step; None where steps differ."""
        return self.by_step.get(step or "", self.mend)


TABLE: Final[dict[str, Reason]] = {
    "missing": Reason(
        "the file is not there any more",
        "Put it back and give the same command with `--retry missing`, or scan again and give `--update`.",
    ),
    "forbidden": Reason(
        "the file may not be read",
        "Give yourself the right to read it (`chmod u+r`, or the store's policy), then the same command with "
        "`--retry forbidden`.",
    ),
    "changed": Reason(
        "the file is not the one that was scanned",
        "Scan again and pipe the new stream into `tonemill shard CORPUS --update`.",
    ),
    "empty": Reason("the file holds no bytes", "Copy or download it again; an interrupted copy leaves such files."),
    "no_frames": Reason("the file holds a header and no sound", "No sound is in it: record or export it again."),
    "unreadable": Reason(
        "the file is not audio, or its header is damaged",
        "`tonemill inspect FILE` shows what was found in it. Copy it again, or leave it out.",
    ),
    "unsupported": Reason(
        "no codec here reads this kind of audio",
        "The message names what is missing. `tonemill doctor` shows whether FFmpeg is installed, which reads most "
        "kinds; else convert the file to WAV or FLAC.",
    ),
    "truncated": Reason(
        "the file ends before the length that its header states",
        "Copy it again; `tonemill scan FOLDER --truncated keep` uses the part of such files that is there.",
    ),
    "damaged": Reason(
        "decoding failed part of the way through",
        "Copy it again. `tonemill inspect FILE` shows how far it can be decoded; cut it there with another program.",
    ),
    "not_finite": Reason(
        "the samples hold NaN or infinite values",
        "The program that wrote it put them there: export it again, or leave it out.",
    ),
    "too_short": Reason(
        "there is less sound than the command needs",
        "`tonemill slice --seconds 1 --short pad` (or keep) takes sources shorter than a clip; of `filter`, `trim` and "
        "`align`, --min-seconds is the limit, of `loops` --bars, of `within` --start-seconds.",
        by_step={
            "slice": "`tonemill slice --seconds 1 --short pad` (or keep) takes sources shorter than a clip; with "
            "--at silence, lower --min-seconds.",
            "loops": "Ask for fewer bars (`tonemill loops --bars 1`), or state the tempo (`tonemill loops --bpm 120`).",
            "filter": "Lower --min-seconds of `filter`, or leave it out.",
            "trim": "Lower --min-seconds of `trim`, or its --threshold-db.",
            "align": "Lower --min-seconds of `align`.",
            "within": "Lower --start-seconds of `within`.",
        },
    ),
    "too_long": Reason(
        "there is more sound than the command allows",
        "Of `filter`, --max-seconds is the limit; what is too long for memory is cut by `tonemill slice --seconds 10` "
        "before the step that needs all of it.",
    ),
    "too_quiet": Reason(
        "its level is below the lower limit",
        "The limits of `tonemill filter` leave it out: lower them, or put `tonemill normalize --peak-db -1` before it.",
    ),
    "too_loud": Reason(
        "its level is above the upper limit",
        "The limits of `tonemill filter` leave it out: raise them, or put `tonemill normalize --peak-db -1` before it.",
    ),
    "silent": Reason(
        "it holds more silence than the command allows, or nothing else",
        "Raise --max-silence of `filter`, or lower --threshold-db of `trim` or --silence-db of `slice`, if it is "
        "not silence but quiet; leave --on-silence drop of `normalize` out.",
        by_step={
            "filter": "Raise --max-silence of `filter`, or lower its --silence-db, if it is not silence but quiet.",
            "trim": "Lower --threshold-db of `trim`, if it is not silence but quiet.",
            "slice": "Lower --silence-db of `slice`, if it is not silence but quiet.",
            "normalize": "Leave --on-silence drop out, and `normalize` keeps silence as it is.",
            "align": "Record it again, or leave it out.",
        },
    ),
    "clipping": Reason(
        "it is clipped in the file, or a gain would clip it",
        "Record it again at a lower level, or raise --max-clipping; of `normalize`, leave --on-clip reject out, and "
        "the gain is lowered instead.",
    ),
    "dc_offset": Reason(
        "its mean is further from zero than the command allows",
        "`tonemill dc` before `filter` takes the offset away.",
    ),
    "tempo": Reason(
        "its tempo is not certain enough, or no bars were found",
        "State it: `tonemill loops --bpm 120`, or a field of a table with --bpm-field; or lower --min-confidence.",
    ),
    "stretch": Reason(
        "its tempo would have to change by more than --max-stretch allows",
        "Raise --max-stretch of `loops`, or choose a --target-bpm that is nearer.",
    ),
    "seam": Reason(
        "the jump from its end to its start is audible, so it makes no loop",
        "Lower --min-loopability of `loops`, or leave such clips out.",
    ),
    "flat": Reason(
        "it has no beats, so whether it makes a loop cannot be measured",
        "Drones and pads have none: leave --min-loopability out to keep them.",
    ),
    "condition": Reason(
        "its fields do not meet the condition",
        "The message shows the values; `tonemill filter --where` holds the condition, or `render` needs a field.",
        by_step={
            "filter": "The message shows the values, and --where of `filter` has the condition.",
            "render": "Give the field to all of them, as the message shows, or scan sources that have it.",
        },
    ),
    "duplicate": Reason(
        "a copy of it is kept instead",
        "Nothing: the message names the copy. Leave `tonemill dedup` out to keep all of them.",
    ),
    "roles": Reason(
        "its sounds (dry and wet, say) are not those that the step takes, or differ in length or sample rate",
        "The message names the step that mends it: `tonemill align`, `tonemill resample --rate 44100` or "
        "`tonemill channels mean`, before the step that refused.",
    ),
    "unrelated": Reason(
        "at no delay does the wet follow the dry: they are no recording of the same playing",
        "Look at the two with `tonemill preview`: are they of the same playing? If so, raise --max-latency-ms of "
        "`align` if the wet comes later than 0.2 s.",
    ),
    "drift": Reason(
        "the clocks of wet and dry differ",
        "`tonemill align --correct latency,polarity,drift` resamples the wet to the clock of the dry.",
    ),
    "replicate": Reason(
        "where the dry repeats itself, the wet differs",
        "Noise, a knob that was moved, or an effect with a clock of its own: record again, or raise "
        "--max-replicate-esr of `align`.",
    ),
    "mixed": Reason(
        "its sample rate or channels differ from the rest of the corpus",
        "Put `tonemill resample --rate 44100 --channels mono` into the pipe.",
    ),
    "step_failed": Reason(
        "a step failed in an unexpected way", "This is a fault of the step: please report the message."
    ),
    "crashed": Reason(
        "its decoder crashed, or every process that read it",
        "The file is damaged in a way that crashes its decoder: convert it with another program, or leave it out.",
    ),
    "hung": Reason(
        "its decoder gave no sound for too long (--decode-seconds)",
        "The same command tries again; `--decode-seconds 300` waits longer.",
        passes=True,
    ),
    "memory": Reason(
        "its decoder needed more memory than a decoder may use, or was killed",
        "Most such files are damaged: convert it with another program, or leave it out.",
    ),
    "killed": Reason(
        "the processes that read it were killed",
        "Probably the machine ran out of memory: the same command with fewer --workers tries again.",
        passes=True,
    ),
    "network": Reason(
        "the storage did not answer", "The same command tries again, once the storage answers.", passes=True
    ),
    "identity": Reason(
        "the store did not accept the credentials",
        "Renew the credentials that the store's own program uses; `tonemill doctor s3://bucket/folder` tries "
        "them. Then the same command.",
        passes=True,
    ),
    "unreachable": Reason(
        "neither it nor any file beside it could be read",
        "Mount the disk or mend the connection, then the same command; if `scan` rejected it, scan again.",
        passes=True,
    ),
    "no_decoder": Reason(
        "the package that decodes it is not installed",
        "`pip install 'tonemill[ffmpeg]'`, then the same command.",
        passes=True,
    ),
}
"""The one table of them: messages, `tonemill explain` and docs/rejects.md are made of it."""

REASONS: Final[dict[str, str]] = {name: reason.meaning for name, reason in TABLE.items()}
"""Every reason a source or clip may be rejected for, and what it means."""

TRANSIENT: Final = frozenset(name for name, reason in TABLE.items() if reason.passes)
"""Reasons of the moment, not of the bytes: the next run tries those sources again."""


def page() -> str:
    """The table as docs/rejects.md has it."""
    rows = (f"| `{name}` | {one.meaning}{'; temporary' * one.passes} | {one.mend} |" for name, one in TABLE.items())
    return "\n".join(["| reason | what it means | what to do |", "| --- | --- | --- |", *rows])
