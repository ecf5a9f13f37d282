"""The head of a README by which Hugging Face `datasets` loads a corpus: which files are which split, and every field.

Without it, `datasets` takes the tables beside the tars for data, and the fields of five examples for those of all.
"""

from __future__ import annotations

import json
from typing import Any, Final

from tonemill.pipelines.cards.facts import Facts, Field
from tonemill.pipelines.corpus.description import configs

TYPES: Final = {"text": "string", "integer": "int64", "float": "float64", "boolean": "bool"}
SIZES: Final = (
    (1_000, "n<1K"),
    (10_000, "1K<n<10K"),
    (100_000, "10K<n<100K"),
    (1_000_000, "100K<n<1M"),
    (10_000_000, "1M<n<10M"),
)


def front_matter(facts: Facts, name: str) -> str:
    """The head, with its lines of dashes. Its values are JSON, which YAML holds."""
    about = facts.corpus.about
    size = next((text for most, text in SIZES if about["examples"] < most), "n>10M")
    head: dict[str, Any] = {
        "pretty_name": name,
        "size_categories": [size],
        "tags": ["audio", "webdataset", "tonemill"],
        "configs": configs(about["splits"]),
        "dataset_info": {"config_name": "default", "features": features(facts)},
    }
    lines = [f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in head.items()]
    return "\n".join(["---", *lines, "---"])


def features(facts: Facts) -> list[dict[str, Any]]:
    """What one example has: its sounds, its arrays, and all fields of KEY.json but the recipe."""
    about = facts.corpus.about
    found: list[dict[str, Any]] = [{"name": "__key__", "dtype": "string"}, {"name": "__url__", "dtype": "string"}]
    for role in about["roles"]:
        member = about["container"] if role == "audio" else f"{role}.{about['container']}"
        found.append({"name": member, "dtype": "audio"})
    found += [{"name": f"{one}.npy", "list": {"list": "float32"}} for one in facts.corpus.arrays]
    # Columns that say where something is in a tar, or its digest, are of the index alone.
    own = {"split", "shard", *(f"{one}_sha256" for one in (*about["roles"], *facts.corpus.arrays))}
    fields = [one for one in facts.columns if one.name not in own] + list(facts.lists)
    found.append({"name": "json", "struct": [_feature(one) for one in fields]})
    return found


def _feature(field: Field) -> dict[str, Any]:
    kind = TYPES[field.kind]
    return {"name": field.name, "list": kind} if field.many else {"name": field.name, "dtype": kind}
