"""Batch norm statistics of a pruned network, taken anew: what its loss then is, its loss after fine-tuning follows."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def recalibrate(model: nn.Module, images: Iterable[Tensor]) -> None:
    """Replace all batch norm statistics, in place, by their averages over batches of images.

    Pruning shifts activations, and statistics of the dense model no longer fit them. With new ones, and without any
    training, the order of pruned networks is nearly that after fine-tuning (Li et al. 2020, "EagleEye").

    Parameters
    ----------
    images
        Batches of two images or more, shape (n, channels, height, width). Without any, nothing changes.
    """
    norms = [module for module in model.modules() if isinstance(module, NORMS) and module.track_running_stats]
    images = list(images)
    if not norms or not images:
        return
    before = [norm.momentum for norm in norms]
    model.eval()
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over batches
        norm.train()
    try:
        with torch.no_grad():
            for batch in images:
                model(batch.contiguous(memory_format=torch.channels_last))
    finally:
        for norm, momentum in zip(norms, before, strict=True):
            norm.momentum = momentum
            norm.eval()
