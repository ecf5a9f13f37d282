"""The commands of the README and of each page of docs run one after another as they stand, with shorter trainings."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from conftest import Shell
from pages import Workplace, commands_of, needed, shortened

ROOT = Path(__file__).parents[2]
PAGES = ["README.md", *sorted(f"docs/{one.name}" for one in (ROOT / "docs").glob("*.md"))]

NOT_HERE = {
    r"s3://|gs://": "needs a store; tests/cli/test_stores.py has such pipes on one",
    r"--runner|dask |docker |sbatch|flink|spark": "needs a cluster; tests/pipelines/engine has those that are tested",
    r"pip (install|wheel)": "installs",
    r"survey serve": "runs until it is stopped; tests/cli/test_survey_browser.py opens its page",
    r"survey (collect|analyse study -o)": "needs what listeners saved; tests/pipelines/survey has such answers",
    r"curl": "needs the web",
    r"\.\.\.|SEED|latents rows": "is a sketch",
    r"doctor": "depends on this machine",
    r"pytest|contracts": "is for plug-ins, which tests/models/test_contract.py builds",
}
"""Commands that are not run here, and why."""


def test_commands_are_found_whole() -> None:
    page = (
        "```sh\n$ tonemill scan a |\n    tonemill shard b   # a remark\nb: 3 examples\n```\n\n"
        "```sh\ntonemill x \\\n  --y\n```\n"
    )
    assert list(commands_of(page)) == ["tonemill scan a | tonemill shard b", "tonemill x --y"]
    assert list(needed("tonemill scan loops/ | tonemill write out")) == ["loops"]
    assert "--steps 2" in shortened("tonemill train wavegan c -o r --steps 9000 | cat")


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_run_one_after_another(page: str, shell: Shell, tmp_path: Path) -> None:
    commands = [
        one
        for one in commands_of((ROOT / page).read_text())
        if not any(re.search(pattern, one) for pattern in NOT_HERE)
    ]

    workplace = Workplace(tmp_path, lambda command: shell(command, timeout=600), commands)
    for command in commands:
        workplace.run(command)
