from __future__ import annotations

import pytest
import torch
from networks import SHAPE, images, network
from torch import nn
from torch.nn import functional

from hdapbench.quant.calibrate import calibrate_clips
from hdapbench.quant.execute import run_integer
from hdapbench.quant.fixed import FixedNetwork
from hdapbench.quant.folded import FoldedModel
from hdapbench.quant.integer import Rescale
from hdapbench.quant.lower import lower
from hdapbench.quant.searchable import channel_of_row

KINDS = ["plain", "residual", "depthwise", "concat", "mixed"]


def mixed_bits(folded: FoldedModel, seed: int, choices: tuple[int, ...] = (2, 4, 8)) -> dict[str, tuple[int, ...]]:
    """Random bits per channel, the same in layers that share channels."""
    generator = torch.Generator().manual_seed(seed)
    rows = channel_of_row(folded)
    bits = torch.tensor(choices)[torch.randint(len(choices), (int(rows.max()) + 1,), generator=generator)][rows]
    parts = torch.split(bits, [folded.graph.by_name[name].shape[0] for name in folded.graph.layers])
    return {name: tuple(part.tolist()) for name, part in zip(folded.graph.layers, parts, strict=True)}


def fixed(
    kind: str, *, seed: int = 0, activation_bits: int = 8, shape=SHAPE, x=None
) -> tuple[FixedNetwork, FoldedModel]:
    """Fake-quantised network with random bit-widths, in eval mode."""
    folded = FoldedModel.of(network(kind, seed=seed) if isinstance(kind, str) else kind, shape)
    clips = calibrate_clips(folded.model, folded.graph, [images() if x is None else x], bits=[activation_bits])[:, 0]
    bits = [activation_bits] * len(folded.graph.quantizers)
    quantised = FixedNetwork(
        folded.model, folded.graph, clips, weight_bits=mixed_bits(folded, seed), activation_bits=bits
    )
    return quantised.eval(), folded


@pytest.mark.parametrize("activation_bits", [8, 4])
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_whole_numbers_compute_what_the_fake_quantised_network_computes(kind, seed, activation_bits):
    quantised, folded = fixed(kind, seed=seed, activation_bits=activation_bits)
    model = lower(quantised, folded.group_set, SHAPE)
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
    quantised, folded = fixed(kind)

    model = lower(quantised, folded.group_set, SHAPE)

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
        for name, weight in zip(folded.graph.layers, quantised.weights, strict=True)
    )


def test_a_rescale_is_as_exact_as_its_multiplier():
    factors = torch.tensor([1e-9, 3e-4, 0.25, 0.999999999, 1.0, 7.3, 250.0], dtype=torch.float64)
    values = torch.randint(-(2**24), 2**24, (1000, len(factors)), generator=torch.Generator().manual_seed(0))

    found = Rescale.by(factors)(values)

    exact = values.double() * factors
    assert bool(((found - exact).abs() <= 0.5 + exact.abs() * 2.0**-30).all())
    assert bool((Rescale.by(factors).multiplier < 2**31).all())


class Awkward(nn.Module):
    """Grouped and dilated convolutions, padding 'same', max pooling with ceil mode, average pooling with padding."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 8, 3, padding="same")
        self.grouped = nn.Conv2d(8, 12, 3, groups=4, padding=1)
        self.dilated = nn.Conv2d(12, 6, (3, 2), dilation=2, padding=(2, 1))
        self.classifier = nn.Linear(6 * 9, 4)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.first(x)), 3, 2, 1, ceil_mode=True)
        x = functional.avg_pool2d(functional.relu(self.grouped(x)), 3, 1, 1)
        x = functional.relu(self.dilated(x))
        x = functional.max_pool2d(x, 2, 2, ceil_mode=True)
        return self.classifier(torch.flatten(x, 1))


def test_unusual_windows_are_computed_exactly():
    torch.manual_seed(0)
    shape, x = (3, 9, 9), torch.randn(32, 3, 9, 9)
    quantised, folded = fixed(Awkward().eval(), shape=shape, x=x)
    model = lower(quantised, folded.group_set, shape)

    with torch.no_grad():
        expected = quantised(x)
    found = run_integer(model, x) * model.operations[-1].scale

    assert float((found - expected).abs().max()) < float(expected.abs().max()) / 50
