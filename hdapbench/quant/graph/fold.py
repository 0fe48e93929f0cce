"""Batch norm folded into the convolution or linear layer before it."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import fx, nn

from hdapbench.errors import ModelError


def symbolic_graph(model: nn.Module) -> fx.Graph:
    """Symbolic trace of a model in its present mode.

    Raises
    ------
    ModelError
        When the model's control flow depends on data.
    """
    try:
        return fx.symbolic_trace(model).graph
    except Exception as error:  # the tracer runs the model's own code: whatever it raises, it cannot be traced
        text = " ".join(str(error).split())[:200]
        raise ModelError(f"{type(model).__name__} cannot be traced by torch.fx: {text}") from error


def fold_batch_norm(model: nn.Module) -> nn.Module:
    """Deep copy in eval mode that computes the same with fewer layers.

    Every batch norm that is the only reader of a convolution or linear layer becomes an identity; its statistics and
    affine parameters go into that layer's weight and bias, by the running statistics. Other batch norms stay.

    Raises
    ------
    ModelError
        When the model's control flow depends on data.
    """
    folded = deepcopy(model).eval()
    modules = dict(folded.named_modules())
    graph = symbolic_graph(folded)
    names = {id(module): name for name, module in modules.items()}
    for layer, norm in foldable_norms(graph, modules).items():
        _fold(modules[layer], norm)
        _replace(folded, names[id(norm)], nn.Identity())
    return folded


def foldable_norms(graph: fx.Graph, modules: Mapping[str, nn.Module]) -> dict[str, nn.BatchNorm1d | nn.BatchNorm2d]:
    """Convolution or linear layer -> the batch norm that alone reads it.

    A layer or norm that runs twice is left out: it has two sets of inputs, and one set of statistics at most fits it.
    """
    calls = [node.target for node in graph.nodes if node.op == "call_module"]
    found = {}
    for node in graph.nodes:
        norm = modules.get(str(node.target)) if node.op == "call_module" else None
        if not isinstance(norm, nn.BatchNorm1d | nn.BatchNorm2d) or norm.running_mean is None:
            continue
        source = node.args[0]
        if not isinstance(source, fx.Node) or source.op != "call_module" or len(source.users) > 1:
            continue
        once = calls.count(source.target) == 1 and calls.count(node.target) == 1
        if once and isinstance(modules[str(source.target)], nn.Conv2d | nn.Linear):
            found[str(source.target)] = norm
    return found


def _fold(layer: nn.Module, norm: nn.BatchNorm1d | nn.BatchNorm2d) -> None:
    """Multiply a layer's filters by the norm's scale, and give it the norm's shift as bias, in place."""
    assert norm.running_mean is not None  # noqa: S101 - the caller made sure
    assert norm.running_var is not None  # noqa: S101
    assert isinstance(layer, nn.Conv2d | nn.Linear)  # noqa: S101 - no other layer is paired with a norm
    with torch.no_grad():
        gain = torch.rsqrt(norm.running_var + norm.eps)
        if norm.affine:
            gain = gain * norm.weight
        bias = -norm.running_mean if layer.bias is None else layer.bias - norm.running_mean
        bias = bias * gain
        if norm.affine:
            bias = bias + norm.bias
        layer.weight.mul_(gain.reshape(-1, *[1] * (layer.weight.dim() - 1)))
        layer.bias = nn.Parameter(bias.clone())


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, leaf = name.rpartition(".")
    setattr(model.get_submodule(parent), leaf, module)
