from __future__ import annotations

import numpy as np
import pytest
import torch

from hdapbench.data import BoxSet
from hdapbench.data.decode import LETTERBOX_GREY
from hdapbench.data.mosaic import Scene, composed

SIDE = 64


def squares(n: int = 6, augment: str = "none") -> BoxSet:
    """Images with one bright square each, boxed exactly; image i has a square of class i."""
    rng = np.random.default_rng(0)
    images = torch.zeros(n, 3, SIDE, SIDE, dtype=torch.uint8)
    boxes = []
    for number in range(n):
        top, left = rng.integers(4, SIDE - 24, 2)
        images[number, :, top : top + 20, left : left + 16] = 250
        boxes.append([number, (left + 8) / SIDE, (top + 10) / SIDE, 16 / SIDE, 20 / SIDE])
    return BoxSet(images, torch.tensor(boxes, dtype=torch.float32), torch.arange(n + 1), augment=augment)


def test_batches_hold_scaled_images_and_boxes_that_name_their_image():
    data = BoxSet(
        torch.full((3, 3, 8, 8), 255, dtype=torch.uint8),
        torch.tensor([[1, 0.5, 0.5, 0.2, 0.2], [2, 0.1, 0.1, 0.1, 0.1], [0, 0.3, 0.3, 0.1, 0.1]]),
        torch.tensor([0, 2, 2, 3]),
    )

    (first, boxes), (second, last) = data.batches(2, shuffle_seed=None)

    assert len(data) == 3
    assert float(first.min()) == float(second.max()) == 1.0
    assert boxes[:, :2].tolist() == [[0, 1], [0, 2]]  # image 1 has none
    assert last[:, :2].tolist() == [[0, 0]]


def test_a_seed_fixes_order_and_augmentation_and_the_next_epoch_differs():
    data = squares(augment="mosaic-flip")

    def epoch(seed: int) -> list[torch.Tensor]:
        return [tensor for batch in data.batches(4, shuffle_seed=seed, augment=True) for tensor in batch]

    first, again, other = epoch(1), epoch(1), epoch(2)
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_a_limit_takes_the_first_images_of_the_order():
    assert sum(len(images) for images, _ in squares().batches(4, shuffle_seed=3, limit=5)) == 5


def test_without_augmentation_nothing_is_composed():
    data = squares(augment="mosaic")

    images, _ = next(iter(data.batches(6, shuffle_seed=None)))

    assert torch.equal((images * 255).round().to(torch.uint8), data.images)


@pytest.mark.parametrize("flip", [False, True])
def test_boxes_follow_their_objects_through_a_mosaic(flip):
    """Every box left must frame bright pixels that end at its sides, wherever scaling, shifting and mirroring led."""
    data = squares()
    rng = np.random.default_rng(5)
    scenes = [Scene(data.images[i].numpy(), data.boxes_of(i).numpy()) for i in range(4)]
    n_checked = 0
    for _ in range(60):
        made = composed(scenes, rng, flip=flip)
        bright = made.image.mean(0) > 0.55 * made.image.max()
        for _, x, y, w, h in made.boxes:
            left, right = (x - w / 2) * SIDE, (x + w / 2) * SIDE
            top, bottom = (y - h / 2) * SIDE, (y + h / 2) * SIDE
            inside = bright[round(top) + 1 : round(bottom) - 1, round(left) + 1 : round(right) - 1]
            if inside.size < 16 or made.image.max() < 150:  # too small or too dark to tell from the ground
                continue
            assert inside.mean() > 0.95
            ring = bright[max(round(top) - 3, 0) : round(bottom) + 3, max(round(left) - 3, 0) : round(right) + 3]
            if left > 4 and right < SIDE - 4 and top > 4 and bottom < SIDE - 4 and len(made.boxes) == 1:
                assert ring.mean() < 0.95
            n_checked += 1
    assert n_checked > 40


def test_boxes_of_a_mosaic_stay_inside_and_slivers_are_dropped():
    data = squares(n=12, augment="mosaic")
    seen = []
    for seed in range(10):
        for _, boxes in data.batches(12, shuffle_seed=seed, augment=True):
            seen.append(boxes)
    boxes = torch.cat(seen)

    low, high = boxes[:, 2:4] - boxes[:, 4:] / 2, boxes[:, 2:4] + boxes[:, 4:] / 2
    assert float(low.min()) >= -1e-6
    assert float(high.max()) <= 1 + 1e-6
    assert float((boxes[:, 4:] * SIDE).min()) >= 2.0 - 1e-4
    # A whole square is at least half as large as before; what is smaller was cut, and a tenth at least is left.
    assert float((boxes[:, 4] * boxes[:, 5] * SIDE**2).min()) >= 0.1 * 0.25 * 16 * 20 - 1


def test_what_no_image_covers_is_grey():
    data = squares()
    scenes = [Scene(np.zeros_like(data.images[0].numpy()), np.zeros((0, 5), np.float32))] * 4
    rng = np.random.default_rng(0)

    values = {int(value) for _ in range(20) for value in np.unique(composed(scenes, rng, flip=False).image)}

    assert 0 in values
    assert any(LETTERBOX_GREY * 0.6 - 1 <= value <= LETTERBOX_GREY * 1.4 + 1 for value in values)
