from __future__ import annotations

import pytest

from studies.joint_fronts import Point, beaten, beating, size_at


def point(family: str, size: float, accuracy: float) -> Point:
    return Point(family, size, accuracy, epochs=1.0, seconds=1.0, n_seeds=1)


POINTS = [
    point("joint", 100, 0.90),
    point("joint", 150, 0.85),  # off the front: larger and worse
    point("joint", 200, 0.94),
    point("w2", 120, 0.904),
    point("w8", 400, 0.96),
]


def test_a_rival_is_beaten_by_what_is_smaller_and_equal_within_half_a_point():
    assert beaten(POINTS, "w2") == (1, 1)
    assert beating(POINTS, "w2") == 1
    assert beaten(POINTS, "w8") == (0, 1)
    assert beating(POINTS, "w8") == 0


def test_sizes_lie_on_straight_lines_between_points_of_the_front():
    assert size_at(POINTS, 0.92) == pytest.approx(150)
    assert size_at(POINTS, 0.5) == 100
    assert size_at(POINTS, 0.96) is None
