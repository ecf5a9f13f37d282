"""The errors a person can meet; each message says the value, what was expected and how to mend it.

TonemillError             anything a person can mend
├── UsageError            a flag, a parameter or an expression is wrong (exit code 2)
├── StreamError           a stream of recipes is broken or was cut
├── AudioError            one source or clip cannot be used: a row of the rejects, never a stop
│   └── Filtered          it could be used, but a step was asked to leave it out
├── OutputError           an output folder is taken, full, or made by another plan
├── CorpusError           a corpus is missing, unfinished, damaged, or does not fit
└── RunError              a run is missing, made with other settings, or damaged
"""

from __future__ import annotations

from typing import Any, Final

from tonemill.audiotools.secrets import without_secrets

REASONS: Final[dict[str, str]] = {
    "missing": "the file is not there any more",
    "forbidden": "the file may not be read",
    "changed": "the file is not the one that was scanned",
    "empty": "the file holds no bytes",
    "no_frames": "the file holds a header and no sound",
    "unreadable": "the file is not audio, or its header is damaged",
    "unsupported": "no codec here reads this kind of audio",
    "truncated": "the file ends before the sound that its header announces",
    "damaged": "decoding failed part of the way through",
    "not_finite": "the samples hold NaN or infinite values",
    "too_short": "there is less sound than was asked for",
    "too_long": "there is more sound than was asked for",
    "too_quiet": "its level lies under what was asked for",
    "too_loud": "its level lies above what was asked for",
    "silent": "it holds more silence than was asked for, or nothing else",
    "clipping": "it was clipped before it came here, or a gain would clip it",
    "dc_offset": "its mean lies further from zero than was asked for",
    "tempo": "its tempo is not certain enough, or no bars were found",
    "stretch": "it would have to be stretched further than is allowed",
    "seam": "its end does not lead into its start",
    "condition": "its fields do not fit the condition",
    "duplicate": "a copy of it is kept instead",
    "roles": "the roles do not fit the step, or differ in length or rate",
    "unrelated": "no delay makes wet follow dry: they are not a pair",
    "drift": "the clocks of wet and dry differ",
    "replicate": "where the dry repeats itself the wet does not",
    "mixed": "the rate or channels differ from the rest of the corpus",
    "step_failed": "a step failed in a way nobody foresaw",
    "crashed": "its decoder crashed, or every worker that took it on",
    "hung": "its decoder gave no sound for longer than it may",
    "memory": "the machine ran out of memory",
    "network": "the storage did not answer",
}
"""Every reason a source or clip may be rejected for, and what it means."""

TRANSIENT: Final = frozenset({"hung", "memory", "network"})
"""Reasons that lie in the moment and not in the bytes: the next run tries those sources again."""


class TonemillError(Exception):
    """Anything a person can mend; printed without a traceback. No message holds a password that stood in a URI."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*(without_secrets(one) if isinstance(one, str) else one for one in args))


class UsageError(TonemillError):
    """A flag, a parameter or an expression is wrong; nothing was done."""


class StreamError(TonemillError):
    """A stream of recipes is broken or was cut."""


class AudioError(TonemillError):
    """One source or clip cannot be used.

    Args:
        reason: a key of `REASONS`.
        message: what was found in this file, for a person.
        measured: the same for programs, as `tempo_bpm=120.0`.
    """

    outcome = "rejected"

    def __init__(self, reason: str, message: str, **measured: int | float | str) -> None:
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is not one of the reasons {', '.join(REASONS)}")
        super().__init__(message)
        self.reason = reason
        self.message = without_secrets(message)
        self.measured = measured

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.reason, self.message, self.measured)


def _again(kind: type[AudioError], reason: str, message: str, measured: dict[str, Any]) -> AudioError:
    """What a pickle holds: an error is made from its parts."""
    return kind(reason, message, **measured)


class Filtered(AudioError):
    """A source or clip that a step was asked to leave out."""

    outcome = "filtered"


class OutputError(TonemillError):
    """An output folder is taken, full, or made by another plan."""


class CorpusError(TonemillError):
    """A corpus is missing, unfinished, damaged, or does not fit."""


class RunError(TonemillError):
    """A run is missing, made with other settings, or damaged."""
