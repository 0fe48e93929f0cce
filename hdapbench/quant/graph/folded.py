"""FoldedModel: a float network ready for quantisation, with its operations, channel groups and layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from torch import nn

from hdapbench.cost.bits import BitLayers
from hdapbench.groups import GroupSet
from hdapbench.prune.trace import find_groups
from hdapbench.quant.graph.capture import trace_graph
from hdapbench.quant.graph.fold import fold_batch_norm
from hdapbench.quant.graph.graph import QuantGraph
from hdapbench.quant.graph.values import memory_of


@dataclass(frozen=True)
class FoldedModel:
    """A float network whose batch norms are folded.

    Attributes
    ----------
    model
        The network, in eval mode.
    input_shape
        Channels, height and width of one input.
    """

    model: nn.Module
    input_shape: tuple[int, int, int]

    @classmethod
    def of(cls, model: nn.Module, input_shape: tuple[int, int, int]) -> FoldedModel:
        """Folded copy of a model.

        Raises
        ------
        ModelError
            When the model's control flow depends on data, or no channel group is found.
        UnknownLayerError
            Naming every node that has no integer counterpart.
        """
        folded = cls(fold_batch_norm(model), input_shape)
        _ = folded.graph, folded.layers  # refuse what cannot be quantised now, not in the middle of a search
        return folded

    @cached_property
    def graph(self) -> QuantGraph:
        """Operations, with activation quantisers inserted."""
        return trace_graph(self.model, self.input_shape)

    @cached_property
    def group_set(self) -> GroupSet:
        """Channel groups."""
        return find_groups(self.model, self.input_shape)

    @cached_property
    def layers(self) -> BitLayers:
        """Layers as functions of the bit-widths of channels."""
        layers = BitLayers.from_model(self.model, self.group_set, self.input_shape)
        return replace(layers, constant_bytes=self.graph.constant_bytes, memory=memory_of(self.graph, layers))
