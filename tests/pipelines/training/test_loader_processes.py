"""What loader processes meet: errors of a corpus keep their words, and a killed process costs no example."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import threading
import time
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
from making import QUIET

from tonemill.audiotools.errors import CorpusError, MachineError
from tonemill.models.wavegan import WaveGANConfig
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.runs.run import TrainConfig
from tonemill.pipelines.training.loader import Batches
from tonemill.pipelines.training.loader_processes import batches
from tonemill.pipelines.training.loop import train

LENGTH = 4096


def made(corpus: Corpus, streamed: bool = False) -> Batches:
    return Batches(corpus, "train", ("audio",), LENGTH, 8, first=1, streamed=streamed)


def kill_one() -> None:
    """As the kernel does when memory runs out."""
    os.kill(min(one.pid or 0 for one in multiprocessing.active_children()), signal.SIGKILL)


@pytest.mark.parametrize("streamed", [False, True])
def test_others_take_the_place_of_a_killed_one_and_no_example_is_lost(drums: Corpus, streamed: bool) -> None:
    printed: list[str] = []
    incoming, alone = batches(made(drums, streamed), 2, pin=False, say=printed.append), made(drums, streamed)
    for number in range(1, 14):
        if number == 3:
            kill_one()
            # An error may come only where a batch is waited for, and not into what the process does at that time.
            time.sleep(0.2)
        assert np.array_equal(next(incoming).audio["audio"], alone.batch(number).audio["audio"])
    assert len(printed) == 1 and "Fewer --loader-workers than 2" in printed[0]


def test_processes_that_are_killed_again_and_again_end_it(drums: Corpus, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Batches, "batch", lambda *_: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(MachineError, match="fewer --loader-workers than 1, or with 0; `tonemill verify "):
        next(batches(made(drums), 1, pin=False))


@pytest.mark.parametrize("processes", [0, 1])
def test_an_error_of_the_corpus_names_the_file_and_its_mend_and_what_was_learned_is_saved(
    drums: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    corpus = open_corpus(shutil.copytree(drums.folder, tmp_path / "copy"))
    read = Batches.batch

    def batch(self: Batches, number: int, *part: int) -> object:
        if number == 2:
            shutil.rmtree(corpus.folder / "train", ignore_errors=True)
        return read(self, number, *part)

    settings = TrainConfig(steps=4, batch_size=4, loader_workers=processes, listen_clips=1)
    config = WaveGANConfig(length=LENGTH, dim=1, critic_steps=1)
    with monkeypatch.context() as patched:
        patched.setattr(Batches, "batch", batch)
        with pytest.raises(CorpusError, match=rf"train/\d+.tar is missing. `tonemill repair {corpus.folder}`"):
            train("wavegan", config, settings, corpus, tmp_path / "run", QUIET)
    shutil.copytree(drums.folder / "train", corpus.folder / "train")
    saved = [path.name for path in (tmp_path / "run/checkpoints").iterdir()]
    assert saved == ["00000002"]
    assert train("wavegan", config, settings, corpus, tmp_path / "run", QUIET).step == 4


def test_a_damaged_member_keeps_its_words(drums: Corpus, tmp_path: Path) -> None:
    corpus = open_corpus(shutil.copytree(drums.folder, tmp_path / "copy"))
    for tar in (corpus.folder / "train").glob("*.tar"):
        tar.write_bytes(bytes(tar.stat().st_size))
    with pytest.raises(CorpusError, match=r"^[0-9a-f-]+ in \S+.tar cannot be read: [^.]+\. `tonemill repair \S+`"):
        list(islice(batches(made(corpus), 1, pin=False), 1))


@pytest.mark.parametrize("processes", [0, 1])
def test_a_signal_need_not_wait_for_a_store_that_stalls(
    drums: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    """What was learned is saved while it waits, and no loader process that waits keeps the command from its end."""
    read, command = Batches.batch, os.getpid()

    def batch(self: Batches, number: int, *part: int) -> object:
        if number == 2:
            threading.Timer(1, os.kill, (command, signal.SIGTERM)).start()
            time.sleep(600)
        return read(self, number, *part)

    settings = TrainConfig(steps=4, batch_size=4, loader_workers=processes, listen_clips=1)
    config = WaveGANConfig(length=LENGTH, dim=1, critic_steps=1)
    monkeypatch.setattr(Batches, "batch", batch)
    stopped = train("wavegan", config, settings, drums, tmp_path / "run", QUIET)
    assert stopped.interrupted and stopped.step == stopped.run.checkpoint().step == 2
    deadline = time.monotonic() + 60
    while multiprocessing.active_children():
        assert time.monotonic() < deadline
        time.sleep(0.1)
