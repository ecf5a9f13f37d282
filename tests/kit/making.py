"""Make small corpora for tests, in this process."""

from __future__ import annotations

import io
from pathlib import Path

from tonemill.pipelines.building.build import Build, produce
from tonemill.pipelines.corpus.corpus import Corpus, open_corpus
from tonemill.pipelines.engine.engine import Engine
from tonemill.pipelines.planning.plan import Output
from tonemill.pipelines.planning.planner import Splitting, make_plan
from tonemill.pipelines.progress import Progress
from tonemill.pipelines.recipes.recipe import Recipe
from tonemill.pipelines.sources import metadata, scan

QUIET = Progress(quiet=True, stream=io.StringIO())
CONDITIONING = (
    {"step": "resample", "rate": 16000, "channels": "mono"},
    {"step": "slice", "samples": 4096, "short": "pad"},
)


def shard_folder(
    raw: Path, corpus: Path, *, pattern: str = "{kind}/{take}", steps: tuple = CONDITIONING, valid: float = 0.2
) -> Corpus:
    """What `scan | resample | slice | shard` does, in this process."""
    found = scan.find_audio([str(raw)])
    recipes = scan.scan(found, metadata=metadata.fields_from_name(pattern))
    conditioned = [Recipe(one.path, one.sources, one.fields, list(steps)) for one in recipes]
    plan = make_plan(conditioned, Output("shards"), Splitting(valid=valid), 8.0)
    produce(Build(corpus, plan, Engine(2), QUIET))
    return open_corpus(corpus)
