"""Digit scenes: pictures composed of scikit-learn's handwritten digits, a detection set that needs no download."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hdapbench.arrays import Floats, Integers
from hdapbench.data.cache import whole_folder

VERSION = 1
"""Raised whenever other pictures come out."""

N_TRAIN, N_TEST = 500, 150
SEED = 19_980_701
N_CLASSES = 10
COUNTS = (2, 6)
"""Digits per picture: from 2 to 5."""

SIZES = (0.15, 0.40)
"""Height of a digit, as a share of the shorter side."""

MOST_OVERLAP = 0.15
"""Share of a digit that an earlier one may cover."""

TEST_SHARE = 0.25
"""Share of the handwriting that only test pictures show."""

TRIES = 30


def make_scenes(cache_dir: Path, input_shape: tuple[int, int, int]) -> Path:
    """Folder of the digit scenes for a shape, in YOLO layout, generated when it is not there.

    Training and test pictures show different handwriting. The same shape gives the same files everywhere.

    Parameters
    ----------
    cache_dir
        The folder is made under ``data`` in there.
    input_shape
        Channels, height and width of the pictures; scenes are in colour whatever the channels.
    """
    _, height, width = input_shape
    folder = cache_dir / "data" / f"digit-scenes-{VERSION}-{height}x{width}"
    if folder.is_dir():
        return folder
    with whole_folder(folder) as partial:
        _write(partial, (height, width))
    return folder


def _write(folder: Path, size: tuple[int, int]) -> None:
    """Pictures, labels and data.yaml of both splits."""
    from PIL import Image
    from sklearn.datasets import load_digits

    raw = load_digits()
    rng = np.random.default_rng([SEED, *size])
    shuffled = rng.permutation(len(raw.target))
    n_test = round(TEST_SHARE * len(shuffled))
    hands = {"test": shuffled[:n_test], "train": shuffled[n_test:]}
    for split, count in (("train", N_TRAIN), ("test", N_TEST)):
        for part in ("images", "labels"):
            (folder / part / split).mkdir(parents=True)
        for number in range(count):
            pixels, boxes = _scene(raw.images, raw.target, rng.permutation(hands[split]), size, rng)
            name = f"{number:05}"
            Image.fromarray(pixels).save(folder / "images" / split / f"{name}.png")
            lines = [f"{int(box[0])} " + " ".join(f"{value:.6f}" for value in box[1:]) for box in boxes]
            (folder / "labels" / split / f"{name}.txt").write_text("\n".join(lines) + "\n")
    names = "\n".join(f"  {digit}: '{digit}'" for digit in range(N_CLASSES))
    (folder / "data.yaml").write_text(f"path: .\ntrain: images/train\ntest: images/test\nnames:\n{names}\n")


def _scene(
    images: Floats,
    targets: Integers,
    candidates: Integers,
    size: tuple[int, int],
    rng: np.random.Generator,
) -> tuple[NDArray[np.uint8], list[tuple[float, ...]]]:
    """Picture, shape (height, width, 3), and boxes: class, centre and extent as shares."""
    height, width = size
    paper = rng.uniform(0.0, 0.55, 3) * 255
    pixels = np.broadcast_to(paper, (height, width, 3)) + rng.normal(0, 10, (height, width, 1))
    taken: list[tuple[int, int, int, int]] = []
    boxes: list[tuple[float, ...]] = []
    for index in candidates[: int(rng.integers(*COUNTS))]:
        stroke = _enlarged(images[index], round(rng.uniform(*SIZES) * min(size)))
        corner = _free_corner(stroke.shape, size, taken, rng)
        if corner is None:
            continue
        top, left = corner
        bottom, right = top + stroke.shape[0], left + stroke.shape[1]
        taken.append((top, left, bottom, right))
        ink = rng.uniform(0.65, 1.0, 3) * 255
        region = pixels[top:bottom, left:right]
        pixels[top:bottom, left:right] = region + stroke[:, :, None] * (ink - region)
        centre = ((left + right) / 2 / width, (top + bottom) / 2 / height)
        boxes.append((float(targets[index]), *centre, stroke.shape[1] / width, stroke.shape[0] / height))
    return pixels.round().clip(0, 255).astype(np.uint8), boxes


def _enlarged(digit: Floats, height: int) -> Floats:
    """Opacity in [0, 1] of a digit, cut to its ink and enlarged to a height, shape (height, width)."""
    from PIL import Image

    ink = digit > digit.max() / 4
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    cut = digit[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    width = max(3, round(height * cut.shape[1] / cut.shape[0]))
    picture = Image.fromarray((cut / digit.max() * 255).astype(np.uint8))
    return np.asarray(picture.resize((width, max(height, 4)), Image.Resampling.BICUBIC), dtype=np.float64) / 255


def _free_corner(
    shape: tuple[int, ...], size: tuple[int, int], taken: list[tuple[int, int, int, int]], rng: np.random.Generator
) -> tuple[int, int] | None:
    """Top left corner where a digit covers no earlier one by much, or None when none was found."""
    for _ in range(TRIES):
        top = int(rng.integers(0, max(size[0] - shape[0], 1)))
        left = int(rng.integers(0, max(size[1] - shape[1], 1)))
        area = shape[0] * shape[1]
        covered = max(
            (
                max(0, min(top + shape[0], b) - max(top, t)) * max(0, min(left + shape[1], r) - max(left, x))
                for t, x, b, r in taken
            ),
            default=0,
        )
        smallest = min([area, *((b - t) * (r - x) for t, x, b, r in taken)])
        if covered <= MOST_OVERLAP * smallest:
            return top, left
    return None
