from __future__ import annotations

import pytest

from hdapbench.cost.bits import PLACE_BITS, stored_bits
from hdapbench.quant.deploy.lower import lower
from hdapbench.quant.deploy.packed import constant_bytes
from hdapbench.quant.training.fixed import FixedNetwork
from tests.quant.quant_networks import KINDS, SHAPE, Awkward, fixed


def closed_form(quantised: FixedNetwork, layers) -> float:
    return float(stored_bits(layers, layers.counts_of_layers(quantised.weight_bits))) / 8


@pytest.mark.parametrize("kind", [*KINDS, Awkward()], ids=[*KINDS, "awkward"])
@pytest.mark.parametrize("seed", [0, 1])
def test_the_closed_form_of_what_is_stored_is_the_constant_section_of_the_packed_file(kind, seed):
    quantised, folded = fixed(kind, seed=seed)
    model = lower(quantised, folded.group_set, SHAPE)

    # Of functions the closed form counts tables of all values, and places of outputs that lie in order by chance.
    tables = sum(256 - len(o.table) for o in model.operations if o.table is not None)
    ordered = sum(
        -(-PLACE_BITS * len(layer.bias) // 8)
        for name, layer in model.layers.items()
        if len(layer.parts) > 1 and layer.order is None and folded.layers.unsorted[folded.layers.names.index(name)]
    )

    assert closed_form(quantised, folded.layers) == constant_bytes(model) + tables + ordered


def test_fewer_bits_store_fewer_weights_and_as_many_biases():
    quantised, folded = fixed("residual")
    found = []
    for bits in (8, 4, 2):
        quantised.weight_bits = {name: (bits,) * len(of) for name, of in quantised.weight_bits.items()}
        model = lower(quantised, folded.group_set, SHAPE)
        assert closed_form(quantised, folded.layers) == constant_bytes(model)
        found.append(constant_bytes(model) - model.n_weight_bits / 8)

    assert found[0] == found[1] == found[2] > 9 * sum(len(weight) for weight in quantised.weights)
