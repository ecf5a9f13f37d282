"""Whether a page of an Ogg that is lost or damaged is noticed, and none that is there is missed."""

from __future__ import annotations

import numpy as np
import pytest
from odd_files import CONTAINERS, FRAMES, SOUND

from tonemill.audiotools.codecs import files
from tonemill.audiotools.codecs.ogg_pages import checksum
from tonemill.audiotools.errors import AudioError

OGGS = {one.name: one for one in CONTAINERS if one.name in ("OGG-VORBIS", "OGG-OPUS")}


def sound_of(data: bytes, keep_cut: bool = False) -> np.ndarray:
    return files.read(data, keep_cut=keep_cut).whole().samples


def refusal(data: bytes, keep_cut: bool = False) -> AudioError:
    with pytest.raises(AudioError) as caught:
        sound_of(data, keep_cut)
    return caught.value


def ogg_pages(data: bytes) -> list[bytes]:
    pages = []
    while data:
        length = 27 + data[26] + sum(data[27 : 27 + data[26]])
        pages.append(data[:length])
        data = data[length:]
    return pages


def flipped(page: bytes) -> bytes:
    return page[:-9] + bytes([page[-9] ^ 0x55]) + page[-8:]


@pytest.mark.parametrize("name", OGGS)
def test_a_page_of_an_ogg_that_is_lost_or_damaged_is_never_played_over(name: str) -> None:
    """Its decoder leaves it out, and gave the end twice to fill the announced length."""
    data = OGGS[name].data(np.tile(SOUND, 4))
    pages = ogg_pages(data)
    first = 3 if name == "OGG-VORBIS" else 2
    for at in range(first, len(pages)):
        hurt = [*pages[:at], flipped(pages[at]), *pages[at + 1 :]]
        assert refusal(b"".join(hurt)).reason == "damaged", at
        if first < at < len(pages) - 1:
            assert refusal(b"".join(pages[:at] + pages[at + 1 :])).reason == "damaged", at
    # Bytes between pages that are all there lose nothing.
    whole = b"".join([*pages[: first + 1], b"StreamTitle", *pages[first + 1 :]])
    np.testing.assert_array_equal(sound_of(whole), sound_of(data))


def test_a_recording_of_a_radio_begins_with_any_page() -> None:
    pages = ogg_pages(OGGS["OGG-VORBIS"].data(np.tile(SOUND, 4)))
    found = sound_of(b"".join(pages[:2] + pages[4:]))
    assert FRAMES < found.shape[1] < 4 * FRAMES


@pytest.mark.parametrize("name", OGGS)
def test_a_page_that_is_lost_from_a_cut_file_is_damage_also_where_cut_ones_are_kept(name: str) -> None:
    pages = ogg_pages(OGGS[name].data(np.tile(SOUND, 4)))
    assert sound_of(b"".join(pages[:-1]), keep_cut=True).shape[1] > 3 * FRAMES
    lost = b"".join([*pages[:5], *pages[6:-1]])
    assert refusal(lost).reason == "truncated"
    assert refusal(lost, keep_cut=True).reason == "damaged"


def page(flags: int, number: int, body: bytes) -> bytes:
    """Of a stream that is no sound."""
    head = b"OggS\0" + bytes([flags]) + bytes(8) + b"bone" + number.to_bytes(4, "little")
    return with_checksum(head + bytes(4) + bytes([1, len(body)]) + body)


def with_checksum(one: bytes) -> bytes:
    zeroed = one[:22] + bytes(4) + one[26:]
    return one[:22] + checksum(zeroed).to_bytes(4, "little") + one[26:]


@pytest.mark.parametrize(("name", "is_marked"), [("OGG-VORBIS", True), ("OGG-VORBIS", False), ("OGG-OPUS", True)])
def test_beside_another_stream_all_pages_are_there_whichever_ends_last(name: str, is_marked: bool) -> None:
    """The sound of a film may end without the mark of a last page, which the film has; libsndfile needs it of Opus."""
    data = OGGS[name].data(np.tile(SOUND, 4))
    first, *pages, last = ogg_pages(data)
    last = last if is_marked else with_checksum(last[:5] + bytes([last[5] & ~4]) + last[6:])
    film = b"".join([first, page(2, 0, b"fishead\0"), *pages, last, page(4, 1, b"end")])
    np.testing.assert_array_equal(sound_of(film), sound_of(data))
