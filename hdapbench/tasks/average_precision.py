"""Average precision of detections as ultralytics computes it, which calls its means mAP50-95 and mAP50."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from hdapbench.arrays import Booleans, Floats, Integers

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
RECALL_POINTS = np.linspace(0.0, 1.0, 101)
"""Precision is interpolated at 101 recalls, as in COCO, and integrated by trapezoids, as in ultralytics."""

MOST_GROUPS = 60
"""Of images that a jackknife leaves out in turn; each costs one computation of all average precisions."""


@dataclass(frozen=True)
class Matches:
    """Detections of a set, by falling confidence, and which of them are right.

    Attributes
    ----------
    correct
        At each threshold, shape (k, 10).
    classes, images
        Class of each detection, and number of its image, shape (k,).
    wanted, owners
        Class of each true box, and number of its image, shape (m,).
    """

    correct: Booleans
    classes: Floats
    images: Integers
    wanted: Floats
    owners: Integers

    def precision(self, chosen: Booleans | None = None) -> Floats:
        """Average precision of every class that occurs, at IoUs from 0.5 to 0.95, shape (n_classes, 10).

        Parameters
        ----------
        chosen
            Whether each image counts, shape (n_images,); all do by default.
        """
        found = slice(None) if chosen is None else chosen[self.images]
        real = self.wanted if chosen is None else self.wanted[chosen[self.owners]]
        correct, classes = self.correct[found], self.classes[found]
        return np.stack(
            [_class_precision(correct[classes == label], int((real == label).sum())) for label in np.unique(real)]
        )


def match(detections: Sequence[Tensor], truths: Sequence[Tensor]) -> Matches:
    """Detections of a set beside its true boxes.

    Parameters
    ----------
    detections
        Per image, shape (k, 6): left, top, right, bottom, confidence, class; by falling confidence.
    truths
        Per image, shape (m, 5): class, left, top, right, bottom.
    """
    correct = np.concatenate([_matches(found, real) for found, real in zip(detections, truths, strict=True)])
    stacked = torch.cat(list(detections)).double().numpy()
    numbers = np.arange(len(detections))
    images = np.repeat(numbers, [len(found) for found in detections])
    owners = np.repeat(numbers, [len(real) for real in truths])
    order = np.argsort(-stacked[:, 4], kind="stable")
    wanted = torch.cat(list(truths))[:, 0].double().numpy()
    return Matches(correct[order], stacked[order, 5], images[order], wanted, owners)


def pseudo_values(matches: Matches, n_images: int) -> Floats:
    """What groups of images contribute to mAP50-95, by the delete-a-group jackknife, shape (n_groups,).

    Their mean is mAP50-95 of all images, their variance divided by their number estimates that of the mean (Miller
    1974, "The jackknife: a review", Biometrika 61; Kott 2001, "The delete-a-group jackknife", J. Official Statistics).
    """
    n_groups = min(n_images, MOST_GROUPS)
    group = np.arange(n_images) % n_groups
    whole = matches.precision().mean()
    others = [chosen for number in range(n_groups) if (chosen := group != number)[matches.owners].any()]
    left_out = np.array([matches.precision(chosen).mean() for chosen in others])
    return np.asarray(whole + (n_groups - 1) * (left_out.mean() - left_out))


def _matches(detections: Tensor, truths: Tensor) -> Booleans:
    """Which detections of an image are right at each threshold, shape (k, 10).

    The most confident detection takes the truth of its class that it overlaps most and that nobody took before.
    """
    correct = np.zeros((len(detections), len(IOU_THRESHOLDS)), dtype=bool)
    if not len(truths):
        return correct
    overlaps = _overlaps(detections[:, :4], truths[:, 1:])
    overlaps *= detections[:, 5, None] == truths[None, :, 0]
    iou = overlaps.double().numpy()  # (k, m)
    taken = np.zeros((len(truths), len(IOU_THRESHOLDS)), dtype=bool)
    columns = np.arange(len(IOU_THRESHOLDS))
    for number in np.flatnonzero((iou >= IOU_THRESHOLDS[0]).any(1)):
        free = np.where(taken, 0.0, iou[number][:, None])  # (m, 10)
        best = free.argmax(0)
        correct[number] = free[best, columns] >= IOU_THRESHOLDS
        taken[best, columns] |= correct[number]
    return correct


def _overlaps(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union of every pair of boxes, shape (k, m)."""
    low = torch.maximum(first[:, None, :2], second[None, :, :2])
    high = torch.minimum(first[:, None, 2:], second[None, :, 2:])
    common = (high - low).clamp_min(0).prod(2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).clamp_min(0).prod(1) for boxes in (first, second)]
    return common / (areas[0][:, None] + areas[1][None, :] - common).clamp_min(1e-7)


def _class_precision(correct: Booleans, n_truths: int) -> Floats:
    """Area under the precision envelope over recall at each threshold, shape (10,), of one class."""
    if not len(correct):
        return np.zeros(len(IOU_THRESHOLDS))
    hits = correct.cumsum(0)  # (k, 10)
    recall = hits / n_truths
    precision = hits / np.arange(1, len(correct) + 1)[:, None]
    areas = []
    for column in range(correct.shape[1]):
        # Beyond the last recall that is reached, precision falls to zero at once.
        x = np.concatenate([[0.0], recall[:, column], [recall[-1, column], 1.0]])
        y = np.concatenate([[1.0], precision[:, column], [0.0, 0.0]])
        envelope = np.maximum.accumulate(y[::-1])[::-1]
        areas.append(np.trapezoid(np.interp(RECALL_POINTS, x, envelope), RECALL_POINTS))
    return np.array(areas)
