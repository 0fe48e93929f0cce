from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from hdapbench.cost.bits import BitLayers, Selector
from hdapbench.cost.hardware import hardware_cost, reference_cost
from hdapbench.errors import TargetUnreachableError
from hdapbench.quant.graph.fold import fold_batch_norm
from hdapbench.quant.graph.folded import FoldedModel
from hdapbench.quant.graph.unfold import unfold
from hdapbench.quant.training.assign import kept_channels, layer_bits
from hdapbench.quant.training.discretize import discretize
from hdapbench.quant.training.selection import SelectionLogits
from tests.quant.quant_networks import KINDS, SHAPE, images, network


def linear_cost(counts: torch.Tensor) -> float:
    """Bits of all channels, whatever the layer."""
    return float((counts @ torch.tensor([0.0, 2.0, 4.0, 8.0], dtype=torch.float64)).sum())


def selection(logits: torch.Tensor, sizes: tuple[int, ...], *, prunable: bool = True) -> SelectionLogits:
    selectors = [Selector(f"s{number}", size, prunable) for number, size in enumerate(sizes)]
    found = SelectionLogits(selectors, (0, 2, 4, 8))
    with torch.no_grad():
        found.logits.copy_(logits)
    return found


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), share=st.floats(0.05, 1.0))
def test_any_limit_in_reach_is_met_and_used_up(seed, share):
    torch.manual_seed(seed)
    found = selection(torch.randn(9, 4), (5, 4))
    limit = max(4.0, share * 72)

    bits = discretize(found, linear_cost, limit)

    given = [value for values in bits.values() for value in values]
    raises = [{0: 2, 2: 2, 4: 4}[value] for value in given if value < 8]
    assert sum(given) <= limit
    assert sum(given) + min(raises, default=1000) > limit  # nobody could have had the next bit-width
    assert all(any(values) for values in bits.values())


def test_within_the_limit_nobody_loses_what_it_prefers():
    logits = torch.tensor([[0.0, 5, 0, 0], [0, 0, 5, 0], [0, 0, 0, 5]])

    bits = discretize(selection(logits, (3,)), linear_cost, 14.0)

    assert bits["s0"] == (2, 4, 8)


def test_channels_that_hardly_mind_give_way_first():
    logits = torch.tensor([[0.0, 0, 0.9, 1.0], [0, 0, 0, 9.0], [0, 0, 0, 9.0]])

    bits = discretize(selection(logits, (3,)), linear_cost, 20.0)

    assert bits["s0"] == (4, 8, 8)


def test_the_rest_of_the_limit_goes_to_who_comes_closest_to_wanting_it():
    logits = torch.tensor([[0.0, 5, 4.9, 0], [0, 5, 1, 0], [0, 5, 1, 0]])

    bits = discretize(selection(logits, (3,)), linear_cost, 8.0)

    assert bits["s0"] == (4, 2, 2)


def test_a_tile_that_is_paid_for_is_filled():
    # One layer of 40 filters on NE16: 32 of 8 bits fill a tile, and 8 of 2 bits pay for a second one; with 24 of 8 bits
    # the 8 others fit into the first tile.
    layers = BitLayers.from_model(*_one_layer(32))
    logits = torch.zeros(32, 4)
    logits[:24, 3], logits[24:, 1] = 9.0, 9.0
    found = SelectionLogits(layers.selectors, (0, 2, 4, 8))
    with torch.no_grad():
        found.logits[:32] = logits
        found.logits[32:, 3] = 9.0

    def cost(counts: torch.Tensor) -> float:
        return float(hardware_cost("ne16")(layers, layers.counts(counts, (0, 2, 4, 8))))

    before = cost(found.counts(torch.nn.functional.one_hot(found.allowed().argmax(1), 4).double()))
    bits = discretize(found, cost, before)

    assert set(bits[layers.selectors[0].name]) == {8}


def _one_layer(width: int):
    model = nn.Sequential(nn.Conv2d(64, width, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(width * 9, 4)).eval()
    folded = FoldedModel.of(model, (64, 3, 3))
    return folded.model, folded.group_set, (64, 3, 3)


def test_a_limit_below_the_fewest_bits_is_out_of_reach():
    with pytest.raises(TargetUnreachableError, match="above 3"):
        discretize(selection(torch.zeros(4, 4), (2, 2)), linear_cost, 3.0)


@pytest.mark.parametrize("kind", ["residual", "depthwise", "concat"])
def test_kept_channels_and_bits_of_layers_speak_of_the_same_channels(kind):
    folded = FoldedModel.of(network(kind), SHAPE)
    torch.manual_seed(0)
    found = SelectionLogits(folded.layers.selectors, (0, 2, 4, 8))
    with torch.no_grad():
        found.logits.copy_(torch.randn_like(found.logits))
    bits = found.choices()

    kept, of_layers = kept_channels(folded, bits), layer_bits(folded, bits)

    for group in folded.group_set:
        for name in group.producers:
            assert of_layers[name] == tuple(bits[group.name][channel] for channel in kept[group.name])
    assert len(of_layers["classifier"]) == 5
    assert reference_cost("stored", folded.layers) > 0


@pytest.mark.parametrize("kind", KINDS)
def test_folded_weights_return_to_the_architecture(kind):
    model = network(kind)
    folded = fold_batch_norm(model)
    with torch.no_grad():
        for parameter in folded.parameters():
            parameter.mul_(1.1)

    again = unfold(model, folded)

    assert [name for name, _ in again.named_modules()] == [name for name, _ in model.named_modules()]
    assert torch.allclose(again(images()), folded(images()), atol=1e-5)
    assert torch.allclose(fold_batch_norm(again)(images()), folded(images()), atol=1e-5)
