"""Discriminators of several networks have the published sizes, and their losses closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tonemill.models.parts import adversarial_losses as losses
from tonemill.models.parts.discriminators import (
    Judgement,
    MultiPeriod,
    MultiScale,
    MultiSTFT,
    Several,
    descript,
    grouped_stack,
    strided_stack,
)
from tonemill.models.parts.spectra import quarter_hops


def count(module: nn.Module, gains: bool = True) -> int:
    """Parameters; a weight norm's gain is its first original."""
    return sum(p.numel() for name, p in module.named_parameters() if gains or not name.endswith("original0"))


def test_counts_are_the_published_ones() -> None:
    """pjloop-gan's published code, and RAVE's published code."""
    assert count(MultiScale()) == 16_924_086
    assert count(MultiPeriod(), gains=False) == 9_690_245
    assert count(MultiScale(strided_stack, pool=2), gains=False) == 17_429_187
    assert count(MultiScale(lambda: strided_stack((64, 128, 256, 512)), pool=2), gains=False) == 7_748_739
    assert count(descript(), gains=False) == 42_503_752


def test_period_maps_have_the_shapes_of_the_specification() -> None:
    """RAVE's published code: features of period 2, and lengths of scores for 2, 3, 5, 7, 11 of 131072 samples."""
    small = MultiPeriod(widths=(2, 2, 2, 2))
    judgements = small(torch.zeros(1, 1, 131072))
    assert [tuple(map.shape[2:]) for map in judgements[0].features] == [(16384, 2), (4096, 2), (1024, 2), (256, 2)]
    assert [one.scores.shape[2] for one in judgements] == [256, 171, 103, 74, 47]


def test_scales_halve_and_features_are_all_maps_but_the_scores() -> None:
    judgements = MultiScale(lambda: grouped_stack(4, 16))(torch.randn(2, 1, 8192))
    assert [one.scores.shape for one in judgements] == [(2, 1, 32), (2, 1, 16), (2, 1, 8)]
    assert all(len(one.features) == 6 for one in judgements)


def test_bands_are_read_apart_and_scored_together() -> None:
    """A change in the lowest tenth of the bins reaches the features of that band alone."""
    torch.manual_seed(0)
    (network,) = MultiSTFT(quarter_hops(512), 2, (0.0, 0.1, 0.5, 1.0), (1, 1)).networks
    spectrum = torch.randn(1, 2, 9, 257)
    changed = spectrum.clone()
    changed[..., 3] += 1
    with torch.no_grad():
        before, after = network(spectrum), network(changed)
    moved = [not torch.equal(x, y) for x, y in zip(before.features, after.features, strict=True)]
    assert moved == [True] * 4 + [False] * 8
    assert before.scores.shape[-1] == 7 + 26 + 33


def test_a_spectrum_s_stack_sees_noise_of_variance_1_at_every_size() -> None:
    torch.manual_seed(0)
    net = MultiSTFT(quarter_hops(1024, 256), width=2)
    for network in net.networks:
        stack = network.stacks[0]
        first = stack.layers[0]
        first.parametrizations.weight.original1.data.zero_()[:, 0, 1, 4] = 1  # the real part as it is
        first.parametrizations.weight.original0.data.fill_(1)
        first.bias.data.zero_()
        stack.before_activation = True
    for judgement in net(torch.randn(4, 1, 16000)):
        assert float(judgement.features[0].detach().square().mean()) == pytest.approx(0.5, rel=0.03)


def test_losses_have_the_values_of_the_specification() -> None:
    """RAVE's published code."""
    real, generated = (Judgement(torch.tensor(x), []) for x in ([-1.0, 0.0, 1.0], [-0.5, -1.0, 1.0]))
    assert float(losses.hinge_discriminator_loss([real], [generated])) == pytest.approx(1.833333, abs=1e-6)
    assert float(losses.hinge_generator_loss([generated])) == pytest.approx(0.166667, abs=1e-6)
    true, found = (Judgement(torch.zeros(1), [torch.tensor(x)]) for x in ([1.0, 2.0, 3.0], [1.5, 1.0, 3.0]))
    assert float(losses.feature_matching_loss([true], [found], relative=True)) == pytest.approx(0.25, abs=1e-6)
    assert float(losses.feature_matching_loss([true, true], [found, true])) == pytest.approx(0.25, abs=1e-6)


def test_gradients_of_matching_reach_the_generated_side_alone() -> None:
    torch.manual_seed(0)
    net = Several(MultiScale(lambda: grouped_stack(4, 8), scales=1), MultiPeriod((2,), (2, 2), (4, 4)))
    real, generated = torch.randn(2, 1, 2048, requires_grad=True), torch.randn(2, 1, 2048, requires_grad=True)
    losses.feature_matching_loss(net(real), net(generated)).backward()
    assert real.grad is None
    assert generated.grad is not None and float(generated.grad.abs().sum()) > 0
