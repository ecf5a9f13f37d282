"""`write`: files named after their sources, never two of one name, never outside the folder."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Tonemill, adds_up, contents, lines_of, stream_of, table, write_wav

from tonemill.audiotools.rhythm.tempo_tags import tempo_of_tags
from tonemill.audiotools.synthetic import loop

Piped = Callable[..., bytes]


@pytest.fixture
def whole(raw: Path, piped: Piped) -> bytes:
    """Recipes of sounds as they are."""
    return piped(["scan", raw, "-q"])


def sounds(folder: Path) -> dict[str, bytes]:
    """The visible files of a folder, without the mark and hidden files."""
    return {
        name: data
        for name, data in contents(folder).items()
        if name != "tonemill.json" and not name.startswith(".tonemill/")
    }


def test_files_are_named_after_their_sources(tonemill: Tonemill, whole: bytes, raw: Path, tmp_path: Path) -> None:
    about = tonemill("write", tmp_path / "out", "-q", stdin=whole).done().line
    assert about["folder"] == str(tmp_path / "out")
    assert set(sounds(tmp_path / "out")) == set(contents(raw))
    for name in sounds(tmp_path / "out"):
        mine, theirs = (soundfile.read(place / name, dtype="int16")[0] for place in (tmp_path / "out", raw))
        np.testing.assert_array_equal(mine, theirs)


def test_several_clips_are_numbered(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    about = tonemill("write", tmp_path / "out", "-q", stdin=plan).done().line
    names = sounds(tmp_path / "out")
    assert len(names) == about["examples"]
    assert all(re.fullmatch(r"(left|right)/\d_(ann|bob)_\d+-\d{4}\.wav", name) for name in names)


def test_pairs_are_distinguished_by_role(tonemill: Tonemill, whole: bytes, tmp_path: Path) -> None:
    pairs = [one | {"sources": dict.fromkeys(("dry", "wet"), one["sources"]["audio"])} for one in lines_of(whole)]
    tonemill("write", tmp_path / "out", "-q", stdin=stream_of(pairs[:1])).done()
    assert {Path(name).name for name in sounds(tmp_path / "out")} == {"0_ann_0_dry.wav", "0_ann_0_wet.wav"}


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg"])
def test_the_same_stream_gives_the_same_bytes(tonemill: Tonemill, plan: bytes, tmp_path: Path, kind: str) -> None:
    for name, workers in (("a", 1), ("b", 3)):
        flags = ["--format", kind, "--shard-seconds", 2, "--workers", workers, "-q"]
        tonemill("write", tmp_path / name, *flags, stdin=stream_of(lines_of(plan)[:6])).done()
    assert contents(tmp_path / "a") == contents(tmp_path / "b")
    assert all(soundfile.info(tmp_path / "a" / name).format == kind.upper() for name in sounds(tmp_path / "a"))


def test_a_lossy_file_has_the_quality_that_was_wished(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    stream = tonemill("resample", "--rate", 48000, stdin=stream_of(lines_of(plan)[:2])).done().out
    sizes = []
    for kind, quality in (("mp3", 0.1), ("mp3", 0.9), ("opus", 0.5)):
        folder = tmp_path / f"{kind}{quality}"
        tonemill("write", folder, "--format", kind, "--quality", quality, "-q", stdin=stream).done()
        assert {Path(name).suffix for name in sounds(folder)} == {f".{kind}"}
        sizes.append(sum((folder / name).stat().st_size for name in sounds(folder)))
        # What is there already keeps its quality where none is named.
        assert tonemill("write", folder, "-q", stdin=stream).done().line["bytes"] == sizes[-1]
    assert sizes[0] < 0.8 * sizes[1]
    tonemill("write", tmp_path / "x", "--quality", 0.5, stdin=stream).refused(2, "--quality is for --format ogg")
    wrong = tonemill("write", tmp_path / "x", "--format", "ogg", "--quality", "nan", stdin=stream)
    wrong.refused(2, "--quality is nan")
    assert not (tmp_path / "x").exists()


def test_the_folder_is_marked_as_ours(tonemill: Tonemill, plan: bytes, tmp_path: Path) -> None:
    tonemill("write", tmp_path / "out", "-q", stdin=plan).done()
    mark = json.loads((tmp_path / "out" / "tonemill.json").read_text())
    assert re.fullmatch("[0-9a-f]{64}", mark["plan_digest"])
    assert adds_up(mark)


PATHS = (
    "../../escaped/{}.wav",
    "/tmp/escaped/{}.wav",
    ".tonemill/{}.wav",
    "tonemill.json",
    "kick.wav",
    "Kick{0:b}.wav",
    "",
    "..",
    "a\0b\n{}.wav",
    "..\\..\\{}.wav",
    "x" * 400 + "{}.wav",
    "音" * 100 + "{}.wav",
    "kick-{:04d}.wav",
)
"""Up, absolute, hidden, our own, equal, equal but for case, empty, dots, odd characters, too long, like a clip's."""


@pytest.mark.parametrize("cut", [True, False], ids=["clips", "whole"])
def test_no_path_leaves_the_folder_or_meets_another(tonemill: Tonemill, plan: bytes, tmp_path: Path, cut: bool) -> None:
    one, *_ = lines_of(plan)
    one = one if cut else one | {"steps": []}
    recipes = [one | {"path": path.format(number)} for path in PATHS for number in range(3)]
    out = tmp_path / "a" / "b" / "out"
    about = tonemill("write", out, "-q", stdin=stream_of(recipes)).done().line
    assert about["ledger"]["kept"] == len(recipes)
    assert len(sounds(out)) == about["examples"] == len(recipes) * (7 if cut else 1)
    assert len(contents(tmp_path)) == len(contents(out))
    assert not Path("/tmp/escaped").exists()


def test_a_folder_and_a_file_can_have_one_name(tonemill: Tonemill, piped: Piped, tmp_path: Path) -> None:
    write_wav(tmp_path / "in" / "a.flac")
    write_wav(tmp_path / "in" / "a.wav" / "b.wav")
    stream = piped(["scan", tmp_path / "in", "-q"])
    assert tonemill("write", tmp_path / "out", "-q", stdin=stream).done().line["examples"] == 2


def test_what_a_corpus_holds_is_written_under_its_sources_names(
    tonemill: Tonemill, piped: Piped, plan: bytes, corpus: Path, tmp_path: Path
) -> None:
    tonemill("write", tmp_path / "direct", "-q", stdin=plan).done()
    tonemill("write", tmp_path / "opened", "-q", stdin=piped(["open", corpus])).done()
    assert sounds(tmp_path / "opened") == sounds(tmp_path / "direct")


@pytest.mark.parametrize("name", ["loop_120.5bpm.wav", "kick.wav", "v1.2/take.3.wav"])
def test_a_clip_alone_keeps_its_name(tonemill: Tonemill, piped: Piped, tmp_path: Path, name: str) -> None:
    write_wav(tmp_path / "in" / name, 3000)
    stream = piped(["scan", tmp_path / "in", "-q"], ["slice", "--samples", 1000])
    tonemill("shard", tmp_path / "corpus", "-q", stdin=stream).done()
    one = piped(["open", tmp_path / "corpus", "--where", "clip == 1"])
    tonemill("write", tmp_path / "out", "-q", stdin=one).done()
    assert set(sounds(tmp_path / "out")) == {f"{name.removesuffix('.wav')}-0001.wav"}


def test_open_can_choose(tonemill: Tonemill, corpus: Path) -> None:
    chosen = lines_of(tonemill("open", corpus, "--where", "split == 'valid' and label == '1'").done().out)
    rows = [row for row in table(corpus / "index.parquet") if (row["split"], row["label"]) == ("valid", "1")]
    assert [one["sources"]["audio"]["key"] for one in chosen] == [row["key"] for row in rows]


def test_a_corpus_that_changed_under_its_recipes_is_noticed(
    tonemill: Tonemill, piped: Piped, plan: bytes, tmp_path: Path
) -> None:
    tonemill("shard", tmp_path / "corpus", "-q", "--shard-seconds", 5, stdin=plan).done()
    stream = piped(["open", tmp_path / "corpus"])
    first, second, *_ = sorted((tmp_path / "corpus").rglob("*.tar"))
    first.unlink()
    second.write_bytes(second.read_bytes()[::-1])
    tonemill("write", tmp_path / "out", "-q", stdin=stream).done()
    refused = table(tmp_path / "out" / ".tonemill" / "rejects.parquet")
    assert {row["reason"] for row in refused} == {"missing", "changed"}


def test_another_plan_is_refused_and_overwrite_leaves_no_stale_file(
    tonemill: Tonemill, plan: bytes, tmp_path: Path
) -> None:
    fewer, more = (stream_of(lines_of(plan)[:count]) for count in (5, 9))
    tonemill("write", tmp_path / "out", "-q", "--shard-seconds", 2, stdin=more).done()
    (tmp_path / "out" / "my notes.txt").write_text("mine")
    before = contents(tmp_path / "out")
    tonemill("write", tmp_path / "out", "-q", "--shard-seconds", 2, stdin=fewer).refused(1, "--overwrite")
    assert contents(tmp_path / "out") == before
    tonemill("write", tmp_path / "out", "-q", "--shard-seconds", 2, "--overwrite", stdin=fewer).done()
    tonemill("write", tmp_path / "fresh", "-q", "--shard-seconds", 2, stdin=fewer).done()
    assert contents(tmp_path / "out").pop("my notes.txt") == b"mine"
    assert sounds(tmp_path / "out") == {**sounds(tmp_path / "fresh"), "my notes.txt": b"mine"}


def test_loops_are_written_with_their_tempo_and_parts_of_them_without(
    tonemill: Tonemill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    soundfile.write("raw/break_120bpm.wav", loop(120, 1, 16000)[0], 16000)
    cut = tonemill("loops", stdin=tonemill("scan", "raw", "-q").done().out).done().out
    for form, name in (("flac", "flacs"), ("wav", "loops")):
        tonemill("write", name, "-q", "--format", form, stdin=cut).done()
        (written,) = Path(name).glob(f"*.{form}")
        assert tempo_of_tags(written) == 120
    written.rename(tmp_path / "nameless.wav")
    found = tonemill("loops", "--tempo-from", "tag", stdin=tonemill("scan", "nameless.wav", "-q").done().out)
    tonemill("shard", "corpus", "-q", stdin=found.done().out).done()
    (record,) = table(Path("corpus/index.parquet"))
    assert (record["tempo_bpm"], record["tempo_from"]) == (120, "tag")
    halves = tonemill("slice", "--seconds", 1, stdin=cut).done().out
    tonemill("write", "halves", "-q", stdin=halves).done()
    assert [tempo_of_tags(one) for one in Path("halves").glob("*.wav")] == [None, None]
