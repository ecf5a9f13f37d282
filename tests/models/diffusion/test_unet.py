"""The U-Net: parameter counts of the published configurations, any length, and first weights."""

from __future__ import annotations

import pytest
import torch

from tonemill.models.diffusion.attention import rotated
from tonemill.models.diffusion.unet import Shape, UNet

README = {
    "channels": (8, 32, 64, 128, 256, 512, 512, 1024, 1024),
    "factors": (1, 4, 4, 4, 2, 2, 2, 2, 2),
    "items": (1, 2, 2, 2, 2, 2, 2, 4, 4),
    "modulation_dim": 1024,
    "head_dim": 64,
}
NONE = (0,) * 9
TINY = {
    "channels": (32, 32, 64, 64, 128, 128, 256, 256),
    "factors": (1, *(2,) * 7),
    "items": (2, 2, 2, 2, 2, 2, 4, 4),
    "modulation_dim": 1024,
    "head_dim": 64,
}
LATENT = {
    "channels": (128, 256, 512, 512, 1024, 1024),
    "factors": (1, 2, 2, 2, 2, 2),
    "items": (2, 2, 2, 4, 8, 8),
    "modulation_dim": 1024,
    "head_dim": 64,
}
NARROW = {**README, "channels": (8, 8, 16, 32, 64, 128, 128, 256, 256), "modulation_dim": 256, "head_dim": 32}
COUNTS = {
    "README": (217_437_436, Shape(2, 2, attentions=(0,) * 5 + (1,) * 4, heads=8, **README)),
    "README text": (
        265_240_828,
        Shape(
            *(2, 2),
            attentions=(0,) * 5 + (1,) * 4,
            cross_attentions=(0,) * 3 + (1,) * 6,
            token_dim=768,
            heads=8,
            **README,
        ),
    ),
    "text to latents": (
        562_557_248 - 64 * 768,
        Shape(*(32, 32), **LATENT, attentions=(0, 0, 1, 1, 1, 1), cross_attentions=(1,) * 6, token_dim=768, heads=12),
    ),
    "README upsampler": (175_412_502, Shape(4, 2, attentions=NONE, **README)),
    "thesis upsampler": (238_408_982, Shape(4, 2, attentions=(0,) * 5 + (1,) * 4, heads=12, **README)),
    "README vocoder": (175_493_349 - 80 * 1024, Shape(2, 1, attentions=NONE, **README)),
    "README autoencoder": (176_528_636, Shape(2, 2, attentions=NONE, injected=(0,) * 6 + (32, 0, 0), **README)),
    "tiny-audio-diffusion": (31_574_724, Shape(2, 2, attentions=(0,) * 5 + (1,) * 3, heads=8, **TINY)),
    "narrow README": (13_699_588, Shape(2, 2, attentions=(0,) * 5 + (1,) * 4, **NARROW)),
}
"""audio-diffusion-pytorch's published code; of the last without the 64 tokens of 768 numbers that stand for no text."""

SMALL = Shape(2, 2, (8, 16), (4, 2), (1, 1), (0, 1), heads=2, head_dim=8, modulation_dim=16, positions="rotary")


@pytest.mark.parametrize("name", COUNTS)
def test_counts_are_the_published_ones(name: str) -> None:
    expected, shape = COUNTS[name]
    with torch.device("meta"):
        assert sum(parameter.numel() for parameter in UNet(shape).parameters()) == expected


@pytest.mark.parametrize("time", [1, 7, 800, 805])
def test_any_length_comes_out_as_long(time: int) -> None:
    torch.manual_seed(0)
    with torch.no_grad():
        assert UNet(SMALL)(torch.randn(3, 2, time), torch.rand(3)).shape == (3, 2, time)


def test_a_length_that_is_no_multiple_is_followed_by_silence() -> None:
    torch.manual_seed(0)
    net, x, level = UNet(SMALL), torch.randn(1, 2, 805), torch.tensor([0.3])
    with torch.no_grad():
        torch.testing.assert_close(net(x, level), net(torch.nn.functional.pad(x, (0, 3)), level)[..., :805])


def test_a_network_begins_with_zeros_or_near_its_input() -> None:
    torch.manual_seed(0)
    x, level = torch.randn(2, 2, 64), torch.rand(2)
    for inputs in (2, 3):
        shape = Shape(inputs, 2, (8,), (2,), (1,), (0,), modulation_dim=16, zero_init=True)
        with torch.no_grad():
            assert not UNet(shape)(torch.randn(2, inputs, 64), level).any()
    with torch.no_grad():
        found = UNet(SMALL)(x, level)
    assert torch.nn.functional.cosine_similarity(found.flatten(), x.flatten(), dim=0) > 0.5


def test_rotary_products_depend_on_distance_alone() -> None:
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 1, 1, 8).expand(2, 1, 1, 50, 8)
    scores = (rotated(query) @ rotated(key).transpose(-1, -2))[0, 0]
    for distance in (0, 1, 17):
        diagonal = scores.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-4, rtol=1e-4)
    assert scores.std() > 0.01


def test_no_positions_make_attention_blind_to_order() -> None:
    from tonemill.models.diffusion.attention import Attention

    torch.manual_seed(0)
    x, order = torch.randn(1, 8, 20), torch.randperm(20)
    with torch.no_grad():
        plain, rotary = Attention(8, 2, 8, "none"), Attention(8, 2, 8, "rotary")
        torch.testing.assert_close(plain(x[..., order]), plain(x)[..., order], atol=1e-5, rtol=1e-5)
        assert not torch.allclose(rotary(x[..., order]), rotary(x)[..., order], atol=1e-3)
