from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from hdapbench.quant.deploy.execute import run_integer
from hdapbench.quant.deploy.integer import Rescale
from hdapbench.quant.deploy.lower import lower
from hdapbench.quant.deploy.packed import load_packed, save_packed
from tests.quant.quant_networks import KINDS, Awkward, fixed, images, lowered


@pytest.mark.parametrize("activation_bits", [8, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_whole_numbers_compute_what_the_fake_quantised_network_computes(kind, seed, activation_bits):
    quantised, model = lowered(kind, seed=seed, activation_bits=activation_bits)
    x = images(64, seed=5)

    with torch.no_grad():
        expected = quantised(x)
    found = run_integer(model, x) * model.operations[-1].scale

    # Rounding in float32 may put a sum that lies between two values on the other one: one unit somewhere, rarely.
    unit = float(expected.abs().max()) / 50
    assert float((found - expected).abs().max()) < unit
    assert float(((found - expected).abs() < unit / 100).float().mean()) > 0.8
    assert bool((found.argmax(1) == expected.argmax(1)).float().mean() >= 0.98)


@pytest.mark.parametrize("kind", KINDS)
def test_channels_are_sorted_by_bits_and_parts_hold_one_bit_width_each(kind):
    quantised, model = lowered(kind)

    for name, layer in model.layers.items():
        kinds = [part.bits for part in layer.parts]
        assert kinds == sorted(set(quantised.weight_bits[name]))
        assert sum(len(part.weight) for part in layer.parts) == len(quantised.weight_bits[name])
        for part in layer.parts:
            assert int(part.weight.min()) >= -(2 ** (part.bits - 1))
            assert int(part.weight.max()) < 2 ** (part.bits - 1)
        if name != "classifier":
            assert layer.order is None  # consumers were permuted instead
    assert model.n_weight_bits == sum(
        weight[0].numel() * sum(quantised.weight_bits[name])
        for name, weight in zip(quantised.graph.layers, quantised.weights, strict=True)
    )


def test_a_rescale_is_as_exact_as_its_multiplier():
    factors = torch.tensor([1e-9, 3e-4, 0.25, 0.999999999, 1.0, 7.3, 250.0], dtype=torch.float64)
    values = torch.randint(-(2**24), 2**24, (1000, len(factors)), generator=torch.Generator().manual_seed(0))

    found = Rescale.by(factors)(values)

    exact = values.double() * factors
    assert bool(((found - exact).abs() <= 0.5 + exact.abs() * 2.0**-30).all())
    assert bool((Rescale.by(factors).multiplier < 2**31).all())


def test_unusual_windows_are_computed_exactly():
    torch.manual_seed(0)
    shape, x = (3, 9, 9), torch.randn(32, 3, 9, 9)
    quantised, folded = fixed(Awkward().eval(), shape=shape, x=x)
    model = lower(quantised, folded.group_set, shape)

    with torch.no_grad():
        expected = quantised(x)
    found = run_integer(model, x) * model.operations[-1].scale

    assert float((found - expected).abs().max()) < float(expected.abs().max()) / 50


def agreement(model: nn.Module, x: torch.Tensor) -> float:
    """Largest difference of whole numbers from fake quantisation, relative to the largest output."""
    shape = tuple(x.shape[1:])
    quantised, folded = fixed(model.eval(), shape=shape, x=x)
    integer = lower(quantised, folded.group_set, shape)
    with torch.no_grad():
        expected = quantised(x)
    found = run_integer(integer, x) * integer.operations[-1].scale
    return float((found - expected).abs().max() / expected.abs().max())


def test_a_channel_that_its_batch_norm_all_but_switched_off_keeps_its_bias():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    model.append(nn.Linear(6, 4))
    with torch.no_grad():
        model[1].weight[:3] = torch.tensor([1e-6, 1e-9, 0.0])
        model[1].bias.fill_(0.7)

    assert agreement(model, torch.randn(32, 3, 9, 9)) < 0.02


def test_sums_of_a_hundred_thousand_inputs_do_not_overflow():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(2 * 240 * 240, 4))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[3].weight.fill_(1.0).add_(torch.rand(4, 2 * 240 * 240) * 1e-2)

    assert agreement(model, torch.ones(1, 1, 240, 240)) < 1e-3


class Mean(nn.Module):
    def forward(self, x):
        return x.mean((2, 3))


class Both(nn.Module):
    """Outputs of two branches, added, multiplied or joined."""

    def __init__(self, join):
        super().__init__()
        self.first, self.second, self.join = nn.Conv2d(6, 4, 1), nn.Conv2d(6, 4, 1), join

    def forward(self, x):
        return self.join(self.first(x), self.second(x))


FLAT = [nn.AdaptiveAvgPool2d(1), nn.Flatten()]
ENDS = {
    "squeezenet": [nn.Dropout(), nn.Conv2d(6, 4, 1), nn.ReLU(), *FLAT],
    "convolutions": [nn.Conv2d(6, 4, 7), nn.Flatten()],
    "relu": [*FLAT, nn.Linear(6, 4), nn.ReLU()],
    "relu6": [*FLAT, nn.Linear(6, 4), nn.ReLU6()],
    "max pool": [nn.Conv2d(6, 4, 1), nn.MaxPool2d(7), nn.Flatten()],
    "sum": [Both(torch.add), *FLAT],
    "product": [Both(torch.mul), *FLAT],
    "concat": [Both(lambda *parts: torch.cat(parts, 1)), *FLAT],
    "bare sum": [nn.AdaptiveAvgPool2d(1), Both(torch.add), nn.Flatten()],
    "mean": [nn.Conv2d(6, 4, 1), Mean()],
    "pool": [nn.Conv2d(6, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()],
    "convolution": [nn.AdaptiveAvgPool2d(1), nn.Conv2d(6, 4, 1), nn.Flatten()],
    "function": [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4), nn.Sigmoid()],
    "dropout": [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4), nn.Dropout()],
}


@pytest.mark.parametrize("end", ENDS)
def test_networks_may_end_with_a_mean_a_pool_a_convolution_or_a_function(end, tmp_path):
    torch.manual_seed(0)
    x = torch.randn(32, 3, 9, 9)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), *ENDS[end]).eval()
    if end == "relu6":
        nn.init.normal_(network[-2].weight, std=20.0)
    quantised, folded = fixed(network, shape=(3, 9, 9), x=x)
    save_packed(lower(quantised, folded.group_set, (3, 9, 9)), tmp_path / "ends.hdpq")
    model = load_packed(tmp_path / "ends.hdpq")

    with torch.no_grad():
        expected = quantised(x)
    found = run_integer(model, x) * model.operations[-1].scale

    assert float((found - expected).abs().max()) < float(expected.abs().max()) / 50


FUNCTIONS = [nn.Softplus(), nn.Mish(), nn.SELU(), nn.CELU(), nn.Softsign(), nn.Hardtanh(-1.0, 1.0)]
CALLS = [
    lambda x: functional.leaky_relu(x, 0.3),
    lambda x: functional.hardtanh(x, -0.5, 2.0),
    lambda x: x.clamp(-0.5, 0.7),
    lambda x: torch.clip(x, max=0.4),
    functional.mish,
]


class Call(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


@pytest.mark.parametrize("function", [*FUNCTIONS, *map(Call, CALLS)])
def test_functions_of_one_value_are_tables(function):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), function, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))

    assert agreement(model, torch.randn(32, 3, 9, 9)) < 0.02
