"""The errors that users see; each message has the value, what was expected and how to mend it.

TonemillError             anything a person can mend
├── UsageError            a flag, a parameter or an expression is wrong (exit code 2)
├── StreamError           a stream of recipes is broken or was cut
│   └── StageFailed       a stage before this one failed, and printed why
├── AudioError            one source or clip cannot be used: a row of the rejects, never a stop
│   ├── Doubtful          it could not be read, and that may be no fact about it: tried again
│   │   └── Settled       it is one if it is found twice
│   └── Filtered          it could be used, but a step's settings leave it out
├── OutputError           an output folder is taken, full, or made by another plan
├── MachineError          this machine lacks room, memory or handles, or cannot read anything
├── CorpusError           a corpus is missing, unfinished, damaged, or does not fit
└── RunError              a run is missing, made with other settings, or damaged
"""

from __future__ import annotations

from typing import Any

from tonemill.audiotools.reject_reasons import REASONS
from tonemill.audiotools.secrets import without_secrets


class TonemillError(Exception):
    """Anything a person can mend; printed without a traceback. No message holds a password that stood in a URI."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*(without_secrets(one) if isinstance(one, str) else one for one in args))


class UsageError(TonemillError):
    """A flag, a parameter or an expression is wrong; nothing was done."""


class StreamError(TonemillError):
    """A stream of recipes is broken or was cut."""


class StageFailed(StreamError):
    """A stage before this one failed, and printed why."""


class AudioError(TonemillError):
    """One source or clip cannot be used.

    Args:
        reason: a key of `reject_reasons.REASONS`.
        message: what was found in this file, for a person.
        measured: the same for programs, as `tempo_bpm=120.0`.
    """

    outcome = "rejected"

    def __init__(self, reason: str, message: str, **measured: int | float | str) -> None:
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is no reject reason. The reasons are: {', '.join(REASONS)}.")
        super().__init__(message)
        self.reason = reason
        self.message = without_secrets(message)
        self.measured = measured

    def __reduce__(self) -> tuple[Any, ...]:
        return _again, (type(self), self.reason, self.message, self.measured)


def _again(kind: type[AudioError], reason: str, message: str, measured: dict[str, Any]) -> AudioError:
    """Make an error from its parts, for unpickling."""
    return kind(reason, message, **measured)


class Filtered(AudioError):
    """A source or clip that a step's settings leave out."""

    outcome = "filtered"


class Doubtful(AudioError):
    """A source could not be read, perhaps for a transient reason: tried again, and decided at the shard's end."""


class Settled(Doubtful):
    """A source could not be read; if a second attempt fails alike, it is rejected."""


class MachineError(TonemillError):
    """This machine lacks room, memory or handles, or can read no source: never a reject, the command ends."""


class OutputError(TonemillError):
    """An output folder is taken, full, or made by another plan."""


class CorpusError(TonemillError):
    """A corpus is missing, unfinished, damaged, or does not fit."""


class RunError(TonemillError):
    """A run is missing, made with other settings, or damaged."""
