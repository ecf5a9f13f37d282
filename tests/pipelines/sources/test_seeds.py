"""Seeds, ways between them, neighbours, and latent vectors from a file; as streams of recipes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Tonemill

from tonemill.models.contract import Request
from tonemill.models.parts.seeded import drawn


def recipes(tonemill: Tonemill, *words: object) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in tonemill("seeds", *words).done().out.splitlines()]
    return [line for line in lines if "path" in line]


def test_plain_seeds_are_those_of_before(tonemill: Tonemill) -> None:
    found = recipes(tonemill, 2, "--set", "label=3")
    assert [one["path"] for one in found] == ["seed-0-000000", "seed-0-000001"]
    assert found[0]["fields"] == {"seed": 189606541285482, "label": 3}


def test_a_way_leads_through_each_seed_in_equal_steps(tonemill: Tonemill) -> None:
    plain, way = recipes(tonemill, 3), recipes(tonemill, 3, "--interpolate", 4)
    assert len(way) == 9 and len({one["path"] for one in way}) == 9
    assert [one["fields"].get("seed_share", 0) for one in way] == [0, 0.25, 0.5, 0.75] * 2 + [0]

    def points(many: list[dict[str, Any]]) -> list[np.ndarray]:
        requests = [Request(one["fields"]["seed"], one["fields"], {}) for one in many]
        return [drawn(one, lambda seed: np.random.default_rng(seed).standard_normal(64)) for one in requests]

    for one, other in zip(points(plain), points(way)[::4], strict=True):
        assert np.array_equal(one, other)
    steps = [float(np.linalg.norm(two - one)) for one, two in zip(points(way), points(way)[1:], strict=False)]
    assert max(steps) < 1.3 * min(steps)


def test_neighbours_are_a_share_of_the_way_to_others(tonemill: Tonemill) -> None:
    found = recipes(tonemill, 3, "--vary", 77)
    assert {one["fields"]["seed"] for one in found} == {77}
    assert {one["fields"]["seed_share"] for one in found} == {0.2}
    assert len({one["fields"]["seed_to"] for one in found}) == 3
    assert {one["fields"]["seed_share"] for one in recipes(tonemill, 1, "--vary", 77, "--amount", 0.5)} == {0.5}


def test_latent_vectors_come_from_a_file(tonemill: Tonemill, tmp_path: Path) -> None:
    file, rows = tmp_path / "latents.npy", np.random.default_rng(0).standard_normal((3, 4), np.float32)
    np.save(file, rows)
    found = recipes(tonemill, "--latents", file)
    np.testing.assert_array_equal([one["fields"]["latent"] for one in found], rows)
    assert len({one["fields"]["seed"] for one in found}) == 3
    assert len(recipes(tonemill, 2, "--latents", file)) == 2


def test_what_makes_no_sense_is_refused_with_the_mend(tonemill: Tonemill, tmp_path: Path) -> None:
    flat, objects = tmp_path / "flat.npy", tmp_path / "objects.npy"
    np.save(flat, np.zeros(4, np.float32))
    np.save(objects, np.array([[{}]]), allow_pickle=True)
    for words, *texts in (
        ((), "seeds 16"),
        ((1, "--interpolate", 4), "tonemill seeds 2 --interpolate 4"),
        ((2, "--interpolate", 4, "--vary", 1), "do not go together"),
        ((2, "--amount", 0.3), "--vary SEED --amount 0.3"),
        ((2, "--vary", 1, "--amount", 2), "from 0 to 1"),
        ((2, "--vary", -1), "--vary is -1"),
        ((2, "--set", "seed_to=3"), "--set seed_to"),
        (("--latents", flat), "a latent vector in each row"),
        (("--latents", objects), "cannot be read"),
        (("--latents", tmp_path / "none.npy"), "cannot be read"),
    ):
        tonemill("seeds", *words).refused(2, *texts)
    np.save(flat, np.zeros((1, 4)))
    tonemill("seeds", "--latents", flat).refused(2, "float32", "numpy.save(file, rows.astype('float32'))")
    np.save(flat, np.zeros((1, 4), np.float32))
    tonemill("seeds", 2, "--latents", flat).refused(2, "1 latent vectors, and 2 were requested")


@pytest.mark.parametrize("model", ["wavegan", "specgan"])
def test_a_render_on_the_way_ends_where_the_next_seed_begins(model: str) -> None:
    import torch

    from tonemill.models.contract import CorpusFacts, load_model

    model_class = load_model(model)
    config = model_class.Config(length=4096, dim=2)
    made = model_class(model_class.settle(config, CorpusFacts("x", ("audio",), 16000, 1)))  # type: ignore[call-arg]
    ends = [made.inputs(Request(seed, {}, {})) for seed in (1, 2)]
    for share, end in ((0, ends[0]), (1, ends[1])):
        found = made.inputs(Request(1, {"seed_to": 2, "seed_share": share}, {}))
        torch.testing.assert_close(found["latent"], end["latent"])
        if "phase" in found:
            torch.testing.assert_close(found["phase"].cos(), end["phase"].cos(), atol=1e-5, rtol=1e-5)
    given = made.inputs(Request(1, {"latent": [0.5] * 100}, {}))
    assert (given["latent"] == 0.5).all()
