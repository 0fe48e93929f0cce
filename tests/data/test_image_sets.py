from __future__ import annotations

import pytest
import torch

from hdapbench.data import ImageSet


def image_set(images: torch.Tensor, augment: str = "none") -> ImageSet:
    n_channels = images.shape[1]
    labels = torch.arange(len(images))
    return ImageSet(images, labels, mean=(0.5,) * n_channels, std=(0.25,) * n_channels, augment=augment)


@pytest.fixture
def pixels() -> torch.Tensor:
    """Forty images of two channels, no two pixels of an image alike."""
    return torch.randint(1, 255, (40, 2, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def collect(data: ImageSet, **options: object) -> tuple[torch.Tensor, torch.Tensor]:
    images, labels = zip(*data.batches(16, **options), strict=True)
    return torch.cat(images), torch.cat(labels)


def raw(images: torch.Tensor) -> torch.Tensor:
    """Pixels in [0, 255] again, from images normalised with mean 0.5 and deviation 0.25."""
    return ((images * 0.25 + 0.5) * 255).round().to(torch.uint8)


def test_batches_are_normalised_and_in_stored_order_without_a_seed(pixels):
    images, labels = collect(image_set(pixels), shuffle_seed=None)

    torch.testing.assert_close(images, (pixels.float() / 255 - 0.5) / 0.25)
    assert torch.equal(labels, torch.arange(40))


def test_a_seed_shuffles_all_images_with_their_labels(pixels):
    images, labels = collect(image_set(pixels), shuffle_seed=1)

    assert sorted(labels.tolist()) == list(range(40))
    assert labels.tolist() != list(range(40))
    assert torch.equal(raw(images), pixels[labels])


def test_equal_seeds_give_equal_batches_and_other_seeds_others(pixels):
    data = image_set(pixels, "flip-crop")
    first, again, other = (collect(data, shuffle_seed=seed, augment=True)[0] for seed in (1, 1, 2))

    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_limit_takes_the_first_images_of_the_order(pixels):
    data = image_set(pixels)

    _, all_labels = collect(data, shuffle_seed=4)
    _, labels = collect(data, shuffle_seed=4, limit=10)

    assert torch.equal(labels, all_labels[:10])


def test_batches_leave_the_global_random_state_alone(pixels):
    before = torch.get_rng_state()

    collect(image_set(pixels, "shift"), shuffle_seed=3, augment=True)

    assert torch.equal(torch.get_rng_state(), before)


def test_images_are_not_augmented_unless_asked(pixels):
    images, labels = collect(image_set(pixels, "flip-crop"), shuffle_seed=1, augment=False)

    assert torch.equal(raw(images), pixels[labels])


@pytest.mark.parametrize(("augment", "margin", "may_flip"), [("flip-crop", 4, True), ("shift", 2, False)])
def test_augmented_images_are_crops_of_the_padded_original(pixels, augment, margin, may_flip):
    images, labels = collect(image_set(pixels, augment), shuffle_seed=1, augment=True)

    seen = set()
    for image, original in zip(raw(images), pixels[labels], strict=True):
        seen.add(find_crop(image, original, margin))
    flips, tops, lefts = zip(*seen, strict=True)
    assert set(flips) == ({False, True} if may_flip else {False})
    assert min(tops) == min(lefts) == 0
    assert max(tops) == max(lefts) == 2 * margin


def find_crop(image: torch.Tensor, original: torch.Tensor, margin: int) -> tuple[bool, int, int]:
    padded = torch.nn.functional.pad(original, (margin,) * 4)
    for flipped in (False, True):
        candidate = image.flip(2) if flipped else image
        for top in range(2 * margin + 1):
            for left in range(2 * margin + 1):
                if torch.equal(candidate, padded[:, top : top + 16, left : left + 16]):
                    return flipped, top, left
    pytest.fail("the image is no crop of its padded original")
