"""What a person types for a place: a folder here, or one in a store."""

from __future__ import annotations

from pathlib import Path

import pytest

from tonemill.audiotools.errors import UsageError
from tonemill.pipelines.storage.paths import as_store, place

REFUSED = {
    "s3://key:secret@bucket/loops": "must not contain a password",
    "ftp://host/loops": "is not supported",
    "s3://": "names no bucket and folder",
    "s3://bucket/../other": "names no bucket and folder",
}


@pytest.mark.parametrize("typed", REFUSED)
def test_what_is_no_place_is_refused(typed: str) -> None:
    with pytest.raises(UsageError, match=REFUSED[typed]) as caught:
        place(typed)
    assert "secret" not in str(caught.value)


def test_paths_that_lost_a_slash_are_uris_again() -> None:
    assert str(place(Path("s3://bucket/loops/"))) == "s3://bucket/loops"
    assert place("corpora/loops") == Path("corpora/loops")
    assert as_store(place("/data/a:b/c")) is None
