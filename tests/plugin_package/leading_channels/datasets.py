"""A data set of another package: noise that is brighter in the upper or in the lower half."""

from __future__ import annotations

import torch

from hdapbench.data import DataRequest, DataSet, DataSplits, Labelled, split_labelled


def load_halves(request: DataRequest) -> DataSplits:
    """A hundred training images and twenty test images of two classes."""
    labels = torch.arange(120) % 2
    images = torch.randint(0, 100, (120, *request.input_shape), generator=torch.Generator().manual_seed(0))
    images[labels == 1, :, : request.input_shape[1] // 2] += 100
    images = images.to(torch.uint8)
    train, test = (images[20:], labels[20:]), (images[:20], labels[:20])
    return split_labelled(request.spec, Labelled(train, test, statistics=((0.3,), (0.2,))))


HALVES = DataSet(load_halves)
