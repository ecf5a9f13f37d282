"""What stands in the JSON beside each example of a corpus, which is more than its row of the index."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tonemill.audiotools.errors import CorpusError
from tonemill.pipelines.corpus.corpus import Corpus
from tonemill.pipelines.corpus.splicing import cut_out, members


def records_of(corpus: Corpus) -> Iterator[tuple[str, dict[str, Any]]]:
    """Key and record of each example, in the order of the shards.

    Raises:
        CorpusError: a shard cannot be read.
    """
    for split in corpus.about["splits"]:
        for shard in corpus.shards(split):
            place = corpus.folder / f"{shard['shard']}.tar"
            try:
                with place.open("rb") as file:
                    for member in list(members(file)):
                        if member.name.endswith(".json"):
                            record = json.loads(cut_out(file, member.offset, member.size))
                            if not isinstance(record, dict):
                                raise CorpusError(f"{member.name} is no record")
                            yield member.name.removesuffix(".json"), record
            except (OSError, ValueError, CorpusError) as error:
                raise CorpusError(f"{place} cannot be read: {error}. `tonemill repair` mends it.") from error
