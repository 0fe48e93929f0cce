from __future__ import annotations

import numpy as np
import pytest

from hdapbench.testing.store_contract import example_metrics, example_result
from hdapbench.trial import BitMetrics, Outcomes, Result
from studies.joint_fronts import family, points_of, saving, table
from tests.boards import trial


def result(
    choose: str, target: str, stored: int, right: int, *, seed: int = 0, bits: int = 4, **given: object
) -> Result:
    accuracy = right / 1000
    of_bits = BitMetrics(
        weight_bytes=stored - 100,
        packed_bytes=stored + 900,
        bit_operations=1e6,
        mpic_cycles=2.0 * stored,
        ne16_cycles=None,
        channels_at_bits={bits: 8},
        integer_accuracy=accuracy,
        argmax_differences=0,
        n_compared=1000,
        stored_bytes=stored,
    )
    metrics = example_metrics(latency_ms=5.0, accuracy=accuracy).model_copy(update={"bits": of_bits})
    made = trial("joint-mpq", target=target, seed=seed, parameters={"choose": choose, **given})
    outcomes = Outcomes.of_images(np.arange(1000) < right)
    return example_result(made, metrics=metrics).model_copy(update={"outcomes": outcomes})


RESULTS = [
    result(*of, seed=seed)
    for seed in (0, 1, 2)
    for of in (
        ("joint", "0.2x size", 2000, 900),
        ("joint", "0.4x size", 4000, 950),
        ("sequence", "0.4x size", 8000, 960),
    )
]


def test_a_saving_is_read_between_fronts_with_its_interval():
    points = points_of(RESULTS)

    found = saving(points, "joint", "sequence", "stored_bytes")

    assert found is not None
    assert found.share == pytest.approx(0.5)
    assert (found.low, found.high) == pytest.approx((0.5, 0.5), abs=1e-3), "no seed and no image differs"
    assert found.accuracies == pytest.approx((0.95, 0.95), abs=1e-3)
    assert found.given_up == pytest.approx(0.01)
    assert saving(points, "joint", "sequence", "ne16_cycles") is None
    assert saving(points, "joint", "w2", "stored_bytes") is None


def test_families_tell_limits_rules_and_single_bit_widths_apart():
    def name(found: Result) -> str:
        assert found.metrics is not None
        assert found.metrics.bits is not None
        return family(found, found.metrics.bits)

    assert name(result("joint", "0.5x ne16", 1000, 900)) == "joint by NE16"
    assert name(result("fixed", "1x size", 1000, 900, bits=2)) == "w2"
    assert name(result("joint", "0.2x size", 1000, 900, preset="paper")) == "published rules"
    assert name(result("joint", "0.2x size", 1000, 900, warm_up=0.6)) == "joint, shared beginning"
    assert name(result("joint", "0.5x mpic", 1000, 900, activation_bits="2,4,8")) == "joint, activation bits by MPIC"


def test_the_table_has_every_point_and_every_rival():
    text = table("example", points_of(RESULTS))

    assert "| sequence | 0.4x size | 8.00 | 7.90 | 96.00 (96.00 to 96.00) |" in text
    assert "| stored | joint | sequence | +50.0% |" in text
    assert "69.54% against w2" in text
