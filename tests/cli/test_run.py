"""`run` does what the same pipe does in a shell, in one process, and a stage refuses what it cannot work on at once."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import Tonemill, contents, lines_of

from tonemill.audiotools.errors import UsageError
from tonemill.cli.commands.run import stages_of

RATE = 8000


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run") / "raw"
    folder.mkdir()
    for number in range(4):
        noise = 0.1 * np.random.default_rng(number).standard_normal(2 * RATE)
        soundfile.write(folder / f"kick_{number}.wav", noise, RATE)
    return folder


def test_the_bytes_are_those_of_the_pipe(tonemill: Tonemill, raw: Path, tmp_path: Path) -> None:
    stream = tonemill("scan", raw, "--fields", "{label}_{take}", "-q").done().out
    stream = tonemill("select", 'take != "3"', stdin=stream).done().out
    stream = tonemill("slice", "--seconds", 0.5, stdin=stream).done().out
    piped = tonemill("shard", tmp_path / "piped", "-q", stdin=stream).done()
    text = (
        f"scan {raw} --fields '{{label}}_{{take}}' -q\n  | tonemill select 'take != \"3\"' |  # none\n"
        f"slice --seconds 0.5 | shard {tmp_path}/CORPUS -q"
    ).replace("  # none\n", "\n# the fourth is for another day\n")
    ended = tonemill("run", text.replace("CORPUS", "run")).done()
    assert ended.line["digest"] == piped.line["digest"]
    assert contents(tmp_path / "run") == contents(tmp_path / "piped")
    (tmp_path / "pipe.txt").write_text(text.replace("CORPUS", "file"))
    tonemill("run", tmp_path / "pipe.txt").done()
    assert contents(tmp_path / "file") == contents(tmp_path / "piped")
    # What a sink names goes on to the next stage, as in a pipe.
    assert b"12" in tonemill("run", f"{text.replace('CORPUS', 'run')} | inspect -").done().out


def test_the_pool_gets_its_shards_without_the_import_of_beam(raw: Path, tmp_path: Path) -> None:
    """The import costs a second of CPU time, which is half of what a small pipe takes."""
    text = f"scan {raw} -q | slice --seconds 0.5 | shard {tmp_path}/c -q"
    code = f"import sys; from tonemill.cli.start import main\nsys.argv = ['tonemill', 'run', {text!r}]\ntry: main()\n"
    code += "except SystemExit as ended: assert not ended.code\nassert 'apache_beam' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_every_stage_is_checked_before_one_runs_and_a_failed_one_is_the_last(
    tonemill: Tonemill, raw: Path, tmp_path: Path
) -> None:
    tonemill("run", f"scan {raw} | slice --secs 1 | shard {tmp_path}/c").refused(2, "--secs")
    tonemill("run", f"scan {raw} | slize --seconds 1").refused(2, "no command 'slize'")
    ended = tonemill("run", f"scan {raw}/none | slice --seconds 1 | shard {tmp_path}/c")
    assert (ended.code, ended.err.count("Error")) == (2, 1), "the stages behind have nothing to complain of"
    assert not (tmp_path / "c").exists()


def test_a_pipe_is_parted_as_a_shell_does() -> None:
    assert stages_of("scan 'a b' | tonemill select 'x in [\"|\"]' \\\n | shard c") == [
        ["scan", "a b"],
        ["select", 'x in ["|"]'],
        ["shard", "c"],
    ]
    for text, words in (("scan a || shard c", "for a shell"), ("scan a > b", "for a shell"), ("scan a |", "empty")):
        with pytest.raises(UsageError, match=words):
            stages_of(text)
    with pytest.raises(UsageError, match="quotation"):
        stages_of("scan 'a")


def test_a_step_refuses_at_once_what_it_cannot_work_on(tonemill: Tonemill, raw: Path) -> None:
    sounds = tonemill("scan", raw, "--fields", "{label}_{take}", "-q").done().out
    pairs = tonemill("pair", raw / "kick_0.wav", raw / "kick_1.wav", "-q").done().out
    tonemill("align", stdin=sounds).refused(2, "align needs dry and wet", "tonemill pair")
    tonemill("align", stdin=pairs).done()
    seeds = tonemill("seeds", 3, "--seed", 1).done().out
    tonemill("slice", "--seconds", 1, stdin=seeds).refused(2, "it is a seed", "tonemill render")
    for where, stream in (("take == 1", sounds), ("dry_rms_db > -60", pairs), ("peak_db - rms_db > 6", sounds)):
        tonemill("filter", "--where", where, stdin=stream).done()
    tonemill("filter", "--where", "lable == 1", stdin=sounds).refused(2, "'label' is the nearest")
    tonemill("filter", "--where", "latency_ms < 3", stdin=pairs).refused(2, "`tonemill align` does: put")
    stream = tonemill("align", stdin=pairs).done().out
    assert lines_of(tonemill("filter", "--where", "latency_ms < 3", stdin=stream).done().out)


def test_a_dry_run_gives_a_reason_for_each_shard(tonemill: Tonemill, raw: Path, tmp_path: Path) -> None:
    stream = tonemill("scan", raw, "-q").done().out
    shards = ("shard", tmp_path / "c", "--shards", 2, "-q")
    assert "2 shards are new" in tonemill(*shards, "-n", stdin=stream).done().err
    tonemill(*shards, stdin=stream).done()
    ended = tonemill("shard", tmp_path / "c", "-n", "--bits", 24, "--overwrite", stdin=stream).done()
    assert "output bits None -> 24" in ended.err
    cut = tonemill("slice", "--seconds", 0.5, stdin=stream).done().out
    assert "steps none -> slice" in tonemill("shard", tmp_path / "c", "-n", "--update", stdin=cut).done().err
    assert json.loads(ended.out)["dry_run"] is True


def test_several_processes_do_not_run_the_whole_pipe_again(tonemill: Tonemill, tmp_path: Path) -> None:
    words = f"train wavegan {tmp_path / 'corpus'} -o {tmp_path / 'run'} --steps 1 --devices 2"
    tonemill("run", words).refused(2, "--devices", "`tonemill train` itself")
