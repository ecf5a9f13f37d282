"""The rooms hold: imports point one way, modules say what they are for, and nothing grows past reading."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("audiotools", "models", "pipelines", "cli")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
HOMES = {
    "torch": {"models", "pipelines"},
    "apache_beam": {"pipelines"},
    "pyarrow": {"pipelines", "cli"},
    "typer": {"cli"},
    "soundfile": {"audiotools", "pipelines"},
    "soxr": {"audiotools"},
    "resampy": {"audiotools"},
    "librosa": {"audiotools"},
    "pyloudnorm": {"audiotools"},
    "python_stretch": {"audiotools"},
    "mutagen": {"audiotools"},
    "av": {"audiotools"},
    "scipy": {"audiotools", "models"},
    "sklearn": {"audiotools"},
    "PIL": {"audiotools"},
    "jinja2": {"pipelines"},
}
ORDER = {
    "audiotools": """secrets reject_reasons errors trouble shapes waveform arrays mel synthetic editing codecs alignment
        comparison rhythm pictures demo_corpus""",
    "models": """plugins earlier directions exchange players contract parts wavegan specgan classifier vocoder loopgan
        rave prior diffusion effect""",
    "models/loopgan": """circle penalties generator augmenting projection plain_discriminator features settings
        conditions discriminator model""",
    "models/vocoder": "settings generators player model",
    "models/diffusion": """noising samplers options baseline pauses cells attention unet settings tasks captions
        conditioning denoiser windows directions inpainting validating streams rendering model""",
    "models/rave": """settings pqmf noise encoder decoder latents codec options player cost stating distances nn_tilde
        export validation model""",
    "models/prior": "settings linear network frames generation validation model",
    "models/effect": """representations aliasing streaming compiled_layer losses network feed_forward film
        recurrent networks at_once
        settings validation search export checks playing model""",
    "pipelines": """config progress humanize hashing child storage recipes planning sources corpus cards cooking engine
        pieces building runs rendering steps dedup maintenance training evaluation report survey doctor""",
    "cli": """console options step_stage findings outcomes trace_table inspected sinks trained app commands start""",
}
"""In each folder, what may be imported by what stands behind it."""

APART = {
    "pipelines": {"dedup", "maintenance", "training", "evaluation", "report", "survey", "doctor"},
    "models": {"wavegan", "specgan", "classifier", "vocoder", "loopgan", "rave", "prior", "diffusion", "effect"},
    "audiotools": {"alignment", "comparison", "rhythm", "pictures"},
}
"""Places that do not import each other, whatever their order."""

EXCEPT = {
    ("pipelines", "report", "evaluation"),
    ("pipelines", "report", "maintenance"),
    ("pipelines", "survey", "report"),
}
"""Of `APART`: a report shows what `evaluation` and `maintenance` found; a study is shown as a report is."""

HEAVY = ("torch", "apache_beam", "numba", "librosa", "numpy", "pyarrow", "soundfile", "matplotlib", "rich")


def imports(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            names.add(node.module or "")
    return names


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_stays_in_its_room(path: Path) -> None:
    room = path.relative_to(ROOT).parts[0]
    for name in imports(path):
        first, *rest = name.split(".")
        assert first not in ROOMS, f"import tonemill.{name}"
        if first == "tonemill":
            assert ROOMS.index(rest[0]) <= ROOMS.index(room), f"{room} must not import {name}"
        assert room in HOMES.get(first, {room}), f"{first} does not belong in {room}"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_module_states_what_it_is_for_and_can_be_read_at_one_sitting(path: Path) -> None:
    text = path.read_text()
    doc = ast.get_docstring(ast.parse(text))
    assert doc, "it opens with no sentence"
    assert doc.split("\n\n")[0].rstrip().endswith((".", ":")), "its first paragraph is no sentence"
    assert text.count("\n") <= 350


def dotted(path: Path) -> str:
    """The name a module is imported by; a folder's is its `__init__.py`'s."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(("tonemill", *(parts[:-1] if parts[-1] == "__init__" else parts)))


NAMES = {dotted(path): path for path in MODULES}


def arrows(path: Path) -> set[Path]:
    """The modules of ours that a module imports, also inside functions and for type checkers only."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {NAMES.get(alias.name) for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {NAMES.get(f"{node.module}.{alias.name}", NAMES.get(node.module)) for alias in node.names}
    return {one for one in found - {path} if one is not None}


ARROWS = {path: arrows(path) for path in MODULES}


@pytest.mark.parametrize("folder", ORDER)
def test_imports_follow_the_order_of_the_folder(folder: str) -> None:
    order = ORDER[folder].split()
    inside = {
        path: path.relative_to(ROOT / folder).parts[0].removesuffix(".py")
        for path in MODULES
        if path.is_relative_to(ROOT / folder) and path != ROOT / folder / "__init__.py"
    }
    assert set(inside.values()) == set(order), "ORDER names what is there, and all of it"
    back, across = [], []
    for path, place in inside.items():
        for other in (inside[one] for one in ARROWS[path] if one in inside):
            if order.index(other) > order.index(place):
                back.append(f"{name_of(path)} -> {other}")
            if other != place and {other, place} <= APART.get(folder, set()) and (folder, place, other) not in EXCEPT:
                across.append(f"{name_of(path)} -> {other}")
    assert not back
    assert not across


def test_no_imports_go_round_in_a_circle() -> None:
    left = {path: set(others) for path, others in ARROWS.items()}
    while free := {path for path, others in left.items() if not others}:
        left = {path: others - free for path, others in left.items() if path not in free}
    # What is left is on a circle, or imports what is.
    while ends := set(left) - {one for others in left.values() for one in others}:
        left = {path: others for path, others in left.items() if path not in ends}
    assert not left, sorted(name_of(path) for path in left)


def tree() -> str:
    """Every folder with its sentence, and below it the modules it holds."""
    lines = []
    for room in ("cli", "pipelines", "models", "audiotools"):
        for package in sorted((ROOT / room).rglob("__init__.py")):
            folder = package.parent.relative_to(ROOT)
            indent = "  " * (len(folder.parts) - 1)
            sentence = (ast.get_docstring(ast.parse(package.read_text())) or "").split("\n")[0]
            lines.append(f"{indent}{folder.name}/".ljust(20) + sentence)
            names = sorted(path.stem for path in package.parent.glob("*.py") if path != package)
            lines += textwrap.wrap(" ".join(names), 120, initial_indent=" " * 20, subsequent_indent=" " * 20)
    return "\n".join(lines)


def test_contributing_shows_the_tree() -> None:
    assert f"```\n{tree()}\n```" in (ROOT / "CONTRIBUTING.md").read_text(), f"it should be:\n{tree()}"


def test_no_module_imports_what_another_keeps_to_itself() -> None:
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tonemill"):
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                assert all(f"{node.module}.{name}" in NAMES for name in private), f"{name_of(path)}: {private}"


def test_names_of_output_files_are_spelt_once() -> None:
    """`output_names` spells them, and `OutputFolder` has the place of each file."""
    from tonemill.pipelines.storage import output_names

    home = ROOT / "pipelines/storage/output_names.py"
    spelt = {value for name, value in vars(output_names).items() if name.isupper() and isinstance(value, str)}
    # Other JSON files, and other Parquet files, have these suffixes too.
    names = spelt - {output_names.OURS, output_names.SIDECAR_SUFFIX, output_names.TABLE_SUFFIX}
    assert names > {"plan.parquet", "plan.json", "corpus.json", "tonemill.json", ".tar"}
    for path in set(MODULES) - {home}:
        found = {node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)}
        assert not found & names, name_of(path)


def test_the_tests_mirror_the_rooms() -> None:
    folders = {path.parent.relative_to(ROOT / "tests") for path in (ROOT / "tests").rglob("test_*.py")}
    rooms = {path.parent.relative_to(ROOT) for path in MODULES}
    assert folders - {Path(), *rooms} == set()
    assert {path for path in rooms if path.parent == Path("pipelines")} <= folders, "a room without a test of its own"


def test_no_module_is_a_drawer() -> None:
    assert not {path.stem for path in MODULES} & {"utils", "helpers", "common", "misc"}


@pytest.mark.parametrize("step", sorted(path.stem for path in (ROOT / "pipelines/steps").glob("[a-z]*.py")))
def test_a_step_stage_imports_nothing_heavy(step: str) -> None:
    program = (
        "import sys; from tonemill.cli.app import command_of; from tonemill.cli.step_stage import step_stage;"
        f"from tonemill.pipelines.steps.{step} import STEP; command_of('x', step_stage(STEP), 'x.');"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert found.split() == []


def test_no_command_and_no_step_has_the_words_of_one_model() -> None:
    """Directions and exports bring their own; `pipelines` and `cli` read them from run.json."""
    words = re.compile(
        r"\b(lockstep|segments|knobs|validation_esr|nam|wavenet|lstm|gru|tcn|onnx|torchscript)\b|--block"
    )
    found = [
        f"{name_of(path)}: {word.group()}"
        for path in MODULES
        if path.is_relative_to(ROOT / "pipelines") or path.is_relative_to(ROOT / "cli")
        for word in words.finditer(path.read_text())
    ]
    assert not found


def test_flags_of_a_run_are_shown_and_settled_without_importing_a_model(tmp_path: Path) -> None:
    run = tmp_path / "run"
    (run / "checkpoints/00000010").mkdir(parents=True)
    state = {"step": 10, "seconds": 1.0, "score": None, "sha256": "0" * 64, "optimizers": {}}
    (run / "checkpoints/00000010/state.json").write_text(json.dumps(state))
    option = {"name": "steps", "type": "int", "help": "Rounds of sampling.", "default": 10, "low": 1}
    direction = {"needs": ["audio"], "gives": "audio", "streams": False, "samples": 0, "hop": 0}
    direction |= {"rows": 0, "together": [], "on_cpu": False}
    first = {"help": "Clips.", **direction, "bound_db": -80, "fields": {}, "options": []}
    about = {"schema": 1, "model": "thing", "model_config": {}, "sample_rate": 8000, "channels": 1, "length": 4096}
    about |= {"directions": {"render": first, "inpaint": {**first, "help": "Fill gaps.", "options": [option]}}}
    (run / "run.json").write_text(json.dumps(about))
    heavy = [name for name in HEAVY if name != "rich"]  # which draws the help
    program = (
        "import sys; from tonemill.cli.app import app\n"
        "try: app(sys.argv[1:])\n"
        f"except SystemExit: print('imported', *[name for name in {heavy!r} if name in sys.modules])"
    )

    def ran(*words: str) -> str:
        command = [sys.executable, "-c", program, "render", str(run), *words]
        done = subprocess.run(command, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False)
        return done.stdout + done.stderr

    shown = ran("--as", "inpaint", "--help")
    assert "Rounds of sampling." in shown and "Fill gaps." in shown
    assert shown.splitlines()[-1] == "imported"
    assert "Rounds of sampling." not in ran("--help")
    refused = ran("--as", "inpaint", "--steps", "0")
    assert "--steps is 0; it must be at least 1" in refused
    assert "imported\n" in refused
    assert "can render, inpaint" in ran("--as", "vary")
    assert "imported\n" in ran("--as", "inpaint", "--steps", "3")  # refused, for there is no stream to read


RUNS_CODE = {
    "pickle",
    "dill",
    "cloudpickle",
    "marshal",
    "shelve",
    "joblib",
    "yaml",
    "code",
    "codeop",
    "runpy",
    "ctypes",
}
CALLS_C = {"pipelines/training/allocator.py"}
"""Who may use ctypes: one call of mallopt, whose arguments are constants."""

CALLS = {"eval", "exec", "compile", "__import__", "breakpoint"}
METHODS = {("torch", "load"), ("np", "load"), ("numpy", "load"), ("os", "system"), ("os", "popen"), ("torch", "hub")}
LOADERS = {"models/plugins.py", "pipelines/doctor/checks.py", "pipelines/engine/worker.py", "pipelines/engine/beam.py"}
"""Who may import a module by a name that is not written out: of plug-ins, of checks, and of the work a command asks."""


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_that_is_read_can_run(path: Path) -> None:
    tree = ast.parse(path.read_text())
    refused = RUNS_CODE - {"ctypes"} if name_of(path) in CALLS_C else RUNS_CODE
    assert not {name.split(".")[0] for name in imports(path)} & refused
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            assert (node.value.id, node.attr) not in METHODS, f"{node.value.id}.{node.attr}"
            if node.attr in ("import_module", "resolve_name"):
                assert name_of(path) in LOADERS
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Name):
                assert node.func.id not in CALLS, node.func.id
            for keyword in node.keywords:
                assert keyword.arg not in ("allow_pickle", "shell"), ast.unparse(node)
