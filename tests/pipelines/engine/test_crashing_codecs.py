"""A codec that crashes, hangs or eats the memory costs one source, and the job goes on."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Ended, Shell, Tonemill, contents, leftovers, reasons, write_wav

from tonemill.audiotools.codecs import files
from tonemill.audiotools.errors import AudioError
from tonemill.pipelines.cooking.journal import JOURNALS, Journal, journal_of, note_end, suspected
from tonemill.pipelines.sources import decoder

CODEC = """
import os, resource, signal, time
import soundfile
import tonemill.pipelines.steps.fade as fade

init, read, apply = soundfile.SoundFile.__init__, soundfile.SoundFile.read, fade.Fade.apply

def bad_init(self, file, *args, **kwargs):
    if isinstance(file, bytes) and b"header" in os.path.basename(file):
        os.abort()
    init(self, file, *args, **kwargs)

def bad_read(self, *args, **kwargs):
    name = os.path.basename(os.fsdecode(self.name)) if isinstance(self.name, (str, bytes)) else ""
    if "segfault" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "abort" in name:
        os.abort()
    if "hang" in name:
        time.sleep(600)
    if "eat" in name:
        if resource.getrlimit(resource.RLIMIT_DATA)[0] == resource.RLIM_INFINITY:
            os.kill(os.getpid(), signal.SIGKILL)  # as the kernel does when memory runs out
        eaten = [bytes(1 << 28) for _ in range(1000)]
    return read(self, *args, **kwargs)

def bad_apply(self, example):
    if "deadly" in example.path:
        os.abort()
    return apply(self, example)

soundfile.SoundFile.__init__, soundfile.SoundFile.read, fade.Fade.apply = bad_init, bad_read, bad_apply
"""
"""What every process of a test imports first: codecs that fail as codecs in C do, by the name of the file."""

GOOD = 12


@pytest.fixture
def codec(tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    site = tmp_path / "site"
    site.mkdir()
    (site / "sitecustomize.py").write_text(CODEC)
    paths = [str(site), *filter(None, [environment.get("PYTHONPATH")])]
    monkeypatch.setitem(environment, "PYTHONPATH", os.pathsep.join(paths))


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder of good sources, to which a test adds bad ones."""
    for number in range(GOOD):
        write_wav(tmp_path / "raw" / f"{number:02d}.wav", seed=number)
    return tmp_path / "raw"


def shard(shell: Shell, where: str, *flags: str, timeout: float = 120) -> Ended:
    words = " ".join(("--shard-seconds 0.2", "--workers 2", "-q", *flags))
    return shell(f"tonemill scan raw -q | tonemill fade --in-ms 1 | tonemill shard {where} {words}", timeout=timeout)


@pytest.mark.usefixtures("codec")
def test_each_kind_of_end_is_one_reject_with_its_reason(raw: Path, shell: Shell, tmp_path: Path) -> None:
    assert shard(shell, "good").code == 0
    ends = {"02-header": "crashed", "03-segfault": "crashed", "05-abort": "crashed", "07-eat": "memory"}
    ends["09-deadly"] = "crashed"
    for name in ends:
        write_wav(raw / f"{name}.wav")
    ended = shard(shell, "all")
    assert ended.code == 0, ended
    assert reasons(tmp_path / "all") == {f"{name}.wav": reason for name, reason in ends.items()}
    about = json.loads((tmp_path / "all/corpus.json").read_text())
    assert about["examples"] == GOOD
    assert not leftovers(tmp_path / "all")
    # The good sources' sound is what it is without the bad ones.
    sounds = []
    for name in ("all", "good"):
        assert shell(f"tonemill open {name} | tonemill write {name}-files -q").code == 0
        files_there = contents(tmp_path / f"{name}-files")
        sounds.append({file: content for file, content in files_there.items() if file.endswith(".wav")})
    assert len(sounds[0]) == GOOD and sounds[0] == sounds[1]


@pytest.mark.slow
@pytest.mark.usefixtures("codec")
def test_a_decoder_that_hangs_is_given_up_and_tried_again_by_the_next_run(
    raw: Path, shell: Shell, tmp_path: Path
) -> None:
    write_wav(raw / "04-hang.wav")
    begun = time.monotonic()
    assert shard(shell, "all", "--decode-seconds 2").code == 1
    assert time.monotonic() - begun < 40
    assert reasons(tmp_path / "all") == {"04-hang.wav": "hung"}
    assert shard(shell, "all", "--decode-seconds 2", "--keep-transient").code == 0
    (raw / "04-hang.wav").rename(raw / "04-well.wav")
    (tmp_path / "site/sitecustomize.py").unlink()
    assert shard(shell, "all", "--update").code == 0
    assert reasons(tmp_path / "all") == {}


@pytest.mark.usefixtures("codec")
def test_a_decoder_whose_parent_is_gone_hangs_no_longer(
    raw: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    child = decoder._Decoder(seconds=1)
    child.ask(
        {"path": os.fsencode(write_wav(raw / "04-hang.wav")).hex(), "start": 0, "frames": None, "keep_cut": False}
    )
    try:
        assert child._child._process.wait(30) == -signal.SIGALRM
    finally:
        child.close()


def test_another_process_decodes_the_same_samples(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "long.wav", frames=300_000)
    for source in (path, path.read_bytes()):
        for start, frames in ((0, None), (1000, 200_000)):
            here, there = files.read(source, start, frames), decoder.read(source, start, frames, 60)
            assert (here.sample_rate, here.channels, here.bits) == (there.sample_rate, there.channels, there.bits)
            assert (here.whole().samples == there.whole().samples).all()


def test_another_process_refuses_what_this_one_does(tmp_path: Path) -> None:
    path = write_wav(tmp_path / "long.wav", frames=300_000)
    whole = path.read_bytes()
    for name, content in (("cut.wav", whole[:-100_000]), ("text.wav", b"no sound " * 99), ("empty.wav", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(AudioError) as here:
            files.read(tmp_path / name).whole()
        with pytest.raises(AudioError) as there:
            decoder.read(tmp_path / name, 0, None, 60).whole()
        assert (here.value.reason, here.value.message) == (there.value.reason, there.value.message)


def test_a_journal_outlives_the_worker_that_kept_it(tmp_path: Path) -> None:
    left = Journal(tmp_path / JOURNALS / "3")
    left.at(7)
    assert suspected(tmp_path) == [3]
    # The next worker cannot find out how the last one ended, so the source is decoded apart and not refused.
    for _ in range(3):
        again = Journal(tmp_path / JOURNALS / "3")
        assert again.is_suspect(7) and not again.is_suspect(6)
        again.refuse_deadly(7)
        again.at(7)


def test_a_source_is_refused_when_it_was_seen_to_end_workers_twice(tmp_path: Path) -> None:
    for name, reason in (("SIGSEGV", "crashed"), ("SIGKILL", "killed")):
        for _ in range(2):
            journal = Journal(tmp_path / name / JOURNALS / "0")
            journal.refuse_deadly(5)
            journal.at(5)
            assert note_end(tmp_path / name, name)
        with pytest.raises(AudioError) as caught:
            Journal(tmp_path / name / JOURNALS / "0").refuse_deadly(5)
        assert caught.value.reason == reason


def test_what_failed_by_itself_leaves_no_suspect(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), journal_of(tmp_path, 0) as journal:
        journal.at(4)
        raise ZeroDivisionError
    assert suspected(tmp_path) == []
    with journal_of(tmp_path, 0) as journal:
        journal.at(4)
    assert not list((tmp_path / JOURNALS).iterdir())


def test_too_many_rejects_stop_the_job(raw: Path, piped: Callable[..., bytes], tonemill: Tonemill) -> None:
    for number in range(6):
        (raw / f"bad{number}.wav").write_bytes(b"no sound")
    plan = piped(["scan", raw, "-q"])
    words = ["shard", raw.parent / "all", "--shard-seconds", 0.2, "-q", "--max-rejects"]
    for most in ("5", "33%"):
        tonemill(*words, most, stdin=plan).refused(1, "6 sources were rejected", "--max-rejects allows 5")
    for most in ("34%", "6"):
        tonemill(*words, most, stdin=plan).done()
    for most in ("many", "-1", "101%", "1.5"):
        tonemill(*words, most, stdin=plan).refused(2, most)
