"""Fitting a profile's constants: known ones come back, and the report says what is left."""

from __future__ import annotations

import numpy as np
import pytest

from hdapbench.errors import FleetError
from hdapbench.fleet.simulated.calibration import MeasuredModel, calibrate
from hdapbench.fleet.simulated.engine import device_latency_ms, kernel_times
from hdapbench.fleet.simulated.profile import SkuProfile, load_profile, parse_profile
from tests.surrogate.surrogate_worlds import random_widths, small_model


def simulated(profile: SkuProfile, name: str, n_plans: int, seed: int) -> MeasuredModel:
    _, kernels = small_model()
    widths = random_widths(n_plans, seed)
    one = np.ones(1)
    times = kernel_times(kernels, widths, profile, "fp32")
    return MeasuredModel(name, kernels, widths, device_latency_ms(times, profile.launch_us / 1000, one, one, one)[0])


@pytest.fixture(scope="module")
def other_board() -> SkuProfile:
    """A board three times slower in arithmetic, with launches of 30 us and half the bandwidth."""
    known = load_profile("xavier_nx")
    changes = {
        "efficiency": known.efficiency | {"fp32": known.efficiency["fp32"] / 3},
        "memory_bytes_per_cycle": known.memory_bytes_per_cycle / 2,
        "launch_us": 30.0,
    }
    return known.model_copy(update=changes)


def test_constants_of_another_board_come_back_from_its_latencies(other_board: SkuProfile) -> None:
    fitted = calibrate(
        load_profile("xavier_nx"), [simulated(other_board, "m", 40, 1)], precision="fp32", source="simulated"
    )

    report = fitted.calibration
    assert report is not None
    assert report.mape_before > 0.5
    assert report.mape < 0.02
    assert report.within_10_share == 1.0
    assert report.rank_correlation > 0.99
    assert fitted.launch_us == pytest.approx(30.0, rel=0.1)
    # Other plans of the same board follow.
    fresh = simulated(other_board, "m", 40, 2)
    again = simulated(fitted, "m", 40, 2)
    np.testing.assert_allclose(again.latency_ms, fresh.latency_ms, rtol=0.05)


def test_the_report_says_how_noisy_measurements_were(other_board: SkuProfile) -> None:
    exact = simulated(other_board, "m", 40, 1)
    noise = np.exp(0.15 * np.random.default_rng(0).standard_normal(40))
    noisy = MeasuredModel("m", exact.kernels, exact.widths, exact.latency_ms * noise)

    report = calibrate(load_profile("xavier_nx"), [noisy], precision="fp32", source="noisy").calibration

    assert report is not None
    assert 0.08 < report.mape < 0.2
    assert report.within_10_share < 0.8


def test_models_are_left_out_whole_where_there_are_several(other_board: SkuProfile) -> None:
    models = [simulated(other_board, name, 6, seed) for seed, name in enumerate("abc")]

    report = calibrate(load_profile("xavier_nx"), models, precision="fp32", source="three").calibration

    assert report is not None
    assert report.models == ("a", "b", "c")
    assert report.mape_new_models is not None
    assert report.mape_new_models < 0.1


def test_a_calibrated_profile_survives_its_file(other_board: SkuProfile) -> None:
    import yaml

    fitted = calibrate(
        load_profile("xavier_nx"), [simulated(other_board, "m", 12, 1)], precision="fp32", source="simulated"
    )

    assert parse_profile(yaml.safe_dump(fitted.model_dump(mode="json")), "x.yaml") == fitted


def test_too_few_plans_and_unknown_arithmetic_are_refused(other_board: SkuProfile) -> None:
    with pytest.raises(FleetError, match="3 plans are too few"):
        calibrate(other_board, [simulated(other_board, "m", 3, 1)], precision="fp32", source="few")
    with pytest.raises(FleetError, match="does not compute in bf16"):
        calibrate(other_board, [simulated(other_board, "m", 30, 1)], precision="bf16", source="few")
