"""The commands that messages recommend, as they stand in the code, and what stands for each of their placeholders."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARTS = ("cli", "pipelines", "models", "audiotools")

STATES_A_VERSION = re.compile(r"tonemill «(version|about)")
"""The lines that begin with the name of the program and are no command."""

PLACEHOLDER = re.compile(r"«[^»]*»|\{[^}]*\}|(?<![\w/.-])[A-Z][A-Z-]*(?![\w-])|\.\.\.")
"""A value that the code puts in, a word in capitals, or dots."""


@dataclass(frozen=True)
class Advised:
    """A command that a message recommends.

    Args:
        text: the command, with «expression» for what the code puts into it.
        place: file and line of the message.
    """

    text: str
    place: str


def text_of(node: ast.Constant | ast.JoinedStr) -> str:
    parts = node.values if isinstance(node, ast.JoinedStr) else [node]
    return "".join(
        str(part.value) if isinstance(part, ast.Constant) else f"«{ast.unparse(part.value)}»"  # type: ignore[attr-defined]
        for part in parts
    )


def commands_in(text: str, names: frozenset[str]) -> Iterator[str]:
    """The commands of a message: between backticks, or a line of their own; remarks in brackets are left out."""
    for quoted in re.findall(r"`([^`]*)`", text):
        if re.search(r"\btonemill ", quoted):
            yield quoted
    for line in text.splitlines():
        found = re.fullmatch(r"\s*(tonemill ([^\s`]+)[^`]*?)(\s{3,}\(.*\))?", line)
        if found and (found[2] in names or found[2].startswith("«")) and not STATES_A_VERSION.match(line.strip()):
            yield found[1]


def advised(names: frozenset[str]) -> list[Advised]:
    """Every command in a literal of the code that is no docstring, once.

    Args:
        names: of the commands there are.
    """
    found: dict[str, Advised] = {}
    for path in [one for part in PARTS for one in sorted((ROOT / part).rglob("*.py"))]:
        tree = ast.parse(path.read_text())
        within = {
            id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values
        } | docstrings_of(tree)
        for node in ast.walk(tree):
            is_text = isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and type(node.value) is str)
            if is_text and id(node) not in within:
                for command in commands_in(text_of(node), names):  # type: ignore[arg-type]
                    found.setdefault(command, Advised(command, f"{path.relative_to(ROOT)}:{node.lineno}"))  # type: ignore[attr-defined]
    return list(found.values())


def docstrings_of(tree: ast.Module) -> set[int]:
    """The literals that are docstrings: they are for readers of the code."""
    bodies = [
        node.body
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef) and node.body
    ]
    return {
        id(statement.value)
        for body in bodies
        for statement in body
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    }


@dataclass(frozen=True)
class Filling:
    """How a command is completed that a message gives in part.

    Args:
        names: what stands for its placeholders, before those of `NAMES`.
        before: the pipe into which it is put.
        more: words behind it.
        needs: what is made before, for it stands where the command writes.
    """

    names: Mapping[str, str] = field(default_factory=dict)
    before: str = ""
    more: str = ""
    needs: tuple[str, ...] = ()


NAMES = {
    "FOLDER": "recordings",
    "CORPUS": "corpora/digits",
    "RUN": "runs/a",
    "GENERATED": "corpora/generated",
    "REAL": "corpora/real",
    "REASON": "too_short",
    "FILE": "drums.wav",
    "DRY": "dry",
    "WET": "wet",
    "R": "16000",
    "SEED": "3",
    "MODEL": "wavegan",
    "THIS-FOLDER": "study",
    "...": "",
    "{label}": "{label}",
    "{take}": "{take}",
    "«corpus.name»": "corpora/digits",
    **dict.fromkeys(("«self.sample_rate»", "«parent.sample_rate»", "«rate»"), "16000"),
    **dict.fromkeys(("NEW", "OTHER", "LATENTS", "LOOK"), "NEW"),
    **dict.fromkeys(
        ("«folder»", "«found.folder»", "«output.folder»", "«self._output.folder»", "«self.folder»"), "corpora/b"
    ),
    "«ready.folder.parent»": "corpora/b",
}
"""What stands for a placeholder wherever no filling of its own does; NEW is a folder that is not there."""

PAIR = "tonemill pair dry wet"
LOOPS = "tonemill scan loops"
INSTEAD = ("corpora/there",)

FILLINGS: dict[str, Filling] = {
    "tonemill --debug ...": Filling({"...": "explain"}),
    "tonemill align --correct latency,polarity,drift": Filling(before=PAIR),
    "tonemill align --max-clipping 0.001": Filling(before=PAIR),
    "tonemill channels «'mean' if self.channels == 1 else 'stereo'»": Filling(
        {"«'mean' if self.channels == 1 else 'stereo'»": "stereo"}
    ),
    "tonemill channels «choice»": Filling({"«choice»": "mean"}),
    "tonemill doctor «shlex.quote('/another/disk')»": Filling(
        {"«shlex.quote('/another/disk')»": "recordings"}, more="--only folder"
    ),
    "tonemill evaluate --json": Filling(more="corpora/generated --against corpora/real"),
    "tonemill evaluate GENERATED --against REAL --judge «folder»": Filling({"«folder»": "runs/classifier"}),
    "tonemill filter --where": Filling(more="'peak_db < 0'"),
    "tonemill inspect CORPUS KEY": Filling({"KEY": "KEY"}),
    "tonemill loops --bars 1": Filling(before=LOOPS),
    "tonemill loops --bpm 120": Filling(before=LOOPS),
    "tonemill open CORPUS | tonemill render RUN --as encode | tonemill shard LATENTS": Filling(
        {"CORPUS": "corpora/loops", "RUN": "runs/rave"}
    ),
    "tonemill open CORPUS | tonemill render «run» --as «ENCODE» | tonemill shard LATENTS": Filling(
        {"CORPUS": "corpora/loops", "«run»": "runs/rave", "«ENCODE»": "encode"}
    ),
    "tonemill open FILE": Filling({"FILE": "tars/sounds.tar"}),
    "tonemill open «shlex.quote(str(plain))»": Filling({"«shlex.quote(str(plain))»": "tars/sounds.tar"}),
    "tonemill open FOLDER": Filling({"FOLDER": "tars"}),
    "tonemill open «against or 'PAIRS'» | tonemill render RUN | tonemill shard NEW": Filling(
        {"«against or 'PAIRS'»": "corpora/amp", "RUN": "runs/amp"}
    ),
    "tonemill open «corpus.name» | tonemill select '«name» != None' | tonemill shard OTHER": Filling(
        {"«name»": "speaker"}
    ),
    "tonemill open «corpus.name» | tonemill select '«name» != None' | tonemill shard NEW": Filling(
        {"«name»": "speaker"}
    ),
    "tonemill pair --table": Filling(more="pairs.csv dry wet"),
    "tonemill pair DRY WET | tonemill align | tonemill slice --seconds 10 --tail keep | tonemill shard CORPUS": Filling(
        {"CORPUS": "NEW"}
    ),
    "tonemill remove «folder» ...": Filling({"«folder»": "corpora/a", "...": "--where 'speaker == \"theo\"'"}),
    "tonemill render RUN": Filling(before="tonemill seeds 4"),
    "tonemill render RUN --as encode": Filling({"RUN": "runs/rave"}, before="tonemill open corpora/loops"),
    "tonemill render RUN --set «name»=«(low + high) / 2»": Filling(
        {"RUN": "runs/knobs", "«name»": "drive", "«(low + high) / 2»": "0.4"}, before="tonemill scan dry"
    ),
    "tonemill scan --table": Filling(more="sounds.csv sounds"),
    "tonemill scan --table FILE": Filling({"FILE": "sounds.csv"}, more="sounds"),
    "tonemill scan -": Filling(before="find recordings -name '7_*.wav'"),
    "tonemill scan ... | tonemill resample «flag» | tonemill shard «corpus.name» --overwrite": Filling(
        {"...": "recordings", "«flag»": "--rate 44100 --channels mono", "«corpus.name»": "corpora/there"}, needs=INSTEAD
    ),
    "tonemill scan FOLDER --fields '{label}_{take}' | ... | tonemill shard OTHER": Filling({"FOLDER": "named"}),
    "tonemill scan FOLDER --table TABLE": Filling({"FOLDER": "sounds", "TABLE": "sounds.csv"}),
    "tonemill scan FOLDER --table TABLE | ... | tonemill shard «corpus.name» --update": Filling(
        {"FOLDER": "sounds", "TABLE": "sounds.csv", "«corpus.name»": "corpora/there"}, needs=INSTEAD
    ),
    "tonemill scan FOLDER | tonemill resample --rate 16000 --channels mono | "
    "tonemill loops --bars {bars} --target-bpm {bpm:g} | tonemill shard CORPUS": Filling(
        {"FOLDER": "loops", "{bars}": "1", "{bpm:g}": "120", "CORPUS": "NEW"}
    ),
    "tonemill scan FOLDER | tonemill resample --rate «self.sample_rate» | "
    "tonemill loops «bars» --target-bpm «tempo» | tonemill shard CORPUS": Filling(
        {"FOLDER": "loops", "«bars»": "--bars 1", "«tempo»": "117.1875", "CORPUS": "NEW"}
    ),
    "tonemill scan FOLDER | tonemill shard «folder»": Filling({"«folder»": "NEW"}),
    "tonemill scan FOLDER | tonemill slice --seconds 1 | tonemill shard CORPUS": Filling({"CORPUS": "NEW"}),
    "tonemill scan FOLDER | tonemill «command» ...": Filling({"«command»": "resample", "...": "--rate 8000"}),
    "tonemill scan «shlex.join(ctx.args)» | tonemill «shlex.join([ctx.info_name or '', *own])»": Filling(
        {"«shlex.join(ctx.args)»": "recordings", "«shlex.join([ctx.info_name or '', *own])»": "slice --seconds 0.5"}
    ),
    "tonemill seeds 2 --interpolate «steps»": Filling({"«steps»": "5"}),
    "tonemill seeds 8 --vary SEED --amount «amount»": Filling({"«amount»": "0.3"}),
    "tonemill select 'effect == \"«effects[0]»\"'": Filling({"«effects[0]»": "fuzz"}, before=PAIR),
    "tonemill select '«name» != None'": Filling({"«name»": "drive"}, before="tonemill pair dry knobs"),
    "tonemill shard --update": Filling(before="tonemill scan digits", more="corpora/there", needs=INSTEAD),
    "tonemill shard CORPUS --update": Filling(
        {"CORPUS": "corpora/there"}, before="tonemill scan digits", needs=INSTEAD
    ),
    "tonemill shard CORPUS --range 0:100": Filling({"CORPUS": "NEW"}),
    "tonemill shard CORPUS --workers «count»": Filling({"CORPUS": "NEW", "«count»": "1"}),
    "tonemill shard CORPUS --workers «enough»": Filling({"CORPUS": "NEW", "«enough»": "2"}),
    "tonemill shard CORPUS --workers «fewer»": Filling({"CORPUS": "NEW", "«fewer»": "1"}),
    "tonemill slice --samples «self._length» --short pad": Filling({"«self._length»": "16384"}),
    "tonemill slice --seconds 10": Filling(before="tonemill scan dry"),
    "tonemill slice --seconds «shortest»": Filling({"«shortest»": "0.5"}),
    "tonemill verify FOLDER": Filling({"FOLDER": "corpora/b"}),
    "tonemill survey analyse THIS-FOLDER -o report.html": Filling(needs=("study.collected.json",)),
    "tonemill survey analyse «folder» --rehearsal": Filling({"«folder»": "study"}, needs=("study.rehearsal.json",)),
    "tonemill survey collect THIS-FOLDER answers/*.json": Filling(needs=("answers",)),
    "tonemill survey collect «folder» FILES": Filling({"«folder»": "study", "FILES": "answers"}, needs=("answers",)),
    "tonemill survey collect «folder» «study.files.answers»": Filling(
        {"«folder»": "study", "«study.files.answers»": "answers"}, needs=("answers",)
    ),
    "tonemill survey make real=FOLDER model=FOLDER -o «folder»": Filling(
        {"FOLDER": "corpora/real", "«folder»": "NEW"}, more="--clips 6"
    ),
    "tonemill survey simulate «folder»": Filling({"«folder»": "study"}),
    "tonemill train diffusion «corpus.name» -o RUN --minutes 60": Filling({"RUN": "NEW"}),
    "tonemill train MODEL CORPUS -o «folder» --minutes 60": Filling({"«folder»": "NEW"}),
    "tonemill train classifier «corpus.name» --mel-of «config.vocoder» -o runs/ears --steps 1000": Filling(
        {"«corpus.name»": "corpora/digits", "«config.vocoder»": "runs/vocoder"}
    ),
    "tonemill train loopgan «corpus.name» -o RUN --minutes 60": Filling(
        {"«corpus.name»": "corpora/bars", "RUN": "NEW"}
    ),
    "tonemill train «model» «corpus.name» -o RUN --minutes 60": Filling({"«model»": "specgan", "RUN": "NEW"}),
    "tonemill train «name» «corpus.name» -o RUN --minutes 60": Filling({"«name»": "wavegan", "RUN": "NEW"}),
    "tonemill train «parent.model» «corpus.name» --mel-of runs/vocoder -o runs/ears --steps 1000": Filling(
        {"«parent.model»": "classifier", "«corpus.name»": "corpora/digits"}
    ),
    "tonemill train «self.model» «self.about['corpus']» -o «self.folder» --config «self.folder»/run.toml": Filling(
        {"«self.model»": "wavegan", "«self.about['corpus']»": "corpora/digits", "«self.folder»": "runs/begun"},
        needs=("runs/begun",),
    ),
    "tonemill «given[0]»": Filling({"«given[0]»": "resample"}),
    "tonemill «mend»": Filling({"«mend»": "resample --rate 16000"}),
    "tonemill «name»": Filling({"«name»": "slice"}),
    "tonemill «self.failed»": Filling({"«self.failed»": "scan"}),
    "tonemill «source» | tonemill render «run»«chosen» | tonemill «sink»": Filling(
        {"«source»": "seeds 16", "«run»": "runs/a", "«chosen»": "", "«sink»": "write NEW"}
    ),
    "tonemill «step_name(type(self._step))»": Filling({"«step_name(type(self._step))»": "loops"}),
}
"""The commands that need more than `NAMES`."""

ELSEWHERE = {
    "tonemill doctor s3://bucket/folder": "tests/cli/test_stores.py::test_doctor_tries_a_folder_of_a_bucket",
    "tonemill doctor «folder»": "tests/cli/test_stores.py::test_doctor_tries_a_folder_of_a_bucket",
    "tonemill doctor «name.parent»": "tests/cli/test_stores.py::test_doctor_tries_a_folder_of_a_bucket",
    "tonemill survey serve THIS-FOLDER": "tests/cli/test_survey_browser.py::"
    "test_from_our_server_answers_come_by_themselves",
}
"""Commands that need a store, or run until they are stopped, and the test that runs them."""


def missing(command: str) -> set[str]:
    """The placeholders of a command for which nothing stands."""
    own = FILLINGS[command].names if command in FILLINGS else {}
    return {one for one in PLACEHOLDER.findall(command) if one not in own and one not in NAMES}


def filled(command: str) -> str:
    """A command with all of its placeholders filled; a stage of dots alone is left out.

    Raises:
        KeyError: nothing stands for a placeholder.
    """
    own = FILLINGS[command].names if command in FILLINGS else {}
    text = command.replace("| ... |", "|")
    return PLACEHOLDER.sub(lambda match: {**NAMES, **own}[match[0]], text).strip()


def completed(command: str, kinds: Mapping[str, str]) -> str:
    """The line that runs a command: its name alone asks for help, a part of a pipe gets what is before and behind it.

    Args:
        command: as a message has it.
        kinds: of each command: Sources, Steps, Sinks or Tools.
    """
    filling = FILLINGS.get(command, Filling())
    line = f"{filled(command)} {filling.more}".strip()
    if re.fullmatch(r"tonemill (survey )?[a-z]+", line):
        return f"{line} --help"
    if line.endswith("--help"):
        return line
    stages = line.split(" | ")
    first, last = (re.split(r"\s+", one)[1] for one in (stages[0], stages[-1]))
    if filling.before:
        stages = [filling.before, *stages]
    elif kinds.get(first) == "Steps" or (first in ("shard", "write", "select") and len(stages) == 1):
        stages = ["tonemill scan recordings", *stages]
    if kinds.get(last) == "Steps" or last in ("scan", "pair", "open", "select"):
        stages.append("tonemill shard NEW")
    elif " | " not in command and not filling.more and re.fullmatch(r"tonemill (shard|write)( -.*)?", stages[-1]):
        stages[-1] += " NEW"
    return " | ".join(stages)
