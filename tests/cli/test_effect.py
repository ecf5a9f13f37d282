"""Effect emulation as a person meets it: from two folders to a model that plays, and every way to get it wrong."""

from __future__ import annotations

import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import RATE, Ended, Shell, Tonemill, table

from tonemill.models.effect.model import Effect
from tonemill.pipelines.runs.run import open_run
from tonemill.pipelines.storage.json_files import write_sealed

PICTURES = {"waveforms.png", "error_spectrum.png", "transfer.png", "training.png"}
TINY = ("--network", "wavenet", "--preset", "nano", "--length", 512, "--stability-seconds", 0.5, "-q")


def notes(seconds: float, seed: int, level: float = 0.3) -> np.ndarray:
    """Bursts of coloured noise, four a second."""
    draws = np.random.default_rng(seed)
    size = RATE // 4
    bursts = draws.standard_normal((int(4 * seconds), size)) * np.exp(-5 * np.arange(size) / size)
    bursts *= draws.uniform(0.2, 1, (len(bursts), 1))
    coloured = np.convolve(bursts.ravel(), 0.8 ** np.arange(20), "full")[: bursts.size]
    return level * coloured / np.abs(coloured).max()


def write_pair(
    folder: Path, name: str, effect: Callable[[np.ndarray], np.ndarray], seed: int, seconds: float = 4
) -> None:
    dry = notes(seconds, seed)
    for role, signal in (("di", dry), ("pedal", effect(dry))):
        (folder / role).mkdir(parents=True, exist_ok=True)
        soundfile.write(folder / role / f"{name if role == 'pedal' else name.split('__')[0]}.wav", signal, RATE)


def driven(drive: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda dry: 0.8 * np.tanh(drive * dry)


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three dry files and their wets, and a wet of another that was recorded 37 samples late."""
    folder = tmp_path_factory.mktemp("pairs")
    for number in range(3):
        write_pair(folder, f"riff{number}", driven(4), number)
    return folder


@pytest.fixture(scope="module")
def corpus(pairs: Path, tonemill: Tonemill, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("corpora") / "pedal"
    stream = tonemill("pair", pairs / "di", pairs / "pedal", "-q").done().out
    stream = tonemill("slice", "--seconds", 2, "--tail", "keep", stdin=stream).done().out
    tonemill("shard", made, "--valid-where", 'path.startswith("riff2")', "-q", stdin=stream).done()
    return made


@pytest.mark.parametrize(
    ("words", "clips"),
    [
        (("--minutes", 0.005, "--device", "cpu"), 4),
        (("--minutes", 0.005, "--device", "cpu", "--batch-size", 2), 2),
        (("--steps", 1), 16),
    ],
)
def test_a_wavenet_trained_for_minutes_on_a_cpu_takes_few_clips_a_step(
    corpus: Path, tmp_path: Path, tonemill: Tonemill, words: tuple[object, ...], clips: int
) -> None:
    run = tmp_path / "run"
    tonemill("train", "effect", corpus, "-o", run, *TINY, *words).done()
    assert open_run(run).about["train_config"]["batch_size"] == clips
    # It goes on with as many, to steps or for minutes.
    tonemill("train", "effect", corpus, "-o", run, *TINY, "--steps", open_run(run).checkpoint("last").step + 1).done()
    tonemill("train", "effect", corpus, "-o", run, *TINY, "--minutes", 1e-4, "--device", "cpu").done()


@pytest.fixture(scope="module")
def run(corpus: Path, tonemill: Tonemill, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two steps of a short response, which nothing has to be compiled for."""
    folder = tmp_path_factory.mktemp("runs") / "pedal"
    short = ("--network", "fir", "--taps", 64, "--length", 512, "--stability-seconds", 0.5, "-q")
    tonemill("train", "effect", corpus, "-o", folder, "--steps", 2, "--batch-size", 2, *short).done()
    return folder


@pytest.mark.slow
def test_from_two_folders_to_a_model_that_plays(pairs: Path, shell: Shell, tmp_path: Path) -> None:
    """The commands of the page, through a shell."""
    place = shlex.quote(str(pairs))
    shell(
        f"tonemill pair -q {place}/di {place}/pedal | tonemill align | tonemill slice --seconds 2 --tail keep"
        " | tonemill shard -q corpora/pedal"
    ).done()
    shell(
        f"tonemill train effect corpora/pedal -o runs/pedal --steps 2 --batch-size 2 {shlex.join(map(str, TINY))}",
        timeout=120,
    ).done()
    shell(f"tonemill scan -q {place}/di/riff0.wav | tonemill render runs/pedal | tonemill write -q played/").done()
    shell("tonemill export runs/pedal --format nam -o pedal.nam").done()
    played, rate = soundfile.read(tmp_path / "played/riff0.wav")
    assert rate == RATE
    assert len(played) == 4 * RATE
    nam = json.loads((tmp_path / "pedal.nam").read_text())
    assert (nam["architecture"], len(nam["weights"]), nam["sample_rate"]) == ("WaveNet", 842, RATE)


def test_a_run_records_its_figures(run: Path) -> None:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    values = {name: value for line in lines for name, value in line.items()}
    assert {
        "esr",
        "esr_pre_emphasised",
        "esr_early",
        "esr_late",
        "mrstft",
        "mae",
        "silence_peak",
        "aliasing_db",
    } <= set(values)
    (folder,) = (run / "clips").iterdir()
    names = {path.name for path in folder.iterdir()}
    assert names >= {
        "figures.md",
        "waveforms.png",
        "error_spectrum.png",
        "transfer.png",
        "training.png",
        "00-model.wav",
    }


def test_figures_of_training_pairs_are_not_called_held_out(
    tonemill: Tonemill, pairs: Path, run: Path, tmp_path: Path
) -> None:
    (figures,) = (run / "clips").glob("*/figures.md")
    assert re.match(
        r"Step 2: ESR \S+ over \d+\.\d s of pairs, [a-z ]+ \(held out\)\.\n\n\| figure", figures.read_text()
    )
    stream = tonemill("pair", pairs / "di", pairs / "pedal", "-q").done().out
    tonemill("shard", tmp_path / "all", "-q", stdin=stream).done()
    short = ("--network", "fir", "--taps", 64, "--length", 512, "--stability-seconds", 0)
    ended = tonemill("train", "effect", tmp_path / "all", "-o", tmp_path / "r", "--steps", 1, "--batch-size", 1, *short)
    words = "of the split train that it is trained on, because none are held"
    assert words in ended.done().err
    (figures,) = (tmp_path / "r/clips").glob("*/figures.md")
    assert words in figures.read_text().splitlines()[0]


def test_help_shows_the_flags_of_the_chosen_network_alone(tonemill: Tonemill) -> None:
    wavenet = tonemill("train", "effect", "--help").done().out.decode()
    fir = tonemill("train", "effect", "--network", "fir", "--help").done().out.decode()
    assert "--preset" in wavenet
    assert "--taps" not in wavenet
    assert "--taps" in fir
    assert "--preset" not in fir


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--taps", 100), ("--taps is a setting of", "fir", "--network")),
        (("--history-noise", 0.1), ("--history-noise is a setting of autoregressive",)),
        (("--network", "transformer"), ("--network is 'transformer'", "wavenet")),
        (("--preset", "huge"), ("--preset", "standard")),
        (("--length", 1), ("--length is 1", "64")),
        (("--allow", "hum"), ("--allow is 'hum'", "latency")),
        (("--mse-weight", -1), ("--mse-weight is -1",)),
        (("--length", 30000), ("--length",)),
        (("--knobs", "drive"), ("no numbers named 'drive'", "--table")),
        (("--network", "autoregressive", "--unroll", 8, "--representation", "onehot"), ("--unroll", "linear")),
    ],
)
def test_settings_that_cannot_be_are_refused(
    tonemill: Tonemill, corpus: Path, tmp_path: Path, words: tuple[object, ...], expected: tuple[str, ...]
) -> None:
    ended = tonemill("train", "effect", corpus, "-o", tmp_path / "run", "--steps", 1, "-q", *words)
    assert ended.code in (1, 2)
    ended.refused(ended.code, *expected)
    assert not list(tmp_path.rglob("*.safetensors"))


def sharded(tonemill: Tonemill, folder: Path, place: Path) -> Ended:
    stream = tonemill("pair", folder / "di", folder / "pedal", "-q").done().out
    stream = tonemill("align", stdin=stream).done().out
    return tonemill("shard", place, "-q", stdin=stream)


def train(tonemill: Tonemill, corpus: Path, place: Path) -> Ended:
    return tonemill("train", "effect", corpus, "-o", place, "--steps", 1, *TINY)


def test_pairs_of_other_rate_channels_or_length_are_refused_before_a_corpus_is_made(
    tonemill: Tonemill, tmp_path: Path
) -> None:
    for name in ("good", "rate", "channels", "length"):
        write_pair(tmp_path, name, driven(4), 0)
    wet, _ = soundfile.read(tmp_path / "pedal/good.wav")
    soundfile.write(tmp_path / "pedal/rate.wav", wet, 2 * RATE)
    soundfile.write(tmp_path / "pedal/channels.wav", np.stack([wet, wet], 1), RATE)
    soundfile.write(tmp_path / "pedal/length.wav", np.concatenate([wet, np.zeros(2 * RATE)]), RATE)
    ended = sharded(tonemill, tmp_path, tmp_path / "corpus").done()
    assert (ended.line["ledger"]["kept"], ended.line["ledger"]["rejected"]) == (2, 2)
    why = {row["source"]: row["message"] for row in table(tmp_path / "corpus/rejects.parquet")}
    assert "tonemill resample --rate 8000" in why["rate.wav"]
    assert "tonemill channels mean" in why["channels.wav"]
    assert {row["samples"] for row in table(tmp_path / "corpus/index.parquet")} == {4 * RATE - 1}, "the longer is cut"
    stream = tonemill("pair", tmp_path / "di", tmp_path / "pedal/channels.wav", "-q").done().out
    tonemill("shard", tmp_path / "as-is", "-q", stdin=stream).done()
    ended = train(tonemill, tmp_path / "as-is", tmp_path / "run")
    ended.refused(ended.code, "tonemill", "channels")


def test_a_corpus_without_dry_and_wet_is_refused(tonemill: Tonemill, pairs: Path, tmp_path: Path) -> None:
    stream = tonemill("scan", pairs / "di", "-q").done().out
    tonemill("shard", tmp_path / "corpus", "-q", stdin=stream).done()
    ended = train(tonemill, tmp_path / "corpus", tmp_path / "run")
    ended.refused(ended.code, "holds audio", "pairs of dry and wet", "tonemill pair")


def test_a_silent_wet_is_refused_by_the_aligner_and_by_the_trainer(tonemill: Tonemill, tmp_path: Path) -> None:
    write_pair(tmp_path, "good", driven(4), 0)
    write_pair(tmp_path, "muted", np.zeros_like, 1)
    aligned = sharded(tonemill, tmp_path, tmp_path / "aligned").done().line
    assert (aligned["ledger"]["kept"], aligned["reasons"]) == (1, {"rejected: silent": 1})
    stream = tonemill("pair", tmp_path / "di", tmp_path / "pedal", "-q").done().out
    tonemill("shard", tmp_path / "as-is", "-q", stdin=stream).done()
    ended = train(tonemill, tmp_path / "as-is", tmp_path / "run")
    ended.refused(ended.code, "silence: ", "cable", "--allow silence")


def test_a_wet_above_full_scale_is_kept_as_the_message_recommends(tonemill: Tonemill, tmp_path: Path) -> None:
    """`normalize` gives each pair a gain of its own, which makes several effects of a distortion."""
    write_pair(tmp_path, "hot", driven(1), 0)
    dry, rate = soundfile.read(tmp_path / "di/hot.wav")
    soundfile.write(tmp_path / "pedal/hot.wav", 3 * np.tanh(5 * dry), rate, subtype="FLOAT")
    stream = tonemill("pair", tmp_path / "di", tmp_path / "pedal", "-q").done().out
    warned = tonemill("shard", tmp_path / "cut", "-q", stdin=stream).done().err
    assert "CLIPPED: 1 of 1" in warned and "--format wav --bits 32" in warned and "normalize" not in warned
    ended = train(tonemill, tmp_path / "cut", tmp_path / "run")
    ended.refused(ended.code, "clipping: ", "clipped in storing", "--format wav --bits 32")
    whole = tonemill("shard", tmp_path / "whole", "--format", "wav", "--bits", 32, "-q", stdin=stream).done()
    assert whole.line["clipped_examples"] == 0 and "CLIPPED" not in whole.err


def test_pairs_that_are_not_lined_up_are_refused(tonemill: Tonemill, tmp_path: Path) -> None:
    for number in range(3):
        write_pair(tmp_path, f"late{number}", lambda dry: np.concatenate([np.zeros(37), 0.5 * dry])[: dry.size], number)
    stream = tonemill("pair", tmp_path / "di", tmp_path / "pedal", "-q").done().out
    tonemill("shard", tmp_path / "corpus", "-q", stdin=stream).done()
    ended = train(tonemill, tmp_path / "corpus", tmp_path / "run")
    ended.refused(ended.code, "late by 37.0 samples", "tonemill align", "--allow latency")


@pytest.mark.slow
def test_knobs_that_some_pairs_do_not_tell_are_refused_and_then_left_out(tonemill: Tonemill, tmp_path: Path) -> None:
    write_pair(tmp_path, "a__od_drive=2", driven(2), 0)
    write_pair(tmp_path, "b__od_drive=8", driven(8), 1)
    write_pair(tmp_path, "c__od", driven(4), 2)
    sharded(tonemill, tmp_path, tmp_path / "corpus").done()
    ended = train(tonemill, tmp_path / "corpus", tmp_path / "run")
    ended.refused(ended.code, "have no value for the knob 'drive'", "--no-conditioning")
    tonemill(
        "train", "effect", tmp_path / "corpus", "-o", tmp_path / "run", "--steps", 1, "--no-conditioning", *TINY
    ).done()


@pytest.mark.slow
def test_knobs_are_learned_set_and_required(tonemill: Tonemill, piped: Callable[..., bytes], tmp_path: Path) -> None:
    for number, drive in enumerate((2, 5, 8)):
        write_pair(tmp_path, f"r{number}__od_drive={drive}", driven(drive), number)
    sharded(tonemill, tmp_path, tmp_path / "corpus").done()
    run = tmp_path / "run"
    train(tonemill, tmp_path / "corpus", run).done()
    assert open_run(run).model_config["knobs"] == ["drive"]
    scanned = piped(["scan", tmp_path / "di/r0.wav", "-q"])

    def played(name: str, *settings: object) -> Ended:
        stream = tonemill("render", run, *settings, stdin=scanned).done().out
        return tonemill("write", tmp_path / name, "-q", stdin=stream)

    played("soft", "--set", "drive=2").done()
    played("hard", "--set", "drive=8").done()
    soft, hard = (soundfile.read(tmp_path / name / "r0.wav")[0] for name in ("soft", "hard"))
    assert not np.array_equal(soft, hard)
    played("without_knob").refused(1, "condition")
    assert "--set drive=VALUE" in table(tmp_path / "without_knob/.tonemill/rejects.parquet")[0]["message"]
    tonemill("render", run, "--set", "drive=11", stdin=scanned).refused(2, "from 2 to 8")
    tonemill("render", run, "--set", "tone=1", stdin=scanned).refused(2, "no field 'tone'", "drive")
    tonemill("render", run, "--set", "drive", stdin=scanned).refused(2, "NAME=VALUE")


@pytest.mark.slow
def test_another_rate_is_resampled_and_reported_or_refused(
    tonemill: Tonemill, piped: Callable[..., bytes], run: Path, tmp_path: Path
) -> None:
    soundfile.write(tmp_path / "fast.wav", notes(2, 5), 2 * RATE)
    scanned = piped(["scan", tmp_path / "fast.wav", "-q"])
    stream = tonemill("render", run, stdin=scanned).done().out
    tonemill("shard", tmp_path / "corpus", "-q", stdin=stream).done()
    assert "sample_rate_from" in tonemill("inspect", tmp_path / "corpus").done().out.decode()
    stream = tonemill("render", run, stdin=scanned).done().out
    tonemill("write", tmp_path / "out", "-q", stdin=stream).done()
    played, rate = soundfile.read(tmp_path / "out/fast.wav")
    assert (rate, len(played)) == (RATE, RATE)
    stream = tonemill("render", run, "--other-rate", "refuse", stdin=scanned).done().out
    tonemill("write", tmp_path / "refused", "-q", stdin=stream).refused(1, "roles")
    (refused,) = table(tmp_path / "refused/.tonemill/rejects.parquet")
    assert f"plays {RATE} Hz" in refused["message"]
    assert f"tonemill resample --rate {RATE}" in refused["message"]


@pytest.mark.parametrize("flag", ["--block", "--lockstep", "--segments", "--batch-size"])
def test_a_size_of_0_is_refused(
    tonemill: Tonemill, piped: Callable[..., bytes], pairs: Path, run: Path, flag: str
) -> None:
    scanned = piped(["scan", pairs / "di/riff0.wav", "-q"])
    tonemill("render", run, flag, 0, stdin=scanned).refused(2, f"{flag} is 0", "1")


@pytest.mark.slow
def test_a_block_of_any_size_renders_the_same_samples(
    tonemill: Tonemill, piped: Callable[..., bytes], pairs: Path, run: Path, tmp_path: Path
) -> None:
    rendered = {}
    for size in (37, 64, 100_000):
        stream = piped(["scan", pairs / "di/riff0.wav", "-q"], ["render", run, "--block", size])
        tonemill("write", tmp_path / str(size), "-q", stdin=stream).done()
        rendered[size] = soundfile.read(tmp_path / str(size) / "riff0.wav")[0]
    # A sample halfway between two steps of 16 bits may round to either.
    for size in (37, 64):
        np.testing.assert_allclose(rendered[size], rendered[100_000], atol=1.01 / 32768)
    stream = piped(["scan", pairs / "di/riff0.wav", "-q"], ["render", run, "--lockstep", 4])
    tonemill("write", tmp_path / "lockstep", "-q", stdin=stream).refused(2, "--lockstep")


def test_a_nam_file_that_was_cut_or_is_none_is_refused(tonemill: Tonemill, run: Path, tmp_path: Path) -> None:
    whole = tmp_path / "whole.nam"
    tonemill("export", run, "-o", whole).done()
    tonemill("export", run, "-o", whole).refused(1, "is there already", "--overwrite")
    content = json.loads(whole.read_text())
    for name, change in {
        "short": {"weights": content["weights"][:-7]},
        "long": {"weights": [*content["weights"], 0.0]},
    }.items():
        (tmp_path / f"{name}.nam").write_text(json.dumps({**content, **change}))
        count = len(content["weights"]) + (1 if name == "long" else -7)
        tonemill("export", tmp_path / f"{name}.nam", "-o", tmp_path / "out.nam").refused(
            2, f"{name}.nam", f"it holds {count} weights", "64"
        )
    for name, text in {
        "none": "wavenet",
        "list": "[]",
        "other": json.dumps({**content, "architecture": "Tube"}),
    }.items():
        (tmp_path / f"{name}.nam").write_text(text)
        tonemill("export", tmp_path / f"{name}.nam", "-o", tmp_path / "out.nam").refused(
            2, f"{name}.nam", "cannot be read as a .nam file"
        )
    assert not (tmp_path / "out.nam").exists()
    tonemill("export", tmp_path / "nowhere.nam", "-o", tmp_path / "out.nam").refused(2, "There is no file")
    tonemill("export", whole, "-o", tmp_path / "again.nam").done()
    assert json.loads((tmp_path / "again.nam").read_text())["weights"] == content["weights"]


def test_a_nam_file_has_the_levels_and_kinds_that_players_read(tonemill: Tonemill, run: Path, tmp_path: Path) -> None:
    levels = ("--input-level-dbu", 12.5, "--output-level-dbu", 10, "--gear-type", "amp", "--tone-type", "crunch")
    tonemill("export", run, "-o", tmp_path / "one.nam", *levels).done()
    # Written again, it keeps what it has.
    tonemill("export", tmp_path / "one.nam", "-o", tmp_path / "two.nam", "--gear-make", "Bee").done()
    expected = {"input_level_dbu": 12.5, "output_level_dbu": 10, "gear_type": "amp", "tone_type": "crunch"}
    for name, more in (("one", {}), ("two", {"gear_make": "Bee"})):
        metadata = json.loads((tmp_path / f"{name}.nam").read_text())["metadata"]
        assert metadata.items() >= {**expected, **more}.items()
        assert {"loudness", "gain"} <= set(metadata) and metadata["date"]["year"] >= 2026
    tonemill("export", run, "-o", tmp_path / "bad.nam", "--input-level-dbu", "nan").refused(
        2, "--input-level-dbu is nan"
    )


def test_a_nam_file_renders_is_inspected_and_is_trained_further(
    tonemill: Tonemill, run: Path, pairs: Path, corpus: Path, tmp_path: Path
) -> None:
    file = tmp_path / "pedal.nam"
    tonemill("export", run, "-o", file, "--gear-make", "Acme", "--input-level-dbu", 12.5).done()
    scanned = tonemill("scan", pairs / "di/riff0.wav", "-q").done().out
    outputs = []
    for number, place in enumerate((run, file)):
        stream = tonemill("render", place, "--block", 700, stdin=scanned).done().out
        tonemill("write", tmp_path / f"{number}", "-q", stdin=stream).done()
        outputs.append(soundfile.read(tmp_path / f"{number}/riff0.wav")[0])
    assert len(outputs[0]) == len(outputs[1]) == 4 * RATE
    assert np.abs(outputs[0] - outputs[1]).max() < 2e-4
    # The recipe holds the digest: another file of that name is not taken for it.
    stream = tonemill("render", file, stdin=scanned).done().out
    file.write_text(file.read_text().replace('"name"', '"Name"'))
    tonemill("write", tmp_path / "other", "-q", stdin=stream).refused(
        1, "is not the checkpoint that the recipe was made for"
    )
    assert f"{RATE}" in tonemill("inspect", file).done().out.decode()
    facts = json.loads(tonemill("inspect", file, "--json").done().out)
    assert (facts["model"], facts["sample_rate"]) == ("effect", RATE)
    assert (facts["about"]["gear make"], facts["about"]["input level"]) == ("Acme", "12.5 dBu")
    assert re.fullmatch(r"-?\d+(\.\d+)? dB", facts["about"]["loudness"])
    assert "FIR of 64 parameters, with a receptive field of 64 samples" in facts["about"]["network"]
    assert "--network fir --taps 64" in facts["about"]["flags of train effect"]
    short = ("--length", 512, "--stability-seconds", 0, "--steps", 1, "--batch-size", 1, "-q")
    begin = ("train", "effect", corpus, "--init-from", file, *short)
    tonemill(*begin, "-o", tmp_path / "on", "--network", "fir", "--taps", 64).done()
    tonemill(*begin, "-o", tmp_path / "no", "--network", "fir", "--taps", 65).refused(
        1, "pedal.nam", "another structure than these settings", "--network fir --taps 64"
    )
    tonemill("render", file, "--checkpoint", "best", stdin=scanned).done()
    tonemill("render", file, "--checkpoint", "7", stdin=scanned).refused(1, "leave --checkpoint 7 out")
    (tmp_path / "song.nam").write_text("{}")
    tonemill("render", tmp_path / "song.nam", stdin=scanned).refused(2, "song.nam", "cannot be read as a .nam file")
    tonemill("render", pairs / "di/riff0.wav", stdin=scanned).refused(2, "neither a run nor a model file")
    tonemill("render", tmp_path / "gone.nam", stdin=scanned).refused(1, "There is no file", "gone.nam")


def test_export_lists_the_forms_of_a_run_and_their_options(tonemill: Tonemill, run: Path) -> None:
    help_text = " ".join(tonemill("export", run, "--help").done().out.decode().split())
    for words in ("Neural Amp Modeler", "ONNX Runtime", "LibTorch", "no longer develops", "--gear-make"):
        assert words in help_text


def test_the_name_of_the_file_chooses_its_kind(tonemill: Tonemill, run: Path, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    tonemill("export", run, "-o", tmp_path / "amp.onnx").done()
    assert onnx.load(tmp_path / "amp.onnx").graph.output[0].name == "wet"
    tonemill("export", run, "-o", tmp_path / "amp.NAM", "--gear-type", "amp").done()
    assert json.loads((tmp_path / "amp.NAM").read_text())["metadata"]["gear_type"] == "amp"
    tonemill("export", tmp_path / "amp.NAM", "-o", tmp_path / "again.onnx").done()
    assert onnx.load(tmp_path / "again.onnx").graph.output[0].name == "wet"
    wrong = tonemill("export", run, "-o", tmp_path / "two.nam", "--format", "onnx")
    wrong.refused(2, "two.nam, and --format is onnx. Name the file .onnx")
    tonemill("export", run, "-o", tmp_path, "--overwrite").refused(1, "is a folder. Name the file in it with -o")


def test_an_export_that_renders_otherwise_is_not_named(
    tonemill: Tonemill, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "amp.nam"
    shown = tonemill("export", run, "-o", file).done().err
    assert float(shown.split("differs from the run's own sound by ")[1].split(" dB")[0]) < -90
    monkeypatch.setattr(Effect, "export_error_db", lambda *_: -60.0)
    tonemill("export", run, "-o", tmp_path / "other.nam").refused(1, "differs", "by -60 dB", "less than -90 dB")
    assert not (tmp_path / "other.nam").exists()


def test_the_best_checkpoint_renders_unless_another_is_named(
    tonemill: Tonemill, run: Path, pairs: Path, tmp_path: Path
) -> None:
    scanned = tonemill("scan", pairs / "di", "-q").done().out
    copy = tmp_path / "pedal"
    shutil.copytree(run, copy)
    last = max((copy / "checkpoints").iterdir())
    worse = copy / "checkpoints" / f"{int(last.name) + 100:08d}"
    shutil.copytree(last, worse)
    state = {**json.loads((last / "state.json").read_text()), "step": int(worse.name), "score_step": int(worse.name)}
    state.pop("seal")
    write_sealed(worse / "state.json", {**state, "score": 1e9})
    found = tonemill("render", copy, stdin=scanned).done()
    assert f"the best checkpoint, of step {int(last.name)}" in found.err
    assert b'"trained_steps":' + str(int(last.name)).encode() in found.out
    for words in (("--checkpoint", "last"), ("--checkpoint", int(worse.name))):
        other = tonemill("render", copy, *words, stdin=scanned).done()
        assert other.err == "" and b'"trained_steps":' + str(int(worse.name)).encode() in other.out
