"""In which order images lie in memory: channels last where the network computes on such, for speed."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def memory_format(model: nn.Module, images: Tensor) -> torch.memory_format:
    """``channels_last``, or ``contiguous_format`` for a network that fails on it: ``view`` flattens no such maps.

    Parameters
    ----------
    model
        Runs once, in its mode; random numbers that it draws are given back.
    images
        A batch, shape (n, channels, height, width), of which two are looked at.
    """
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[images.device] if images.is_cuda else []):
            model(images[:2].contiguous(memory_format=torch.channels_last))
    except Exception:  # noqa: BLE001 - the user's code may raise anything; in the other format it says what
        return torch.contiguous_format
    return torch.channels_last
