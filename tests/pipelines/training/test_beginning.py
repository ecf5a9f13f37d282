"""What a run begins with: statistics of its corpus, weights of another run, and nothing that binds a refused one."""

from __future__ import annotations

import dataclasses
import io
from pathlib import Path
from typing import Any

import pytest
import torch
from earlier import DATA
from making import QUIET
from safetensors.torch import load_file, save_file

from tonemill.audiotools.errors import CorpusError, RunError, UsageError
from tonemill.models.contract import load_model
from tonemill.models.effect.settings import config_of_network
from tonemill.models.specgan import SpecGAN, SpecGANConfig
from tonemill.models.wavegan import WaveGAN, WaveGANConfig
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.runs.checkpoint_folder import STATE, Checkpoint
from tonemill.pipelines.runs.checkpoints import State
from tonemill.pipelines.runs.run import Run, TrainConfig
from tonemill.pipelines.storage.commit import fingerprint
from tonemill.pipelines.storage.json_files import write_sealed
from tonemill.pipelines.training.beginning import batches_for
from tonemill.pipelines.training.loop import train
from tonemill.pipelines.training.run_folder import parents_for

TINY: dict[str, Any] = {
    "specgan": SpecGANConfig(length=4096, dim=1, critic_steps=2, griffin_lim_iterations=1),
    "wavegan": WaveGANConfig(length=4096, dim=1, critic_steps=2),
}
SHORT = TrainConfig(steps=2, batch_size=4, checkpoint_every=1000, listen_every=1000, listen_clips=1, ema=0.999)
DOUBTS = ("latency", "clipping", "short", "silence", "noise", "effects")


@pytest.fixture(scope="module")
def pairs() -> Corpus:
    return open_corpus(DATA / "corpora" / "pairs")


def effect(network: str, **settings: Any) -> Any:
    wanted = {"length": 512, "conditioning": False, "allow": DOUBTS, "stability_seconds": 0.0, **settings}
    return config_of_network(network)(**wanted)


def trained(
    name: str, corpus: Corpus, folder: Path, settings: Any = None, *, source: Run | None = None, **more: Any
) -> tuple[dict[str, torch.Tensor], Run, str]:
    """Train a little; the weights of the last checkpoint, the run, and what a person reads meanwhile."""
    words = io.StringIO()
    run_settings = dataclasses.replace(SHORT, **more)
    chosen = TINY[name] if settings is None else settings
    run = train(name, chosen, run_settings, corpus, folder, Progress(stream=words), source).run
    return load_file(run.checkpoint().weights), run, words.getvalue()


def fitted(drums: Corpus) -> torch.Tensor:
    """The mean that SpecGAN's own `fit` gives, of each bin."""
    model = SpecGAN(dataclasses.replace(TINY["specgan"], sample_rate=16000, channels=1))
    dataset = batches_for(model, drums, SHORT)
    model.fit(dataset.batch(number) for number in range(-(-dataset.examples // SHORT.batch_size)))
    return model.spectrogram.mean


def test_averages_hold_the_statistics_of_the_corpus(drums: Corpus, tmp_path: Path) -> None:
    weights, _, _ = trained("specgan", drums, tmp_path / "run", steps=60)
    wanted = fitted(drums)
    assert wanted.abs().max() > 1
    torch.testing.assert_close(weights["average.spectrogram.mean"], wanted)
    for name in ("mean", "deviation"):
        assert torch.equal(weights[f"average.spectrogram.{name}"], weights[f"spectrogram.{name}"])


@pytest.mark.parametrize(("network", "weight"), [("fir", "response"), ("polynomial", "responses")])
def test_averages_begin_with_the_first_weights_that_were_fitted(
    network: str, weight: str, pairs: Corpus, tmp_path: Path
) -> None:
    weights, _, _ = trained("effect", pairs, tmp_path / "run", effect(network, taps=64), batch_size=2)
    learned, average = (weights[f"{prefix}network.{weight}"] for prefix in ("", "average."))
    unfitted = torch.zeros_like(learned)
    unfitted.view(-1)[0] = 1
    # Two steps of a rate of 1e-5 move no weight by more.
    torch.testing.assert_close(average, learned, atol=1e-4, rtol=0)
    assert (average - unfitted).abs().max() > 1e-2


def test_going_on_with_averages_is_bit_exact(drums: Corpus, tmp_path: Path) -> None:
    _, whole, _ = trained("specgan", drums, tmp_path / "whole", steps=6)
    for steps in (2, 5, 6):
        _, parts, _ = trained("specgan", drums, tmp_path / "parts", steps=steps)
    assert parts.checkpoint().digest == whole.checkpoint().digest


def test_early_averages_are_short() -> None:
    """After t steps of a steady decay of 0.9999 next to nothing would have moved; now the beginning weighs little."""
    model = WaveGAN(dataclasses.replace(TINY["wavegan"], sample_rate=16000, channels=1))
    state = State(model, {}, 0.9999)
    name = "generator.dense.bias"
    begun = state.average[name].clone()
    with torch.no_grad():
        model.generator.dense.bias.add_(1.0)
    left = 1.0
    for step in range(1, 41):
        state.advance()
        left *= (1 + step) / (10 + step)
    torch.testing.assert_close(state.average[name], begun + 1 - left)
    assert left < 1e-3


def test_what_another_run_does_not_have_is_fitted(drums: Corpus, tmp_path: Path) -> None:
    _, source, _ = trained("wavegan", drums, tmp_path / "wavegan")
    weights, _, words = trained("specgan", drums, tmp_path / "specgan", source=source)
    torch.testing.assert_close(weights["spectrogram.mean"], fitted(drums))
    assert "Not taken: spectrogram." in words
    assert "Fitted to the corpus: spectrogram.deviation, spectrogram.mean." in words
    assert "discriminator (1 of " in words or "generator (1 of " in words


def rewrite(checkpoint: Checkpoint, tensors: dict[str, torch.Tensor]) -> None:
    """Give a checkpoint other weights, and its state their digest."""
    save_file(tensors, checkpoint.weights)
    digest = fingerprint(checkpoint.weights)["sha256"]
    write_sealed(checkpoint.folder / STATE, {**checkpoint.state, "sha256": digest})


def test_what_another_run_has_is_taken_with_its_averages(drums: Corpus, tmp_path: Path) -> None:
    """Of a run whose statistics are others', as of another corpus."""
    before, source, _ = trained("specgan", drums, tmp_path / "one", steps=4)
    moved = {**before, "spectrogram.mean": before["spectrogram.mean"] + 1}
    moved["average.generator.dense.bias"] = before["generator.dense.bias"] + 5
    rewrite(source.checkpoint(), moved)
    after, _, words = trained("specgan", drums, tmp_path / "two", steps=1, source=source)
    torch.testing.assert_close(after["spectrogram.mean"], moved["spectrogram.mean"])
    torch.testing.assert_close(after["generator.dense.bias"], moved["average.generator.dense.bias"])
    assert "spectrogram (2 of 2 tensors)" in words
    assert "Not taken" not in words
    assert "Fitted" not in words


def test_numbers_that_belong_together_are_not_mixed(pairs: Corpus, tmp_path: Path) -> None:
    """Of a response of another length only what surrounds it agrees in shape; it is fitted with the response."""
    _, source, _ = trained("effect", pairs, tmp_path / "one", effect("polynomial", taps=64), batch_size=2)
    checkpoint = source.checkpoint()
    rewrite(checkpoint, {**load_file(checkpoint.weights), "network.peak": torch.tensor([123.0])})
    weights, _, words = trained("effect", pairs, tmp_path / "two", effect("polynomial", taps=32), source=source)
    assert weights["network.peak"] < 1.1
    assert "network.peak" in words


def test_a_run_of_nothing_alike_is_refused_and_leaves_nothing(drums: Corpus, pairs: Corpus, tmp_path: Path) -> None:
    _, source, _ = trained("effect", pairs, tmp_path / "effect", effect("fir", taps=64), batch_size=2)
    with pytest.raises(RunError, match="none of its weights \\(effect\\)"):
        trained("wavegan", drums, tmp_path / "run", source=source)
    assert not (tmp_path / "run").exists()


def test_the_mend_of_a_refused_training_is_taken(drums: Corpus, pairs: Corpus, tmp_path: Path) -> None:
    folder = tmp_path / "effect"
    with pytest.raises(CorpusError, match="--allow short"):
        trained("effect", pairs, folder, effect("fir", taps=64, allow=()), batch_size=2)
    assert not folder.exists()
    assert trained("effect", pairs, folder, effect("fir", taps=64), batch_size=2)[1].checkpoint().step == 2
    folder = tmp_path / "wavegan"
    with pytest.raises(CorpusError, match="--length"):
        trained("wavegan", drums, folder, dataclasses.replace(TINY["wavegan"], length=8192))
    assert not folder.exists()
    assert trained("wavegan", drums, folder)[1].checkpoint().step == 2


def test_a_run_of_which_no_step_was_saved_binds_no_command(
    drums: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise CorpusError("the disk with the corpus went away")

    with monkeypatch.context() as patch:
        patch.setattr(WaveGAN, "training_step", fail)
        with pytest.raises(CorpusError, match="went away"):
            trained("wavegan", drums, tmp_path / "run")
    run = trained("wavegan", drums, tmp_path / "run", dataclasses.replace(TINY["wavegan"], dim=2))[1]
    assert (run.about["model_config"]["dim"], run.checkpoint().step) == (2, 2)


def test_a_batch_that_is_too_small_is_refused_before_anything_is_made(drums: Corpus, tmp_path: Path) -> None:
    settings = load_model("classifier").Config(chunk_seconds=0.4, label="kind")
    with pytest.raises(UsageError, match=r"--batch-size is 1, but classifier .* needs 2 or more"):
        trained("classifier", drums, tmp_path / "run", settings, batch_size=1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
        MemoryError("Unable to allocate 3.00 GiB for an array"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"),
    ],
)
def test_a_step_without_memory_names_a_smaller_batch(
    error: Exception, drums: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise error

    trained("wavegan", drums, tmp_path / "run")
    with monkeypatch.context() as patch:
        patch.setattr(WaveGAN, "training_step", full)
        with pytest.raises(RunError, match=r"--batch-size 4\. Try --batch-size 2 .* --init-from .* of step 2"):
            trained("wavegan", drums, tmp_path / "run", steps=4)
        with pytest.raises(RunError, match=r"--batch-size 1\. Try a smaller"):
            trained("wavegan", drums, tmp_path / "other", batch_size=1)
    assert trained("wavegan", drums, tmp_path / "run", steps=3)[1].checkpoint().step == 3
    assert trained("wavegan", drums, tmp_path / "other", batch_size=2)[1].checkpoint().step == 2


def test_another_error_of_a_step_is_passed_on(drums: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(WaveGAN, "training_step", wrong)
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        train("wavegan", TINY["wavegan"], SHORT, drums, tmp_path / "run", QUIET)


def test_a_variant_without_the_setting_of_a_parent_leans_on_none(tmp_path: Path) -> None:
    """Of diffusion only the latent task names a codec."""
    model = load_model("diffusion")
    assert parents_for(model, model.Config(), tmp_path) == {}
    assert parents_for(model, model.variants()["vocode"](), tmp_path) == {}


def test_a_run_does_not_go_on_with_another_corpus_and_the_digests_tell_which(drums: Corpus, tmp_path: Path) -> None:
    trained("wavegan", drums, tmp_path / "run", steps=1)
    other = dataclasses.replace(drums, about={**drums.about, "digest": "0123456789abcdef" * 4})
    with pytest.raises(RunError, match=f"{drums.about['digest'][:16]}.* has 0123456789abcdef: it is another one"):
        trained("wavegan", other, tmp_path / "run", steps=1)
