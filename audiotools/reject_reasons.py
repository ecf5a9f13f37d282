"""Every reason a source or clip may be rejected for."""

from __future__ import annotations

from typing import Final

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
    "flat": "it has no beats, so its joint cannot be judged",
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
    "memory": "its decoder wanted more memory than a decoder may take, or was killed",
    "killed": "the workers that took it on were killed",
    "network": "the storage did not answer",
    "identity": "the store did not accept who we are",
    "unreachable": "it could not be read, and nothing beside it either",
    "no_decoder": "the package that decodes it is not installed",
}
"""Every reason a source or clip may be rejected for, and what it means."""


TRANSIENT: Final = frozenset({"hung", "killed", "network", "identity", "unreachable", "no_decoder"})
"""Reasons of the moment, not of the bytes: the next run tries those sources again."""
