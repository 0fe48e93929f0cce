from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch
from torch import nn

from hdapbench.cost.bits import CHANNEL_BYTES, BitLayers, bit_operations, size_bits, smooth_stored_bits, stored_bits
from hdapbench.cost.hardware import HARDWARE_COSTS, hardware_cost, reference_cost, soft_cost
from hdapbench.cost.mpic import mpic_cycles
from hdapbench.cost.ne16 import ne16_cycles, smooth_ceil, smooth_ne16_cycles
from hdapbench.errors import PlanError, UnknownLayerError
from hdapbench.groups import GroupSet
from hdapbench.plan import Plan
from hdapbench.prune.surgery import apply_plan
from hdapbench.prune.trace import find_groups
from hdapbench.testing.models import build
from tests.zoo import traced

BITS = (2, 4, 8)
SHAPES = {"resnet8": ((3, 32, 32), 10), "dscnn": ((1, 49, 10), 12), "resnet18-64px": ((3, 64, 64), 200)}


@cache
def zoo_layers(name: str) -> BitLayers:
    shape, n_classes = SHAPES[name]
    network = traced(name, shape, n_classes)
    return BitLayers.from_model(network.model, network.group_set, shape)


@cache
def small_network(kind: str) -> tuple[nn.Module, GroupSet, BitLayers]:
    torch.manual_seed(0)
    model = build(kind, n_classes=5).eval()
    groups = find_groups(model, (3, 8, 8))
    return model, groups, BitLayers.from_model(model, groups, (3, 8, 8))


def random_bits(layers: BitLayers, seed: int) -> dict[str, tuple[int, ...]]:
    rng = np.random.default_rng(seed)
    bits = {}
    for selector in layers.selectors:
        values = rng.choice([0, 2, 4, 8] if selector.prunable else [2, 4, 8], selector.n_channels)
        values[0] = 8
        bits[selector.name] = tuple(values.tolist())
    return bits


@pytest.mark.parametrize(
    ("name", "bits", "n_bytes", "mpic", "ne16"),
    [
        ("resnet8", 8, 77_360, 5.953e6, 155_241),
        ("resnet8", 4, 38_680, 5.435e6, 104_361),
        ("resnet8", 2, 19_340, 5.001e6, 78_921),
        ("dscnn", 8, 22_016, None, 204_838),
        ("dscnn", 4, 11_008, None, 172_582),
        ("dscnn", 2, 5_504, None, 156_454),
        ("resnet18-64px", 8, 11_261_632, None, 19_689_650),
        ("resnet18-64px", 4, 5_630_816, None, 11_719_858),
        ("resnet18-64px", 2, 2_815_408, None, 7_734_962),
    ],
)
def test_reference_networks_cost_what_was_published(name, bits, n_bytes, mpic, ne16):
    layers = zoo_layers(name)
    counts = layers.uniform_counts(bits)

    assert float(size_bits(layers, counts)) / 8 == n_bytes
    assert int(ne16_cycles(layers, counts)) == ne16
    if mpic is not None:
        assert round(float(mpic_cycles(layers, counts)), -3) == mpic


@pytest.mark.parametrize(
    ("name", "macs"), [("resnet8", 12_501_632), ("dscnn", 2_656_768), ("resnet18-64px", 2_221_772_800)]
)
def test_bit_operations_are_multiply_accumulates_times_both_bits(name, macs):
    layers = zoo_layers(name)

    assert int(bit_operations(layers, layers.uniform_counts(4, 2))) == macs * 4 * 2


@pytest.mark.parametrize("kind", ["plain", "residual", "depthwise", "concat"])
@pytest.mark.parametrize("seed", [0, 1])
def test_size_is_that_of_the_really_pruned_model(kind, seed):
    model, groups, layers = small_network(kind)
    bits = random_bits(layers, seed)
    kept = {g.name: tuple(np.flatnonzero(bits[g.name]).tolist()) for g in groups}

    compact = apply_plan(model, groups, Plan(kept=kept))

    total = 0
    for name, module in compact.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            per_channel = channel_bits(groups, bits, name)
            assert len(per_channel) == module.weight.shape[0]
            total += sum(b * w.numel() for b, w in zip(per_channel, module.weight, strict=True))
    columns = (0, 2, 4, 8)
    channels = torch.tensor([[bits[s.name].count(column) for column in columns] for s in layers.selectors])
    assert int(size_bits(layers, layers.counts(channels, columns))) == total


def channel_bits(groups: GroupSet, bits: dict[str, tuple[int, ...]], layer: str) -> list[int]:
    """Bits of a layer's remaining output channels, in order."""
    found = {}
    for group in groups:
        for member in group.members:
            if member.layer == layer and member.side in {"out", "both"}:
                found |= {i: bits[group.name][c] for i, c in zip(member.indices, member.channels, strict=True)}
    values = [found[i] for i in sorted(found)] if found else list(bits[layer])
    return [value for value in values if value]


@pytest.mark.parametrize("cost", [size_bits, smooth_stored_bits, bit_operations, mpic_cycles, smooth_ne16_cycles])
@pytest.mark.parametrize("kind", ["residual", "depthwise", "concat"])
def test_gradients_of_soft_costs_equal_finite_differences(kind, cost):
    _, _, layers = small_network(kind)
    torch.manual_seed(1)
    logits = torch.randn(len(layers.selectors), 4, dtype=torch.float64, requires_grad=True)
    activation = torch.randn(len(layers.names), 3, dtype=torch.float64, requires_grad=True)
    sizes = torch.tensor([[float(s.n_channels)] for s in layers.selectors])
    a_bits = (8,) if cost is smooth_ne16_cycles else (2, 4, 8)

    def function(logits, activation):
        shares = activation[:, : len(a_bits)].softmax(1)
        return cost(layers, layers.counts(logits.softmax(1) * sizes, (0, 2, 4, 8), shares, a_bits)) / 1e3

    assert torch.autograd.gradcheck(function, (logits, activation))


def test_the_ne16_gradient_is_that_of_the_smooth_cost():
    _, _, layers = small_network("residual")
    counts = torch.full((len(layers.selectors), 4), 1.5, dtype=torch.float64, requires_grad=True)

    (steep,) = torch.autograd.grad(ne16_cycles(layers, layers.counts(counts, (0, 2, 4, 8))), counts)
    (smooth,) = torch.autograd.grad(smooth_ne16_cycles(layers, layers.counts(counts, (0, 2, 4, 8))), counts)

    assert torch.equal(steep, smooth)


def test_a_smooth_tile_count_is_the_mean_over_remainders():
    channels = torch.arange(97, 129, dtype=torch.float64)

    assert float(smooth_ceil(channels, 32).mean()) == pytest.approx(float(torch.ceil(channels / 32).mean()), abs=0.05)
    assert float(smooth_ceil(torch.zeros(1), 32)) == 0.0


@pytest.mark.parametrize("name", ["resnet8", "dscnn"])
def test_two_bits_cost_less_ne16_cycles_per_channel_even_where_all_channels_have_eight(name):
    layers = zoo_layers(name)
    counts = torch.tensor([[0.0, 0.0, 0.0, float(s.n_channels)] for s in layers.selectors], dtype=torch.float64)
    dense = float(ne16_cycles(layers, layers.counts(counts, (0, 2, 4, 8))))

    soft = counts.clone().requires_grad_(True)
    (price,) = torch.autograd.grad(smooth_ne16_cycles(layers, layers.counts(soft, (0, 2, 4, 8))), soft)

    compared = 0
    for row, selector in enumerate(layers.selectors):
        fewer = counts.clone()
        fewer[row] = torch.tensor([0.0, selector.n_channels, 0.0, 0.0])
        if selector.prunable and float(ne16_cycles(layers, layers.counts(fewer, (0, 2, 4, 8)))) < dense:
            assert price[row, 0] < price[row, 1] < price[row, 3]
            compared += 1
    assert compared >= 4


def test_traces_of_a_bit_width_open_no_tile_of_the_soft_cost():
    layers = zoo_layers("resnet8")
    sizes = torch.tensor([[float(s.n_channels)] for s in layers.selectors], dtype=torch.float64)
    traces = sizes * torch.tensor([[0.0, 1e-3, 1e-3, 0.998]], dtype=torch.float64)

    share = float(soft_cost("ne16")(layers, layers.counts(traces, (0, 2, 4, 8)))) / reference_cost(
        "ne16", layers, soft=True
    )

    assert share == pytest.approx(1.0, abs=0.01)
    assert float(ne16_cycles(layers, layers.counts(traces, (0, 2, 4, 8)))) > 1.4 * reference_cost("ne16", layers)


@pytest.mark.parametrize("name", sorted(set(HARDWARE_COSTS) - {"ram", "flash"}))  # those are of whole networks
def test_pruning_a_layer_is_credited_with_what_its_consumer_saves(name):
    layers = zoo_layers("resnet8")
    counts = torch.tensor([[0.0, float(s.n_channels)] for s in layers.selectors], dtype=torch.float64).requires_grad_(
        True
    )

    (gradient,) = torch.autograd.grad(hardware_cost(name)(layers, layers.counts(counts, (0, 8))), counts)

    # blocks.2.conv1 has 64 channels: 9 * 32 weights each, and 9 weights in each of the 64 filters that read it.
    row = [s.name for s in layers.selectors].index("blocks.2.conv1")
    if name == "weights":
        assert gradient[row, 1] == 8 * (9 * 32 + 9 * 64)
    assert gradient[row, 1] > 0
    narrower = counts.detach().clone()
    narrower[row, 1] -= 32
    cost = hardware_cost(name)
    with torch.no_grad():
        saved = float(cost(layers, layers.counts(counts, (0, 8))) - cost(layers, layers.counts(narrower, (0, 8))))
        produced = float(cost(layers, layers.counts(counts, (0, 8)))) - producer_alone(name, layers, row, 32)
    assert saved > produced
    assert float(gradient[row, 1]) == pytest.approx(saved / 32, rel=0.25)


def producer_alone(name: str, layers: BitLayers, row: int, n_removed: int) -> float:
    """Cost when a selector's layers produce fewer channels, but its consumers read as many as before."""
    full = torch.tensor([[float(s.n_channels)] for s in layers.selectors], dtype=torch.float64)
    fewer = full.clone()
    fewer[row] -= n_removed
    counts = replace(layers.counts(fewer, (8,)), in_channels=layers.counts(full, (8,)).in_channels)
    return float(hardware_cost(name)(layers, counts))


@pytest.mark.parametrize("seed", range(5))
def test_ne16_cycles_agree_with_a_loop_over_tiles(seed):
    layers = zoo_layers("dscnn")
    rng = np.random.default_rng(seed)
    for row in range(len(layers.names)):
        in_channels, out_channels = torch.zeros(len(layers.names)), torch.zeros(len(layers.names), 3)
        in_channels[row], out_channels[row] = rng.integers(1, 70), torch.tensor(rng.integers(0, 70, 3))
        counts = replace(layers.uniform_counts(8), in_channels=in_channels, out_channels=out_channels, weight_bits=BITS)

        expected = tile_loop(layers, row, out_channels[row], int(in_channels[row]))

        assert int(ne16_cycles(layers, counts)) == expected


def tile_loop(layers, row, out_channels, in_channels):
    """Cycles counted tile by tile from the terms of the paper's model."""
    kernel, extent, depthwise = layers.kernels[row], layers.extents[row], layers.depthwise[row]
    n_spatial = -(-extent[0] // 3) * -(-extent[1] // 3)
    n_in = -(-in_channels // 16)
    total = 0
    for bits, channels in zip(BITS, out_channels.int().tolist(), strict=True):
        width = 16 if depthwise else 32
        for start in range(0, channels, width):
            k = min(channels - start, width)
            if depthwise:
                total += n_spatial * (31 + (6 + k) + (6 + k * bits) + 2 + (9 + k) + 13)
                continue
            of_3x3 = n_in * (31 + 6 + (6 + k * bits) + 2) + (9 + k) + 13
            of_1x1 = n_in * (19 + 6 + (6 + k) + 2) + (9 + k) + 13
            high, wide = kernel
            n_1x1 = (high % 3) * wide + (wide % 3) * high - (high % 3) * (wide % 3)
            total += n_spatial * ((high // 3) * (wide // 3) * of_3x3 + n_1x1 * of_1x1)
    return total


def test_costs_are_normalised_by_the_dense_model_at_8_bits():
    assert reference_cost("weights", zoo_layers("dscnn")) == 8 * 22_016


def test_what_is_stored_counts_every_channel_whatever_its_bits():
    layers = zoo_layers("dscnn")
    n_channels = 9 * 64 + 12  # stem, four depthwise and four pointwise layers, classifier

    for bits, n_weights in ((8, 22_016), (2, 5_504)):
        found = float(stored_bits(layers, layers.uniform_counts(bits))) / 8
        assert found == n_weights + CHANNEL_BYTES * n_channels


def test_ne16_refuses_what_it_cannot_run():
    with pytest.raises(UnknownLayerError, match="activations of 8 bits"):
        ne16_cycles(zoo_layers("resnet8"), zoo_layers("resnet8").uniform_counts(8, 4))
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 5, groups=8), nn.Conv2d(8, 4, 1))
    layers = BitLayers.from_model(model, find_groups(model, (3, 8, 8)), (3, 8, 8))
    with pytest.raises(UnknownLayerError, match="'2' is 5x5"):
        ne16_cycles(layers, layers.uniform_counts(8))


def test_an_unknown_cost_is_answered_with_the_known_ones():
    with pytest.raises(PlanError, match="weights, stored, bitops, mpic, ne16"):
        hardware_cost("joules")
