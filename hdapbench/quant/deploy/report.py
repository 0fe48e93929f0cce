"""What a quantised network costs, and whether its whole-number form says the same."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from hdapbench.cost.bits import BitLayers, ChannelBitCounts
from hdapbench.cost.hardware import hardware_cost
from hdapbench.errors import UnknownLayerError
from hdapbench.quant.deploy.c99 import c_code, footprint
from hdapbench.quant.deploy.execute import run_integer
from hdapbench.quant.deploy.integer import IntegerModel
from hdapbench.quant.deploy.lower import lower
from hdapbench.quant.deploy.packed import constant_bytes, packed_bytes
from hdapbench.quant.deploy.post_training import OnnxNetwork
from hdapbench.quant.graph.folded import FoldedModel
from hdapbench.quant.training.fixed import FixedNetwork
from hdapbench.trial import BitMetrics


@dataclass(frozen=True)
class Deployed:
    """A network's whole-number form, and what was measured of it."""

    model: IntegerModel
    metrics: BitMetrics


def deploy(network: FixedNetwork, folded: FoldedModel, batches: Iterable[tuple[Tensor, Tensor]]) -> Deployed:
    """Whole-number form of a network, its costs, and how often the two name different classes.

    Parameters
    ----------
    network
        Trained; put in eval mode.
    folded
        The float model that it was made of.
    batches
        Normalised images and labels to compare on.

    Raises
    ------
    UnknownLayerError
        When the network cannot be expressed in whole numbers.
    """
    model = lower(network.eval(), folded.group_set, folded.input_shape)
    inputs = {name: network.activation_bits[place] for name, place in network.graph.input_quantizers.items()}
    metrics = BitMetrics(
        weight_bytes=model.n_weight_bits / 8,
        packed_bytes=len(packed_bytes(model)),
        stored_bytes=constant_bytes(model),
        **_footprint(model),
        **_costs(folded, network.weight_bits, inputs),
        **_agreement(lambda images: run_integer(model, images), network, batches),
    )
    return Deployed(model, metrics)


def _footprint(model: IntegerModel) -> dict[str, int | None]:
    """Flash and RAM of generated C code, as fields of `BitMetrics`."""
    try:
        found = footprint(c_code(model, "network"))
    except UnknownLayerError:
        return {"flash_bytes": None, "ram_bytes": None}
    return {"flash_bytes": found.flash, "ram_bytes": found.ram}


def describe_onnx(
    network: OnnxNetwork,
    model: nn.Module,
    folded: FoldedModel,
    weight_bits: Mapping[str, tuple[int, ...]],
    batches: Iterable[tuple[Tensor, Tensor]],
) -> BitMetrics:
    """Costs of a finished ONNX file, and how often it names other classes than the float model that it was made of.

    Cycles are None where the file quantises activations while it runs: integer processors cannot.

    Parameters
    ----------
    network
        The file.
    model, folded
        The float model, as it is and folded.
    weight_bits
        Layer -> bits of each output channel.
    batches
        Normalised images and labels to compare on.
    """
    costs = _costs(folded, weight_bits, dict.fromkeys(folded.graph.layers, 8))
    if network.is_dynamic():
        costs |= {"mpic_cycles": None, "ne16_cycles": None}
    return BitMetrics(
        weight_bytes=network.weight_bytes(),
        packed_bytes=len(network.content),
        stored_bytes=network.stored_bytes(),
        **costs,
        **_agreement(network, model, batches),
    )


def _agreement(
    deployed: Callable[[Tensor], Tensor], reference: nn.Module, batches: Iterable[tuple[Tensor, Tensor]]
) -> dict[str, Any]:
    """How often a deployed network is right and names other classes than its reference, as fields of `BitMetrics`."""
    n_compared = n_different = n_correct = 0
    with torch.no_grad():
        for images, labels in batches:
            found = deployed(images).argmax(1)
            n_different += int((reference(images).argmax(1) != found).sum())
            n_correct += int((found == labels).sum())
            n_compared += len(images)
    return {
        "integer_accuracy": n_correct / max(1, n_compared),
        "argmax_differences": n_different,
        "n_compared": n_compared,
    }


def _costs(
    folded: FoldedModel, weight_bits: Mapping[str, tuple[int, ...]], input_bits: Mapping[str, int]
) -> dict[str, Any]:
    """Operations, cycles and channels at each bit-width, as fields of `BitMetrics`."""
    counts = folded.layers.counts_of_layers(weight_bits, input_bits)
    every = [bits for found in weight_bits.values() for bits in found]
    return {
        "bit_operations": _cost("bitops", folded.layers, counts) or 0.0,
        "mpic_cycles": _cost("mpic", folded.layers, counts),
        "ne16_cycles": _cost("ne16", folded.layers, counts),
        "channels_at_bits": {bits: every.count(bits) for bits in sorted(set(every))},
    }


def _cost(name: str, layers: BitLayers, counts: ChannelBitCounts) -> float | None:
    """Cost of a network, or None where the processor cannot run it."""
    try:
        return float(hardware_cost(name)(layers, counts))
    except UnknownLayerError:
        return None
