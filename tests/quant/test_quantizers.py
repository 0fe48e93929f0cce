from __future__ import annotations

import numpy as np
import pytest
import torch

from hdapbench.quant.training.quantizers import ActivationGrid, clip_activations, mix_layers, round_layers
from hdapbench.quant.training.ranges import integer_range, weight_steps


def quantised(weight: torch.Tensor, bits: int, rule) -> torch.Tensor:
    """Weights on the grid of a rule, computed plainly."""
    steps = weight_steps(weight, [bits], rule)
    low, high = integer_range(bits)
    # The largest weight lies halfway between two values: dividing may round it the other way than multiplying does.
    return (weight * steps.reciprocal()).round().clamp(low, high) * steps


@pytest.mark.parametrize(("bits", "expected"), [(2, 0.306), (4, 0.0124), (8, 4e-5)])
def test_minmax_steps_have_the_published_error_on_gaussian_channels(bits, expected):
    torch.manual_seed(0)
    weight = torch.randn(2000, 144)

    error = (quantised(weight, bits, "minmax") - weight).square().mean() / weight.square().mean()

    assert float(error) == pytest.approx(expected, rel=0.1)


def test_minmax_at_2_bits_is_the_published_grid():
    weight = torch.tensor([[-0.9, 0.9, 0.2, -0.35]])

    steps = weight_steps(weight, [2], "minmax")

    assert float(steps) == pytest.approx(0.6)
    assert torch.allclose(quantised(weight, 2, "minmax"), torch.tensor([[-1.2, 0.6, 0.0, -0.6]]))


@pytest.mark.parametrize(("bits", "expected"), [(2, 0.146), (4, 0.0104)])
def test_the_mse_rule_reaches_the_least_error_of_its_grid(bits, expected):
    torch.manual_seed(0)
    weight = torch.randn(500, 144)

    error = (quantised(weight, bits, "mse") - weight).square().sum(1)
    steps = weight_steps(weight, [bits], "minmax") * torch.linspace(0.1, 1.5, 300)
    low, high = integer_range(bits)
    tried = [((weight / s[:, None]).round().clamp(low, high) * s[:, None] - weight).square().sum(1) for s in steps.T]

    assert float(error.mean() / weight.square().sum(1).mean()) == pytest.approx(expected, rel=0.03)
    least = torch.stack(tried).amin(0)
    assert float(error.mean()) <= 1.01 * float(least.mean())
    assert bool((error <= 1.15 * least).all())


@pytest.mark.parametrize("rule", ["minmax", "mse"])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_channels_of_zeros_stay_zero(rule, bits):
    weight = torch.zeros(2, 3, 3, 3)
    weight[1] = torch.randn(3, 3, 3)

    steps = weight_steps(weight, [bits], rule)

    assert bool((steps > 0).all())
    assert bool((quantised(weight.flatten(1), bits, rule)[0] == 0).all())


@pytest.mark.parametrize(("rule", "bits"), [("minmax", 8), ("mse", 8), ("mse", 4), ("mse", 2)])
def test_steps_scale_with_the_weights(rule, bits):
    torch.manual_seed(1)
    weight = torch.randn(4, 50)

    assert torch.allclose(weight_steps(3 * weight, [bits], rule), 3 * weight_steps(weight, [bits], rule), rtol=1e-4)


def layers_and_arguments() -> tuple[list[torch.Tensor], list[torch.Tensor], dict[str, object]]:
    """A convolution of 3 channels and a linear layer of 2, with shares for 2, 4 and 8 bits."""
    torch.manual_seed(0)
    weights = [torch.randn(3, 2, 3, 3, requires_grad=True), torch.randn(2, 5, requires_grad=True)]
    biases = [torch.randn(3, requires_grad=True), torch.randn(2, requires_grad=True)]
    steps = torch.cat([weight_steps(weight, (2, 4, 8), "minmax") for weight in weights])
    shares = torch.rand(5, 3).div(4).requires_grad_(True)
    arguments = {"shares": shares, "steps": steps, "bias_steps": torch.full((5,), 0.01), "bits": (2, 4, 8)}
    return weights, biases, arguments


def test_mixed_weights_are_sums_of_quantised_ones():
    weights, biases, arguments = layers_and_arguments()

    mixed, mixed_biases = mix_layers(weights, biases, **arguments)

    shares, start = arguments["shares"].detach(), 0
    for weight, bias, result, result_bias in zip(weights, biases, mixed, mixed_biases, strict=True):
        rows = slice(start, start + len(weight))
        start = rows.stop
        expected = sum(
            shares[rows, k, None] * quantised(weight.detach().flatten(1), bits, "minmax")
            for k, bits in enumerate((2, 4, 8))
        )
        assert torch.allclose(result.flatten(1), expected, atol=1e-6)
        assert torch.allclose(result_bias, shares[rows].sum(1) * (bias / 0.01).round() * 0.01, atol=1e-6)


def test_a_channel_without_shares_is_exactly_zero():
    weights, biases, arguments = layers_and_arguments()
    shares = arguments["shares"].detach().clone()
    shares[1] = 0.0

    mixed, mixed_biases = mix_layers(weights, biases, **(arguments | {"shares": shares}))

    assert bool((mixed[0][1] == 0).all())
    assert mixed_biases[0].tolist()[1] == 0.0


def test_the_gradient_of_shares_equals_finite_differences():
    weights, biases, arguments = layers_and_arguments()
    arguments["steps"] = arguments["steps"].double()
    arguments["bias_steps"] = arguments["bias_steps"].double()
    weights = [weight.detach().double() for weight in weights]
    biases = [bias.detach().double() for bias in biases]
    shares = arguments.pop("shares").detach().double().requires_grad_(True)

    def function(shares):
        mixed, mixed_biases = mix_layers(weights, biases, shares=shares, **arguments)
        return sum(tensor.pow(2).sum() for tensor in (*mixed, *mixed_biases))

    assert torch.autograd.gradcheck(function, (shares,))


def test_weights_and_biases_receive_their_gradient_times_the_kept_share():
    weights, biases, arguments = layers_and_arguments()

    mixed, mixed_biases = mix_layers(weights, biases, **arguments)
    upstream = [torch.randn_like(tensor) for tensor in (*mixed, *mixed_biases)]
    torch.autograd.backward([*mixed, *mixed_biases], upstream)

    kept = arguments["shares"].detach().sum(1)
    assert torch.allclose(weights[0].grad, upstream[0] * kept[:3, None, None, None])
    assert torch.allclose(weights[1].grad, upstream[1] * kept[3:, None])
    assert torch.allclose(biases[0].grad, upstream[2] * kept[:3])
    assert torch.allclose(biases[1].grad, upstream[3] * kept[3:])


def test_the_gradient_of_a_bias_does_not_depend_on_its_step():
    # Scaling by the step on the way out but not back would freeze biases: steps are about 1e-4.
    gradients = []
    for step in (1e-4, 1e-2):
        weights, biases, arguments = layers_and_arguments()
        steps = arguments["steps"][:, 2]
        limits = {"low": torch.full((5,), -128.0), "high": torch.full((5,), 127.0)}

        _, rounded = round_layers(weights, biases, steps=steps, bias_steps=torch.full((5,), step), **limits)
        torch.cat(rounded).sum().backward()

        gradients.append(torch.cat([bias.grad for bias in biases]))
    assert torch.equal(gradients[0], torch.ones(5))
    assert torch.equal(gradients[1], torch.ones(5))


def test_rounded_layers_take_each_channels_own_grid():
    weights, biases, arguments = layers_and_arguments()
    column = torch.tensor([0, 2, 1, 0, 1])
    steps = arguments["steps"].gather(1, column[:, None])[:, 0]
    ranges = [integer_range((2, 4, 8)[k]) for k in column]
    low, high = (torch.tensor([float(r[side]) for r in ranges]) for side in (0, 1))

    rounded, snapped = round_layers(weights, biases, steps=steps, low=low, high=high, bias_steps=torch.full((5,), 0.01))

    for row, bits in enumerate((2, 8, 4)):
        expected = quantised(weights[0].detach()[row].reshape(1, -1), bits, "minmax")
        assert torch.allclose(rounded[0][row].flatten(), expected[0], atol=1e-6)
    assert torch.allclose(snapped[1], (biases[1] / 0.01).round() * 0.01)
    torch.autograd.backward([*rounded], [torch.ones_like(tensor) for tensor in rounded])
    assert torch.equal(weights[0].grad, torch.ones_like(weights[0]))


@pytest.mark.parametrize(
    ("ends", "bits", "low", "high"),
    [((0.0, 6.0), 8, 0, 255), ((-6.0, 6.0), 8, -128, 127), ((-1.0, 3.0), 2, -1, 2), ((0.5, 3.0), 4, 0, 15)],
)
def test_zero_is_always_on_the_activation_grid(ends, bits, low, high):
    grid = ActivationGrid.between(ends, bits)

    assert (grid.low, grid.high) in {(low, high), (low + 1, high + 1)}
    assert grid.high - grid.low == 2**bits - 1


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("relu", [True, False])
@pytest.mark.parametrize("ends", [(0.0, 2.0), (-1.5, 2.0)])
def test_activations_round_to_the_nearest_value_within_the_clips(bits, relu, ends):
    clip = torch.tensor(ends)
    grid = ActivationGrid.between(ends, bits)
    values = torch.linspace(-4, 4, 1001)

    result = clip_activations(values, clip, grid, relu=relu)

    low = 0 if relu else grid.low
    levels = torch.arange(low, grid.high + 1) * grid.scale
    nearest = levels[(values[:, None] - levels).abs().argmin(1)]
    assert bool(((result - values).abs() <= (nearest - values).abs() + 1e-5).all())
    assert bool(((result / grid.scale).round() * grid.scale - result).abs().max() < 1e-5)
    assert float(result[500]) == 0.0


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("ends", [(0.0, 0.7), (-1.5, 2.0), (0.0, 1e-3)])
def test_a_grid_rounds_bit_for_bit_as_torch_does(bits, ends):
    grid = ActivationGrid.between(ends, bits)
    halves = (torch.arange(-600, 600) + 0.5) * grid.scale
    values = torch.cat([halves, torch.randn(100_000, generator=torch.Generator().manual_seed(0))])

    expected = torch.fake_quantize_per_tensor_affine(values, grid.scale, 0, grid.low, grid.high)

    assert torch.equal(grid.rounded(values, grid.low), expected)


def test_saturated_values_send_their_gradient_to_the_clips():
    clip = torch.tensor([-1.0, 2.0], requires_grad=True)
    values = torch.tensor([-3.0, -2.0, -0.5, 0.0, 1.0, 2.5], requires_grad=True)
    grid = ActivationGrid.between((-1.0, 2.0), 8)

    clip_activations(values, clip, grid).backward(torch.tensor([1.0, 10.0, 100.0, 1e3, 1e4, 1e5]))

    assert values.grad.tolist() == [0.0, 0.0, 100.0, 1e3, 1e4, 0.0]
    assert clip.grad.tolist() == pytest.approx([11.0, 1e5])


def test_the_clip_gradient_of_saturated_values_equals_finite_differences():
    values = torch.tensor([5.0, 7.0, 9.0])

    def total(greatest: float) -> float:
        ends = (0.0, greatest)
        grid = ActivationGrid.between(ends, 8)
        return float((clip_activations(values, torch.tensor(ends), grid) * torch.tensor([1.0, 2.0, 3.0])).sum())

    clip = torch.tensor([0.0, 4.0], requires_grad=True)
    result = clip_activations(values, clip, ActivationGrid.between((0.0, 4.0), 8))
    (result * torch.tensor([1.0, 2.0, 3.0])).sum().backward()

    assert float(clip.grad[1]) == pytest.approx((total(4.01) - total(3.99)) / 0.02, rel=1e-3)
    assert float(clip.grad[0]) == 0.0


def test_values_at_exactly_zero_let_the_gradient_through():
    # What a removed channel yields: without its gradient it could never return.
    values = torch.zeros(3, requires_grad=True)
    clip = torch.tensor([0.0, 1.0])

    clip_activations(values, clip, ActivationGrid.between((0.0, 1.0), 8), relu=True).sum().backward()

    assert values.grad.tolist() == [1.0, 1.0, 1.0]


def test_a_relu_on_a_signed_grid_keeps_the_positive_half():
    ends = (-1.0, 1.0)
    values = torch.tensor([-0.7, 0.4], requires_grad=True)
    clip = torch.tensor(ends, requires_grad=True)

    result = clip_activations(values, clip, ActivationGrid.between(ends, 8), relu=True)
    result.sum().backward()

    assert result.tolist() == pytest.approx([0.0, 0.4], abs=0.005)
    assert values.grad.tolist() == [0.0, 1.0]
    assert clip.grad.tolist() == [0.0, 0.0]


def test_the_average_gradient_through_a_grid_is_one():
    # The straight-through estimate is right on average: over a step, the staircase rises by exactly a step.
    ends = (0.0, 1.0)
    grid = ActivationGrid.between(ends, 4)
    values = np.linspace(0.1, 0.1 + 5 * grid.scale, 3)

    rise = clip_activations(torch.tensor(values, dtype=torch.float32), torch.tensor(ends), grid)

    assert float(rise[2] - rise[0]) == pytest.approx(values[2] - values[0], rel=1e-5)
