"""Every command that a message recommends is run, with what a person has in place of its placeholders."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
from advice import ELSEWHERE, FILLINGS, NAMES, PLACEHOLDER, ROOT, advised, commands_in, completed, missing
from advice_material import BESIDE, FILES, PIPES, READ, TRAINED
from conftest import Ended, Shell, Tonemill
from pages import Workplace

from tonemill.cli.app import Stages

KINDS = {name: kind for name, (kind, _) in Stages(name="tonemill").summaries().items()}
COMMANDS = {one.text: one.place for one in advised(frozenset(KINDS))}


def test_commands_of_messages_are_found_and_completed() -> None:
    text = "Not so; `tonemill slice` `x` tonemill. Try:\n  tonemill verify FOLDER   (at night)\ntonemill needs 3.11"
    assert list(commands_in(text, frozenset(KINDS))) == ["tonemill slice", "tonemill verify FOLDER"]
    assert completed("tonemill slice", KINDS) == "tonemill slice --help"
    assert completed("tonemill resample --rate R --channels mono", KINDS) == (
        "tonemill scan recordings | tonemill resample --rate 16000 --channels mono | tonemill shard NEW"
    )
    assert missing("tonemill open CORPUS | tonemill select '«other» > LIMIT'") == {"«other»", "LIMIT"}
    assert missing("tonemill write SOMEWHERE") == {"SOMEWHERE"}


def test_each_placeholder_of_a_message_has_a_filling_and_no_filling_is_left_over() -> None:
    lacking = {f"{COMMANDS[one]}: `{one}`": missing(one) for one in COMMANDS if one not in ELSEWHERE and missing(one)}
    assert not lacking, f"{lacking}: add what stands for it to tests/kit/advice.py"
    assert not {*FILLINGS, *ELSEWHERE} - {*COMMANDS}
    used = {(one, name) for one in COMMANDS for name in PLACEHOLDER.findall(one)}
    assert not {*NAMES} - {name for one, name in used if name not in getattr(FILLINGS.get(one), "names", {})}
    assert all(
        name in filling.names or (one, name) in used for one, filling in FILLINGS.items() for name in filling.names
    )


@pytest.mark.parametrize("test", sorted({*ELSEWHERE.values()}))
def test_a_command_that_is_run_elsewhere_has_its_test_there(test: str) -> None:
    path, _, name = test.partition("::")
    assert f"def {name}(" in (ROOT / path).read_text()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where all commands run, so that what one needed the next one finds."""
    return tmp_path_factory.mktemp("advised")


@pytest.fixture
def start(folder: Path, tonemill: Tonemill, shell: Shell, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Ended]:
    """Run a pipe in this process, stage by stage; in a shell, if it needs one."""
    monkeypatch.chdir(folder)

    def run(line: str) -> Ended:
        stages, redirected = line.partition(" > ")[::2]
        if "*" in line or "--debug" in line or "tonemill run " in line:
            return shell(f"cd {shlex.quote(str(folder))} && {line}", timeout=600)
        out, err = b"", ""
        for stage in stages.split(" | "):
            ended = tonemill(*shlex.split(stage)[1:], stdin=out)
            out, err = ended.out, err + ended.err
            if ended.code:
                return Ended(ended.code, out, f"{stage}\n{err}")
        if redirected:
            Path(redirected).write_bytes(out)
        return Ended(0, out, err)

    return run


NUMBERS = count(1)
RUN_HERE = sorted({*COMMANDS} - {*ELSEWHERE})


@pytest.mark.slow
@pytest.mark.parametrize("command", RUN_HERE)
def test_a_command_that_a_message_recommends_works(
    command: str, start: Callable[[str], Ended], folder: Path, tonemill: Tonemill
) -> None:
    workplace = Workplace(folder, start, files=FILES, pipes=PIPES, beside=BESIDE)
    for name in getattr(FILLINGS.get(command), "needs", ()):
        workplace.make(name)
    (folder / "report.html").unlink(missing_ok=True)  # A report of another kind is not replaced.
    line = completed(command, KINDS).replace("NEW", f"new/{next(NUMBERS)}")
    if "KEY" in line:
        workplace.make("corpora/digits")
        line = line.replace("KEY", key_of(folder / "corpora/digits"))
    workplace.run(line)


@pytest.mark.slow
@pytest.mark.parametrize("model", TRAINED)
def test_the_pipes_that_training_prints_work(model: str, start: Callable[[str], Ended], folder: Path) -> None:
    workplace = Workplace(folder, start, files=FILES, pipes=PIPES, beside=BESIDE)
    trained = workplace.run(f"tonemill train {model} {TRAINED[model]} -o new/{model} --steps 2")
    pipes = [line.strip() for line in trained.err.splitlines() if line.startswith("  tonemill ")]
    assert pipes
    stands = {
        **NAMES,
        "CORPUS": TRAINED[model].partition(" ")[0],
        "FOLDER": "dry" if model == "effect" else "raw",
        **READ,
    }
    for pipe in pipes:
        line = re.sub(r"(?<=write )FOLDER|(?<=shard )[A-Z]+", f"new/{next(NUMBERS)}", pipe)
        workplace.run(PLACEHOLDER.sub(lambda match: stands[match[0]], line))


def key_of(corpus: Path) -> str:
    from tonemill.pipelines.corpus.corpus import open_corpus

    return str(open_corpus(corpus).index().column("key")[0])
