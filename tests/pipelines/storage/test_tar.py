"""Tars: any tar program reads them, members can be taken back, and a part of one is a tar again."""

from __future__ import annotations

import hashlib
import io
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus.splicing import runs, splice
from tonemill.pipelines.storage.tar import TarWriter, cut_out, members

Contents = list[tuple[str, bytes]]


def written(parts: Contents) -> tuple[bytes, str, list[int]]:
    """A tar's bytes, their digest, and the offset of each member's data."""
    out = io.BytesIO()
    tar = TarWriter(out)
    offsets = [tar.add(name, len(data), [data[:3], data[3:]]) for name, data in parts]
    digest = tar.finish()
    return out.getvalue(), digest, offsets


contents = st.lists(st.binary(max_size=2000), min_size=1, max_size=6).map(
    lambda all_data: [(f"{n:016x}-0000.flac", data) for n, data in enumerate(all_data)]
)


@given(contents)
@settings(max_examples=50, deadline=None)
def test_the_standard_library_reads_what_is_written(parts: Contents) -> None:
    data, digest, offsets = written(parts)
    assert hashlib.sha256(data).hexdigest() == digest
    assert len(data) % tarfile.RECORDSIZE == 0
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        infos = tar.getmembers()
        assert [(one.name, tar.extractfile(one).read()) for one in infos] == parts  # type: ignore[union-attr]
        assert [one.offset_data for one in infos] == offsets
        assert {(one.mtime, one.uid, one.gid, one.uname, one.mode) for one in infos} == {(0, 0, 0, "", 0o644)}


@given(contents)
@settings(max_examples=50, deadline=None)
def test_members_are_found_where_they_were_put(parts: Contents) -> None:
    data, _, offsets = written(parts)
    file = io.BytesIO(data)
    found = list(members(file))
    assert [(one.name, one.offset) for one in found] == [
        (name, at) for (name, _), at in zip(parts, offsets, strict=True)
    ]
    assert [cut_out(file, one.offset, one.size) for one in found] == [content for _, content in parts]


@given(contents, st.data())
@settings(max_examples=50, deadline=None)
def test_rolled_back_members_leave_no_trace(parts: Contents, draw: st.DataObject) -> None:
    kept = draw.draw(st.integers(0, len(parts) - 1))
    out = io.BytesIO()
    tar = TarWriter(out)
    for name, data in parts[:kept]:
        tar.add(name, len(data), [data])
    mark = tar.mark()
    for name, data in parts[kept:]:
        tar.add(f"x{name}", len(data), [data])
    tar.roll_back(mark)
    for name, data in parts[kept:]:
        tar.add(name, len(data), [data])
    digest = tar.finish()
    assert (out.getvalue(), digest) == written(parts)[:2]


def test_some_sources_of_a_shard_make_the_tar_that_they_alone_would_have_made(tmp_path: Path) -> None:
    parts = [
        (f"{source:016x}-{clip:04d}.flac", bytes([source]) * (700 * clip + 1))
        for source in range(4)
        for clip in range(3)
    ]
    data, _, offsets = written(parts)
    (tmp_path / "all.tar").write_bytes(data)
    rows = [
        {"key": name[:21], "audio_offset": at, "audio_bytes": len(part), "audio_sha256": "-"}
        for (name, part), at in zip(parts, offsets, strict=True)
    ]
    left = runs(tmp_path / "all.tar", rows)
    chosen = [f"{source:016x}" for source in (0, 2, 3)]
    out = io.BytesIO()
    about = splice([left[key] for key in chosen], out)
    expected, digest, _ = written([one for one in parts if one[0][:16] in chosen])
    assert out.getvalue() == expected
    assert about == {"bytes": len(expected), "sha256": digest}


def test_a_cut_tar_and_a_link_in_one_are_refused() -> None:
    data, _, _ = written([("a.flac", bytes(5000))])
    with pytest.raises(CorpusError, match="and the tar ends before"):
        list(members(io.BytesIO(data[:3000])))
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        link = tarfile.TarInfo("a.flac")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    with pytest.raises(CorpusError, match="is not a regular file"):
        list(members(io.BytesIO(out.getvalue())))
