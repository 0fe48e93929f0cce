"""Folded weights -> the dense architecture, batch norms included, so that they travel like any other weights."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import fx, nn

from hdapbench.quant.graph.fold import foldable_norms, symbolic_graph


def unfold(model: nn.Module, folded: nn.Module) -> nn.Module:
    """Copy of ``model`` that computes what ``folded`` computes, in eval mode.

    Norms that were folded become shifts: mean 0, variance 1, scale 1, and the layer's bias. The bias of a layer that
    has neither bias nor norm in the architecture is dropped.

    Parameters
    ----------
    model
        The architecture, with its batch norms.
    folded
        What `fold_batch_norm` made of it, with weights of its own.
    """
    unfolded = deepcopy(model).eval()
    modules, source = dict(unfolded.named_modules()), dict(folded.named_modules())
    graph: fx.Graph = symbolic_graph(unfolded)
    norms = foldable_norms(graph, modules)
    with torch.no_grad():
        for name, module in modules.items():
            if not isinstance(module, nn.Conv2d | nn.Linear):
                continue
            module.weight.copy_(source[name].get_parameter("weight"))
            bias = source[name].bias
            if name in norms:
                _shift(norms[name], bias)
                if module.bias is not None:
                    module.bias.zero_()
            elif module.bias is not None:
                module.bias.copy_(bias)
    return unfolded


def _shift(norm: nn.BatchNorm1d | nn.BatchNorm2d, bias: torch.Tensor) -> None:
    assert norm.running_mean is not None  # noqa: S101 - only norms with statistics are folded
    assert norm.running_var is not None  # noqa: S101
    norm.running_mean.zero_()
    norm.running_var.fill_(1.0 - norm.eps)
    if norm.affine:
        norm.weight.fill_(1.0)
        norm.bias.copy_(bias)
    else:
        norm.running_mean.copy_(-bias)
