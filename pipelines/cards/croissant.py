"""Croissant metadata of a corpus (https://docs.mlcommons.org/croissant/docs/croissant-spec-1.0.html), as JSON-LD."""

from __future__ import annotations

from typing import Any, Final

from tonemill.pipelines.cards.facts import Facts
from tonemill.pipelines.storage import commit
from tonemill.pipelines.storage.output_names import INDEX

SPECIFICATION: Final = "http://mlcommons.org/croissant/1.0"
TYPES: Final = {"text": "sc:Text", "integer": "sc:Integer", "float": "sc:Float", "boolean": "sc:Boolean"}
_TERMS: Final = (
    "citeAs column conformsTo data dataType examples extract field fileProperty fileObject fileSet format includes "
    "isLiveDataset jsonPath key md5 parentField path recordSet references regex repeated replace separator source "
    "subField transform"
)


def context() -> dict[str, Any]:
    """The specification's context (section "Appendix 1"): its terms, in its own vocabulary."""
    found: dict[str, Any] = {"@language": "en", "@vocab": "https://schema.org/", "sc": "https://schema.org/"}
    found |= {"cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/"}
    found |= {"dct": "http://purl.org/dc/terms/"}
    found |= {term: f"cr:{term}" for term in _TERMS.split()}
    found |= {"conformsTo": "dct:conformsTo"}
    found |= {term: {"@id": f"cr:{term}", "@type": "@json"} for term in ("data", "examples")}
    found["dataType"] = {"@id": "cr:dataType", "@type": "@vocab"}
    return found


def croissant(facts: Facts, name: str, description: str) -> dict[str, Any]:
    """The index as records, one per example, and the tars as sets of files, one per split."""
    corpus = facts.corpus
    index = commit.fingerprint(corpus.output.index)
    splits = [one for one, sums in corpus.about["splits"].items() if sums["examples"]]
    record: dict[str, Any] = {
        "@context": context(),
        "@type": "sc:Dataset",
        "name": name,
        "description": description,
        "conformsTo": SPECIFICATION,
        "version": "1.0.0",
        "distribution": [
            {
                "@type": "cr:FileObject",
                "@id": "index",
                "name": "index",
                "description": "A row per example.",
                "contentUrl": INDEX,
                "contentSize": f"{index['bytes']} B",
                "encodingFormat": "application/x-parquet",
                "sha256": index["sha256"],
            },
            *(
                {
                    "@type": "cr:FileSet",
                    "@id": f"shards-{one}",
                    "name": f"shards-{one}",
                    "description": f"WebDataset shards of the split {one}.",
                    "encodingFormat": "application/x-tar",
                    "includes": f"{one}/*.tar",
                }
                for one in splits
            ),
        ],
        "recordSet": [
            {
                "@type": "cr:RecordSet",
                "@id": "examples",
                "name": "examples",
                "description": "An example, whose sound is in the tar that `shard` names, under its `key`.",
                "key": {"@id": "examples/key"},
                "field": [
                    {
                        "@type": "cr:Field",
                        "@id": f"examples/{one.name}",
                        "name": one.name,
                        "description": f"{one.kind}; {one.values}" if one.values else one.kind,
                        "dataType": TYPES[one.kind],
                        "source": {"fileObject": {"@id": "index"}, "extract": {"column": one.name}},
                    }
                    for one in facts.columns
                ],
            }
        ],
    }
    if facts.licences:
        record["license"] = sorted(facts.licences)
    return record
