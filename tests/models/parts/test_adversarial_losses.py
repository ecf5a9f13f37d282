"""Adversarial losses: closed forms, and the penalty against plain autograd."""

import math
from copy import deepcopy

import pytest
import torch
from torch import nn

from tonemill.models.parts.adversarial_losses import ADVERSARIAL_LOSSES, TensorFlowRMSprop, gradient_penalty
from tonemill.models.parts.layers import PhaseShuffle, SameConv1d, flatten_channels_last

REAL, GENERATED = torch.tensor([1.0, 3.0]), torch.tensor([0.0, -2.0])


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("loss", "discriminator", "generator"),
    [
        ("wgan-gp", -1 - 2, 1),
        ("wgan", -1 - 2, 1),
        ("lsgan", ((0 + 4) / 2 + (0 + 4) / 2) / 2, (1 + 9) / 2),
        (
            "dcgan",
            -(math.log(sigmoid(1) * sigmoid(3)) / 2 + math.log((1 - sigmoid(0)) * (1 - sigmoid(-2))) / 2) / 2,
            -math.log(sigmoid(0) * sigmoid(-2)) / 2,
        ),
    ],
)
def test_losses_have_their_closed_forms(loss: str, discriminator: float, generator: float) -> None:
    row = ADVERSARIAL_LOSSES[loss]
    assert row.discriminator(REAL, GENERATED).item() == pytest.approx(discriminator, rel=1e-5)
    assert row.generator(GENERATED).item() == pytest.approx(generator, rel=1e-5)


@pytest.mark.parametrize(
    ("loss", "kind", "settings"),
    [
        ("wgan-gp", torch.optim.Adam, {"lr": 1e-4, "betas": (0.5, 0.9), "eps": 1e-8}),
        ("wgan", TensorFlowRMSprop, {"lr": 5e-5, "decay": 0.9, "eps": 1e-10}),
        ("dcgan", torch.optim.Adam, {"lr": 2e-4, "betas": (0.5, 0.999), "eps": 1e-8}),
        ("lsgan", TensorFlowRMSprop, {"lr": 1e-4, "decay": 0.9, "eps": 1e-10}),
    ],
)
def test_each_loss_has_its_published_optimizer(loss: str, kind: type, settings: dict[str, object]) -> None:
    row = ADVERSARIAL_LOSSES[loss]
    optimizer = row.optimizer([nn.Parameter(torch.zeros(1))], lr=row.learning_rate)
    assert type(optimizer) is kind
    assert settings.items() <= optimizer.param_groups[0].items()


def test_penalty_of_a_linear_critic_is_its_weights_norm_less_one_squared() -> None:
    weight = torch.randn(2, 50, dtype=torch.float32)
    penalty = gradient_penalty([lambda x: (x * weight).sum(dim=(1, 2))], torch.randn(3, 2, 50))
    assert penalty.item() == pytest.approx((weight.norm().item() - 1) ** 2, rel=1e-4)


def critic_layers() -> list[nn.Module]:
    torch.manual_seed(1)
    return [
        SameConv1d(2, 4, 25, 4),
        nn.LeakyReLU(0.2),
        PhaseShuffle(2),
        SameConv1d(4, 8, 25, 4),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(32, 1),
        nn.Flatten(0),
    ]


def test_penalty_layer_by_layer_equals_autograd_through_the_whole() -> None:
    layers = critic_layers()
    points = torch.randn(3, 2, 64)
    results = []
    for critic in (layers, [nn.Sequential(*layers)]):
        torch.manual_seed(2)  # the same phase shuffle
        penalty = gradient_penalty(critic, points)
        weights = [parameter for layer in layers for parameter in layer.parameters() if parameter.dim() > 1]
        results.append((penalty, torch.autograd.grad(penalty, weights)))
    torch.testing.assert_close(results[0], results[1])
    assert all(gradient.abs().max() > 0 for gradient in results[0][1])


@pytest.mark.parametrize(("precision", "within"), [(torch.bfloat16, torch.bfloat16), (torch.float16, torch.float32)])
def test_penalty_under_autocast_has_a_norm_in_float32(precision: torch.dtype, within: torch.dtype) -> None:
    layers, points, seen = critic_layers(), torch.randn(3, 2, 64), []
    torch.manual_seed(2)
    expected = gradient_penalty(layers, points)
    layers[0].register_forward_hook(lambda *found: seen.append(found[-1].dtype))
    torch.manual_seed(2)
    with torch.autocast("cpu", dtype=precision):
        penalty = gradient_penalty(layers, points)
    assert seen == [within]
    assert penalty.dtype == torch.float32
    assert penalty.item() == pytest.approx(expected.item(), rel=2e-2)


def test_penalty_of_many_small_gradients_is_not_lost_in_bfloat16() -> None:
    critic = nn.Linear(16384, 1, bias=False)
    nn.init.constant_(critic.weight, 1 / 128)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        penalty = gradient_penalty([nn.Flatten(), critic, nn.Flatten(0)], torch.randn(2, 1, 16384))
    assert penalty.item() < 1e-4


def test_penalty_of_a_flat_critic_has_finite_gradients() -> None:
    weight = nn.Parameter(torch.zeros(1, 8))
    gradient_penalty([lambda x: (x * weight).sum(dim=(1, 2))], torch.randn(2, 1, 8)).backward()
    assert torch.isfinite(weight.grad).all()


def test_rmsprop_follows_tensorflow() -> None:
    parameter = nn.Parameter(torch.tensor([1.0]))
    optimizer = TensorFlowRMSprop([parameter], lr=0.1)
    mean_square, expected = 1.0, 1.0
    for gradient in (2.0, 0.5, -1.0):
        parameter.grad = torch.tensor([gradient])
        optimizer.step()
        mean_square = 0.9 * mean_square + 0.1 * gradient**2
        expected -= 0.1 * gradient / math.sqrt(mean_square + 1e-10)
    assert parameter.item() == pytest.approx(expected, rel=1e-5)


def test_rmsprop_goes_on_from_its_state() -> None:
    first, second = nn.Parameter(torch.tensor([1.0])), nn.Parameter(torch.tensor([1.0]))
    one, two = TensorFlowRMSprop([first], lr=0.1), TensorFlowRMSprop([second], lr=0.1)
    first.grad = torch.tensor([2.0])
    one.step()
    two.load_state_dict(deepcopy(one.state_dict()))
    second.data.copy_(first.data)
    second.grad = first.grad.clone()
    one.step()
    two.step()
    assert torch.equal(first, second)


def test_flattening_is_time_major() -> None:
    x = torch.arange(6.0).reshape(1, 2, 3)  # two channels, three time steps
    assert flatten_channels_last(x).tolist() == [[0, 3, 1, 4, 2, 5]]
