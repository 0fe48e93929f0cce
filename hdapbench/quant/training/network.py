"""QuantNetwork: what fake-quantised networks share, while bit-widths are searched and after they are fixed."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from copy import deepcopy

import torch
from torch import Tensor, nn

from hdapbench.quant.graph.graph import Operation, QuantGraph
from hdapbench.quant.graph.walk import LayerShape, run_graph
from hdapbench.quant.training.choices import RangeRule
from hdapbench.quant.training.quantizers import LEAST_SCALE, ActivationGrid

REFRESH = 20
"""Training steps between two searches for the weight steps of least error. In eval mode they are always up to date."""

Layers = tuple[Sequence[Tensor], Sequence[Tensor]]


class QuantNetwork(nn.Module):
    """A network whose weights, biases and activations are quantised in the forward pass.

    Attributes
    ----------
    graph
        What is computed, and where activations are quantised.
    weights, biases : ParameterList
        Float parameters, one of each per layer, in the order of ``graph.layers``.
    shapes
        How each layer is applied.
    clips : ParameterList
        One per quantiser, shape (n_activation_bits, 2): least and greatest value at each bit-width.

    Parameters
    ----------
    model
        The folded float network that ``graph`` was traced from; copied.
    clips : Tensor, shape (n_quantizers, n_activation_bits, 2)
        From `calibrate_clips`.
    rule
        How weight steps are found.
    """

    def __init__(self, model: nn.Module, graph: QuantGraph, clips: Tensor, *, rule: RangeRule = "mse") -> None:
        super().__init__()
        self.graph, self.rule = graph, rule
        self._model = [deepcopy(model)]  # in a list: it is no submodule, its parameters are not trained
        modules = dict(model.named_modules())
        layers = [modules[name] for name in graph.layers]
        self.shapes = {name: LayerShape.of(layer) for name, layer in zip(graph.layers, layers, strict=True)}
        self.weights = nn.ParameterList(layer.get_parameter("weight").detach().clone() for layer in layers)
        self.biases = nn.ParameterList(_bias(layer) for layer in layers)
        self.clips = nn.ParameterList(clip.detach().clone() for clip in clips)
        self.register_buffer("_steps", None, persistent=False)
        self._steps: Tensor | None
        self._since_refresh = 0
        counts = torch.tensor([len(weight) for weight in self.weights])
        self.register_buffer("layer_of_row", torch.repeat_interleave(counts), persistent=False)
        self.layer_of_row: Tensor
        self._inputs = [graph.input_quantizers[name] for name in graph.layers]

    def forward(self, x: Tensor) -> Tensor:
        """Output of the network, not quantised itself.

        Under autocast, layers compute in its type; grids are found, and values put on them, in that of ``x``.
        """
        grids = self.grids()
        with torch.autocast(x.device.type, enabled=False):
            weights, biases = self.layer_tensors(grids)
        tensors = dict(zip(self.graph.layers, zip(weights, biases, strict=True), strict=True))

        def layer(name: str, value: Tensor) -> Tensor:
            weight, bias = tensors[name]
            return self.shapes[name].apply(value, weight, bias)

        def quantize(operation: Operation, value: Tensor) -> Tensor:
            assert operation.quantizer is not None  # noqa: S101 - the walk asks for quantised operations alone
            return self.quantize(operation, value.to(x.dtype), grids[operation.quantizer])

        return run_graph(self.graph, x, layer=layer, quantize=quantize, training=self.training)

    def current_steps(self) -> Tensor:
        """Weight steps of all rows (output channels, layers one after another); searched for only now and then."""
        refresh = not self.training or self.rule == "minmax" or self._since_refresh >= REFRESH
        if self._steps is None or refresh:
            with torch.no_grad():
                self._steps = self.find_steps()
            self._since_refresh = 0
        self._since_refresh += self.training
        return self._steps

    def bias_steps(self, steps: Tensor, scales: Sequence[float]) -> Tensor:
        """Steps of biases, shape (n_rows,): weight step times the scale of the layer's input.

        Parameters
        ----------
        steps : Tensor, shape (n_rows,)
            Weight step of each row.
        scales
            Scale of each quantiser.
        """
        of_layers = steps.new_tensor([scales[quantizer] for quantizer in self._inputs])
        return (steps * of_layers[self.layer_of_row]).clamp_min_(LEAST_SCALE**2)

    def ends(self) -> list[list[list[float]]]:
        """Least and greatest value of each quantiser at each of its bit-widths."""
        found: list[list[list[float]]] = torch.stack(list(self.clips)).tolist()  # one wait for a GPU, not one for each
        return found

    @abstractmethod
    def find_steps(self) -> Tensor:
        """Weight steps of the present weights, one row per output channel."""

    @abstractmethod
    def grids(self) -> list[list[ActivationGrid]]:
        """Activation grids of each quantiser, one per bit-width that may be used."""

    @abstractmethod
    def layer_tensors(self, grids: list[list[ActivationGrid]]) -> Layers:
        """Quantised weights and biases of all layers."""

    @abstractmethod
    def quantize(self, operation: Operation, value: Tensor, grids: list[ActivationGrid]) -> Tensor:
        """Quantised output of an operation, ReLU included."""

    def float_model(self) -> nn.Module:
        """Copy of the folded float network with the present weights and biases."""
        model = deepcopy(self._model[0])
        modules = dict(model.named_modules())
        with torch.no_grad():
            for name, weight, bias in zip(self.graph.layers, self.weights, self.biases, strict=True):
                module = modules[name]
                module.get_parameter("weight").copy_(weight)
                module.bias = nn.Parameter(bias.detach().clone())
        return model


def _bias(layer: nn.Module) -> Tensor:
    """Bias of a layer, zeros where it has none."""
    bias = layer.bias
    return bias.detach().clone() if isinstance(bias, Tensor) else torch.zeros(len(layer.get_parameter("weight")))
