"""Batch norm statistics of a pruned model, estimated anew: the cheapest way to tell what it is worth."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def recalibrate(model: nn.Module, images: Iterable[Tensor]) -> None:
    """Re-estimate the running statistics of all batch norms in place, as means over batches; the mode is restored.

    After pruning they still describe the dense model's activations (Li et al. 2020, EagleEye: adaptive batch norm).
    Weights are left alone.

    Parameters
    ----------
    images
        Batches of normalised training images, shape (n, channels, height, width) each; without any, nothing changes.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) and m.track_running_stats]
    modes = [(module, module.training) for module in model.modules()]
    momenta = [norm.momentum for norm in norms]
    model.eval()  # dropout stays off
    for number, batch in enumerate(images):
        for norm in norms:
            if number == 0:
                norm.reset_running_stats()
            norm.momentum = None  # cumulative mean
            norm.train()
        with torch.no_grad():
            model(batch)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    for module, training in modes:
        module.training = training
