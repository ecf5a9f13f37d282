"""Changes of mels: none at a share of 0, to all at 1, with gradients, and a share that follows the discriminator."""

from __future__ import annotations

import torch

from tonemill.models.contract import Batch
from tonemill.models.loopgan.augmenting import IMAGES, MOST_SHARE, Augmenting

BATCH = Batch({"audio": torch.zeros(64, 1, 8)}, {})


def test_a_share_of_examples_is_changed() -> None:
    torch.manual_seed(0)
    augmenting, mel = Augmenting(), torch.randn(64, 1, 32, 16)
    assert torch.equal(augmenting(mel, BATCH), mel)
    augmenting.share.fill_(0.5)
    changed = (augmenting(mel, BATCH) != mel).flatten(1).any(dim=1).float().mean()
    # Four changes, each to half of the examples: one in sixteen stays.
    assert 0.8 < changed <= 1
    augmenting.share.fill_(1.0)
    assert (augmenting(mel, BATCH) != mel).flatten(1).any(dim=1).all()


def test_gradients_pass_through() -> None:
    torch.manual_seed(0)
    augmenting, mel = Augmenting(), torch.randn(64, 1, 32, 16, requires_grad=True)
    augmenting.share.fill_(0.5)
    augmenting(mel, BATCH).sum().backward()
    assert mel.grad is not None and 0.5 < (mel.grad == 1).float().mean() < 1, "hidden places have none"


def test_the_share_follows_what_the_discriminator_finds() -> None:
    augmenting = Augmenting()
    for _ in range(100):
        augmenting.adapt(torch.ones(64, 3))
    assert abs(float(augmenting.share) - 6400 / IMAGES) < 1e-5
    for _ in range(50):
        augmenting.adapt(torch.tensor([[1.0], [-1.0]]).repeat(32, 3))
    assert abs(float(augmenting.share) - 3200 / IMAGES) < 1e-5
    augmenting.share.fill_(MOST_SHARE)
    augmenting.adapt(torch.ones(64, 3))
    assert float(augmenting.share) <= MOST_SHARE + 1e-6
