"""Average precision against hand-made cases, and against ultralytics' own figures on random detections."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from hdapbench.models import quiet_ultralytics
from hdapbench.tasks.average_precision import IOU_THRESHOLDS, match, pseudo_values
from tests.zoo import needs_yolo

MOST = 0.995
"""What perfect detections have: ultralytics lets precision fall to zero from the 100th to the 101st recall."""

TRUTH = torch.tensor([[0.0, 10, 10, 50, 50]])


def average_precision(detections: list[torch.Tensor], truths: list[torch.Tensor]) -> np.ndarray:
    return match(detections, truths).precision()


def found(*rows: tuple[float, ...]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float32).reshape(-1, 6)


def test_exact_boxes_have_full_precision_at_every_threshold():
    precision = average_precision([found((10, 10, 50, 50, 0.9, 0))], [TRUTH])

    assert precision.shape == (1, 10)
    assert precision == pytest.approx(MOST)


def test_a_box_counts_up_to_the_overlap_that_it_has():
    # 40x32 of 40x40 overlap: IoU 0.8.
    precision = average_precision([found((10, 10, 50, 42, 0.9, 0))], [TRUTH])

    assert precision[0] == pytest.approx(np.where(IOU_THRESHOLDS <= 0.8 + 1e-6, MOST, 0.0))


def test_the_wrong_class_and_nothing_at_all_have_precision_zero():
    assert average_precision([found((10, 10, 50, 50, 0.9, 1))], [TRUTH]).max() == 0.0
    assert average_precision([found()], [TRUTH]).max() == 0.0


def test_of_two_boxes_on_one_object_the_more_confident_is_right_and_the_other_wrong():
    two = found((10, 10, 50, 50, 0.9, 0), (10, 10, 50, 49, 0.8, 0))
    more = torch.tensor([[0.0, 10, 10, 50, 50], [0, 80, 80, 99, 99]])

    doubled = average_precision([two], [TRUTH])[0, 0]
    half = average_precision([two], [more])[0, 0]

    assert doubled == pytest.approx(MOST)  # the false one comes after all recall is reached
    assert half == pytest.approx(0.5, abs=0.01)


def test_a_confident_false_alarm_costs_precision():
    alarm = found((70, 70, 90, 90, 0.95, 0), (10, 10, 50, 50, 0.9, 0))

    assert average_precision([alarm], [TRUTH])[0, 0] == pytest.approx(0.5, abs=0.01)


def test_classes_that_do_not_occur_do_not_count():
    extra = found((10, 10, 50, 50, 0.9, 0), (1, 1, 5, 5, 0.9, 7))

    assert len(average_precision([extra], [TRUTH])) == 1


def random_images(seed: int) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Detections that are truths moved about, missed or doubled, and false alarms, of three classes."""
    rng = np.random.default_rng(seed)
    detections, truths = [], []
    for _ in range(25):
        corner = rng.uniform(0, 60, (rng.integers(0, 6), 2))
        boxes = np.concatenate([corner, corner + rng.uniform(8, 40, corner.shape)], axis=1)
        labels = rng.integers(0, 3, len(boxes))
        truths.append(torch.tensor(np.column_stack([labels, boxes]), dtype=torch.float32))
        moved = np.repeat(boxes, 2, axis=0) + rng.normal(0, 3, (2 * len(boxes), 4))
        guessed = np.where(rng.random(len(moved)) < 0.8, np.repeat(labels, 2), rng.integers(0, 3, len(moved)))
        alarms = np.concatenate([rng.uniform(0, 40, (3, 2)), rng.uniform(50, 99, (3, 2))], axis=1)
        rows = np.column_stack(
            [
                np.concatenate([moved, alarms]),
                rng.random(len(moved) + 3),
                np.concatenate([guessed, rng.integers(0, 3, 3)]),
            ]
        )
        rows = rows[rng.random(len(rows)) < 0.9]
        detections.append(torch.tensor(rows[np.argsort(-rows[:, 4])], dtype=torch.float32))
    return detections, truths


@needs_yolo
@pytest.mark.parametrize("seed", range(5))
def test_figures_are_those_of_ultralytics(seed):
    detections, truths = random_images(seed)
    with quiet_ultralytics():
        from ultralytics.engine.validator import BaseValidator
        from ultralytics.utils.metrics import ap_per_class, box_iou

    class Matcher:
        iouv = torch.linspace(0.5, 0.95, 10)

    right = [
        BaseValidator.match_predictions(Matcher(), d[:, 5], t[:, 0], box_iou(t[:, 1:], d[:, :4]))
        for d, t in zip(detections, truths, strict=True)
    ]
    all_found, all_real = torch.cat(detections).numpy(), torch.cat(truths).numpy()
    expected = ap_per_class(torch.cat(right).numpy(), all_found[:, 4], all_found[:, 5], all_real[:, 0])[5]

    precision = average_precision(detections, truths)

    assert 0.1 < precision.mean() < 0.9
    np.testing.assert_allclose(precision, expected, atol=1e-6)


def test_pseudo_values_have_the_mean_and_the_spread_of_mean_average_precision():
    rng = np.random.default_rng(0)
    n_images = 120
    truths = [TRUTH for _ in range(n_images)]
    shifts = rng.exponential(8.0, n_images)
    detections = [found((10 + shift, 10, 50 + shift, 50, rng.uniform(0.3, 1.0), 0)) for shift in shifts]

    matches = match(detections, truths)
    parts = pseudo_values(matches, n_images)

    def resampled() -> float:
        drawn = rng.integers(n_images, size=n_images)
        return average_precision([detections[i] for i in drawn], [truths[i] for i in drawn]).mean()

    bootstrap = np.std([resampled() for _ in range(200)], ddof=1)
    assert parts.mean() == pytest.approx(matches.precision().mean())
    assert np.std(parts, ddof=1) / np.sqrt(len(parts)) == pytest.approx(bootstrap, rel=0.3)
