"""Images with boxes in memory, and the batches that detectors are trained and scored on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hdapbench.data.mosaic import Scene, composed


@dataclass(frozen=True)
class BoxSet:
    """Images of one shape, each with any number of labelled boxes.

    Attributes
    ----------
    images : Tensor, uint8, shape (n, channels, height, width)
        Letterboxed: scaled to fit, the rest grey. May be mapped from a file.
    boxes : Tensor, float32, shape (n_boxes, 5)
        Class, centre x and y, width and height as shares of the letterboxed image, of one image after another.
    starts : Tensor, int64, shape (n + 1,)
        Boxes ``starts[i]`` to ``starts[i + 1]`` belong to image i.
    augment
        What ``batches(augment=True)`` does: ``mosaic`` composes four images, scales and shifts them and varies
        colours; ``mosaic-flip`` mirrors half of the results too.
    """

    images: Tensor
    boxes: Tensor
    starts: Tensor
    augment: str = "none"

    def __len__(self) -> int:
        return len(self.starts) - 1

    def batches(
        self, batch_size: int, *, shuffle_seed: int | None, augment: bool = False, limit: int | None = None
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Images in [0, 1], float32 of shape (batch_size, channels, height, width), and their boxes, shape (m, 6).

        A box is the number of its image in the batch, class, centre x and y, width and height.
        """
        rng = np.random.default_rng(shuffle_seed)
        order = np.arange(len(self)) if shuffle_seed is None else rng.permutation(len(self))
        order = order[:limit]
        for first in range(0, len(order), batch_size):
            chosen = order[first : first + batch_size].tolist()
            if augment and self.augment != "none":
                scenes = [self._augmented(index, rng) for index in chosen]
            else:
                scenes = [self._scene(index) for index in chosen]
            yield _stacked(scenes)

    def boxes_of(self, index: int) -> Tensor:
        """Boxes of one image, shape (k, 5)."""
        return self.boxes[int(self.starts[index]) : int(self.starts[index + 1])]

    def _scene(self, index: int) -> Scene:
        return Scene(self.images[index].numpy(), self.boxes_of(index).numpy())

    def _augmented(self, index: int, rng: np.random.Generator) -> Scene:
        others = rng.integers(len(self), size=3).tolist()
        scenes = [self._scene(number) for number in (index, *others)]
        return composed(scenes, rng, flip=self.augment == "mosaic-flip")


def _stacked(scenes: list[Scene]) -> tuple[Tensor, Tensor]:
    """One batch of scenes, with the number of the image before each box."""
    images = torch.from_numpy(np.stack([scene.image for scene in scenes])).float().div_(255.0)
    owners = np.repeat(np.arange(len(scenes), dtype=np.float32), [len(scene.boxes) for scene in scenes])
    boxes = np.concatenate([scene.boxes for scene in scenes])
    return images, torch.from_numpy(np.concatenate([owners[:, None], boxes], axis=1))
