"""Headers of sources that are far: of WAV, AIFF and FLAC few bytes are fetched, and they tell what all bytes do."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from broken_audio import BROKEN
from faults import Answered, FailingStore
from odd_files import CONTAINERS, Container

from tonemill.audiotools.codecs import files
from tonemill.pipelines.sources import ranges, scan
from tonemill.pipelines.sources.decoder import PATIENCE, Prober
from tonemill.pipelines.sources.reach import Reach, reach
from tonemill.pipelines.storage import stores
from tonemill.pipelines.storage.store_path import StorePath

NOISE = np.random.default_rng(5).standard_normal((240_000, 2)) * 0.1


class Counting(FailingStore):
    """Counts the bytes that are given."""

    given = 0

    def read(self, key: str, start: int = 0, end: int | None = None) -> bytes:
        data = super().read(key, start, end)
        self.given += len(data)
        return data

    def fetch(self, key: str, target: Path) -> None:
        super().fetch(key, target)
        self.given += target.stat().st_size


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Counting]:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(stores, "PAUSE_SECONDS", 0.001)
    made = Counting(tmp_path / "store")
    for module in ("storage.stores", "storage.store_path", "sources.reach"):
        monkeypatch.setattr(f"tonemill.pipelines.{module}.store_of", lambda scheme: made)
    Reach.__init__(reach)
    yield made
    Reach.__init__(reach)


def put(store: Counting, data: bytes, name: str) -> StorePath:
    path = store.folder / "bucket" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return StorePath("s3", f"bucket/{name}")


def both(place: StorePath, probe: Any = files.probe) -> list[dict[str, Any]]:
    """What `scan` writes of an object with `--digest none`, and without, but for the digest."""
    entries = [scan.describe(place, digest, probe) for digest in (False, True)]  # type: ignore[arg-type]
    entries[1].pop("sha256", None)
    return entries


def encoded(form: str, subtype: str = "PCM_16", sound: np.ndarray = NOISE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, sound, 48000, format=form, subtype=subtype)
    return buffer.getvalue()


def with_picture(flac: bytes, size: int) -> bytes:
    """A FLAC with so many bytes of another block between its stream information and its sound."""
    return flac[:4] + bytes([flac[4] & 0x7F]) + flac[5:42] + b"\x06" + size.to_bytes(3) + bytes(size) + flac[42:]


def behind(data: bytes, name: bytes, content: bytes) -> bytes:
    """A WAV with a chunk behind its sound."""
    chunk = name + struct.pack("<I", len(content)) + content
    return data[:4] + struct.pack("<I", len(data) + len(chunk) - 8) + data[8:] + chunk


FEW = {
    "a.wav": lambda: encoded("WAV"),
    "24 bits.wav": lambda: encoded("WAV", "PCM_24"),
    "floats.WAV": lambda: encoded("WAV", "FLOAT"),
    "rf64.wav": lambda: encoded("RF64"),
    "a list behind.wav": lambda: behind(encoded("WAV"), b"LIST", b"INFO" + bytes(40)),
    "others behind.wav": lambda: behind(behind(encoded("WAV"), b"id3 ", bytes(3000)), b"LGWV", bytes(8000)),
    "a.aiff": lambda: encoded("AIFF"),
    "floats.aifc": lambda: encoded("AIFF", "FLOAT"),
    "a.flac": lambda: encoded("FLAC"),
    "24 bits.flac": lambda: encoded("FLAC", "PCM_24"),
    "a tag behind.flac": lambda: encoded("FLAC") + b"TAG".ljust(128, b"x"),
    "a.au": lambda: encoded("AU"),
    "a.caf": lambda: encoded("CAF"),
    "a.w64": lambda: encoded("W64"),
}
"""Files whose header is in few places."""


@pytest.mark.parametrize("name", FEW)
def test_of_a_large_file_with_few_places_few_bytes_come(store: Counting, name: str) -> None:
    place = put(store, FEW[name](), name)
    found = scan.describe(place, digest=False)  # type: ignore[arg-type]
    # The first 64 KiB; of FLAC also the last 128, in which its last frame begins; of chunks behind the sound, these.
    assert store.given <= (3 if name.endswith("flac") else 2) << 16 < found["bytes"] // 2
    assert [call for call, _ in store.calls].count("read") <= 3 and "fetch" not in dict(store.calls)
    assert found == both(place)[1] and found["sample_rate"] == 48000 and found["frames"] == len(NOISE)


def unknown_total(flac: bytes) -> bytes:
    """As a writer to a pipe leaves it."""
    return flac[:21] + bytes([flac[21] & 0xF0]) + bytes(4) + flac[26:]


MORE: dict[str, Callable[[], bytes]] = {
    "joined.flac": lambda: encoded("FLAC") + encoded("FLAC", sound=NOISE[:200_000]),
    "joined.wav": lambda: encoded("WAV") + encoded("WAV", sound=NOISE[:1000]),
    "cut.flac": lambda: encoded("FLAC")[:-50_000],
    "cut.wav": lambda: encoded("WAV")[:-50_000],
    "piped.flac": lambda: unknown_total(encoded("FLAC")),
    "zeros behind.flac": lambda: encoded("FLAC") + bytes(5000),
    "sound behind.wav": lambda: encoded("WAV") + encoded("WAV")[1044:91_044],
    "a picture.flac": lambda: with_picture(encoded("FLAC"), 300_000),
    "an mp3.wav": lambda: encoded("MP3", "MPEG_LAYER_III", NOISE[:60_000]),
    "a.mp3": lambda: encoded("MP3", "MPEG_LAYER_III", NOISE[:60_000]),
    "a.ogg": lambda: encoded("OGG", "VORBIS", NOISE[:60_000]),
    "empty.wav": bytes,
}


@pytest.mark.parametrize("name", MORE)
def test_what_few_bytes_do_not_tell_is_fetched(store: Counting, name: str) -> None:
    few, whole = both(put(store, MORE[name](), name))
    assert few == whole


@pytest.mark.slow
def test_every_container_and_every_broken_file_is_described_as_by_all_its_bytes(
    store: Counting, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(ranges, "HEAD_BYTES", 2048)
    made: list[StorePath] = []

    def container(number: int, one: Container) -> None:
        data = one.data()
        for kind, changed in {"whole": data, "cut": data[: len(data) * 3 // 4], "twice": data + data}.items():
            if (one.suffix, kind) != ("flac", "twice"):
                made.append(put(store, changed, f"{number} {kind}.{one.suffix}"))

    for number, one in enumerate(CONTAINERS):
        container(number, one)
    for broken in BROKEN:
        broken.make(tmp_path / broken.name)
        if (tmp_path / broken.name).exists():
            made.append(put(store, (tmp_path / broken.name).read_bytes(), broken.name))
    for place in made:
        few, whole = both(place)
        assert few == whole, place


def test_two_flacs_of_equally_many_samples_are_taken_for_one_and_read_whole_later(store: Counting) -> None:
    """The one thing that the last frame does not show."""
    place = put(store, encoded("FLAC") * 2, "twice.flac")
    few, whole = both(place)
    assert (few["frames"], whole["frames"]) == (len(NOISE), 2 * len(NOISE)) and "declared" not in few
    assert files.read(store.folder / place.key).whole().samples.shape[1] == 2 * len(NOISE)


def test_the_process_that_reads_headers_names_what_it_lacks(store: Counting) -> None:
    prober = Prober(PATIENCE)
    try:
        for name in ("a.wav", "a.flac", "a list behind.wav"):
            few, whole = both(put(store, FEW[name](), name), prober.header)
            assert few == whole
        assert [call for call, _ in store.calls].count("fetch") == 3
    finally:
        prober.close()


@pytest.mark.parametrize(("status", "reason"), [(404, "unreachable"), (403, "forbidden"), (503, "network")])
def test_failures_are_reported_as_of_a_whole_file(
    store: Counting, monkeypatch: pytest.MonkeyPatch, status: int, reason: str
) -> None:
    place = put(store, FEW["a.wav"](), "a.wav")

    def fail(*_: object) -> None:
        raise FileNotFoundError(2, "no such key") if status == 404 else Answered(status)

    for name in ("look", "read", "fetch"):
        monkeypatch.setattr(store, name, fail)
    few, whole = both(place)
    assert few == whole and few["unread"]["reason"] == reason and set(few) == {"uri", "unread"}


def test_a_range_that_fails_is_reported_and_not_taken_for_the_end(store: Counting) -> None:
    place = put(store, FEW["a list behind.wav"](), "a.wav")
    store.fail_at = 2
    store.error = Answered(403)
    found = scan.describe(place, digest=False)  # type: ignore[arg-type]
    assert store.calls[2][0] == "read" and found["unread"]["reason"] == "forbidden"
