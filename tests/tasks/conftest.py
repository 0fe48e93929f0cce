from __future__ import annotations

import pytest
import torch

from hdapbench.data import ImageSet


@pytest.fixture
def data() -> ImageSet:
    """Ninety images of two classes: bright above, or bright below."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(90) % 2
    images = torch.randint(0, 128, (90, 1, 8, 8), generator=generator)
    images[labels == 0, :, :4] += 100
    images[labels == 1, :, 4:] += 100
    return ImageSet(images.to(torch.uint8), labels, mean=(0.4,), std=(0.25,))
