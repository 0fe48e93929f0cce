from __future__ import annotations

import numpy as np
import pytest

from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError
from hdapbench.fleet.base import Workloads
from hdapbench.fleet.open import open_fleet
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.fleet.simulated.profile import load_profile
from hdapbench.spec import SimulatedFleetSpec
from tests.fleet.making import simulated


def workloads(kernels: KernelModel, n_plans: int = 3) -> Workloads:
    shares = np.linspace(1.0, 0.3, n_plans)[:, None]
    widths = np.maximum(1, (kernels.sizes * shares).astype(np.int64))
    return Workloads(kernels, widths, tuple(f"p{number}" for number in range(n_plans)))


def test_open_fleet_gives_the_fleet_of_a_spec() -> None:
    fields = {"name": "f", "kind": "simulated", "sku": "nano", "scenario": "mixed", "n_devices": 3}

    opened = open_fleet(SimulatedFleetSpec.model_validate(fields))

    assert isinstance(opened, SimulatedFleet)
    assert opened.source == "simulated"
    assert tuple(opened.device_ids) == ("nano-0000", "nano-0001", "nano-0002")


def test_a_fleet_describes_all_that_its_devices_depend_on() -> None:
    assert simulated().describe() == {
        "kind": "simulated",
        "sku": "xavier_nx",
        "scenario": "mixed",
        "n_devices": 12,
        "seed": 7,
        "precision": "fp32",
    }


def test_the_same_spec_gives_the_same_latencies_and_sessions_differ(kernels: KernelModel) -> None:
    every = np.arange(12)

    first, again = (simulated().measure(workloads(kernels), every, runs=5, seed=1) for _ in range(2))
    other = simulated().measure(workloads(kernels), every, runs=5, seed=2)

    np.testing.assert_array_equal(first, again)
    assert not np.any(first == other)


def test_devices_may_be_asked_in_any_order_and_twice(kernels: KernelModel) -> None:
    samples = simulated().measure(workloads(kernels), np.array([4, 0, 4]), runs=3, seed=1)

    np.testing.assert_array_equal(samples[0], samples[2])
    assert not np.any(samples[0] == samples[1])


def test_noise_is_two_percent_with_three_spikes_in_a_hundred(kernels: KernelModel) -> None:
    one, load = simulated(), workloads(kernels, 1)

    samples = one.measure(load, np.array([0]), runs=20_000, seed=0)[0, 0]

    relative = samples / np.median(samples)
    quartiles = np.quantile(relative, [0.25, 0.75])
    assert np.diff(quartiles)[0] / 1.349 == pytest.approx(0.02, rel=0.08)
    spikes = relative[relative > 1.08] - 1  # four standard deviations: noise alone almost never
    assert len(spikes) / len(relative) == pytest.approx(0.03 * np.exp(-0.08 / 0.5), rel=0.15)
    assert spikes.mean() == pytest.approx(0.58, rel=0.1)


def test_devices_drift_by_one_percent_between_sessions(kernels: KernelModel) -> None:
    one, load = simulated(n_devices=200), workloads(kernels, 1)
    every = np.arange(200)

    medians = np.stack([np.median(one.measure(load, every, runs=301, seed=seed)[:, 0], axis=1) for seed in range(2)])

    drift = np.log(medians[0] / medians[1])
    assert drift.std() == pytest.approx(0.01 * np.sqrt(2), rel=0.2)


def test_a_precision_that_the_board_lacks_is_refused() -> None:
    with pytest.raises(FleetError, match="does not compute in tc16"):
        simulated(sku="nano", precision="tc16")


def test_faster_arithmetic_makes_faster_fleets(kernels: KernelModel) -> None:
    load = workloads(kernels, 1)

    means = [simulated(precision=name).true_latency_ms(load).mean() for name in ("fp32", "fp16", "tc16")]

    assert np.all(np.diff(means) < 0)


def test_the_nominal_board_has_multipliers_near_one() -> None:
    """The middle of same_config is the nominal board, with a little load on everything."""
    states = simulated("same_config", n_devices=4000).states

    assert load_profile("xavier_nx").nominal_mode == "15W_6CORE"
    assert np.median(states.beta) == pytest.approx(1.0, abs=0.03)
    assert np.median(states.gamma) == pytest.approx(1.0, abs=0.03)
    assert np.median(states.alpha) == pytest.approx(1.05, abs=0.05)


@pytest.mark.parametrize("device", [0, 254, 255, 256, 257, 511, 512])
@pytest.mark.parametrize("n_devices", [513, 700])
def test_a_devices_answers_are_its_own_on_both_sides_of_a_blocks_border(
    kernels: KernelModel, device: int, n_devices: int
) -> None:
    load = workloads(kernels, 2)
    others = np.array([300, device, 3, 512, 256])

    among_all = simulated(n_devices=2000).measure(load, np.arange(2000), runs=3, seed=1)[device]
    alone = simulated(n_devices=n_devices).measure(load, np.array([device]), runs=3, seed=1)[0]
    among_others = simulated(n_devices=n_devices).measure(load, others, runs=3, seed=1)[1]

    np.testing.assert_array_equal(alone, among_all)
    np.testing.assert_array_equal(among_others, among_all)


def test_a_fleet_that_ends_in_the_middle_of_a_block_answers_the_same(kernels: KernelModel) -> None:
    load = workloads(kernels, 1)

    answers = [simulated(n_devices=n).measure(load, np.arange(255), runs=3, seed=1) for n in (255, 256, 257, 1000)]

    for other in answers[1:]:
        np.testing.assert_array_equal(answers[0], other)


def test_devices_have_noise_of_their_own_across_blocks(kernels: KernelModel) -> None:
    one, load = simulated(n_devices=520), workloads(kernels, 1)
    every = np.arange(520)

    noise = one.measure(load, every, runs=1, seed=1)[:, 0, 0] / one.true_latency_ms(load)[:, 0]

    assert len(np.unique(noise)) == 520


def test_a_spec_without_noise_measures_the_truth(kernels: KernelModel) -> None:
    silent = {"log_sd": 0.0, "spike_probability": 0.0, "session_drift_log_sd": 0.0}
    one, load = simulated(noise=silent), workloads(kernels)

    samples = one.measure(load, np.arange(12), runs=4, seed=9)

    np.testing.assert_array_equal(samples, np.repeat(one.true_latency_ms(load)[:, :, None], 4, axis=2))
    assert one.describe()["noise"] == "log_sd 0, spike_probability 0, spike_mean 0.5, session_drift_log_sd 0"


def test_a_spec_says_how_much_repeats_differ(kernels: KernelModel) -> None:
    one = simulated(noise={"log_sd": 0.1, "spike_probability": 0.0, "session_drift_log_sd": 0.0})
    load = workloads(kernels, 1)

    logs = np.log(one.measure(load, np.arange(12), runs=2000, seed=0)[:, 0] / one.true_latency_ms(load))

    assert logs.std() == pytest.approx(0.1, rel=0.03)
    assert logs.mean() == pytest.approx(0.0, abs=0.003)


def test_a_spec_says_how_often_and_how_far_repeats_spike(kernels: KernelModel) -> None:
    one = simulated(noise={"log_sd": 0.0, "spike_probability": 0.2, "spike_mean": 3.0, "session_drift_log_sd": 0.0})
    load = workloads(kernels, 1)

    extra = one.measure(load, np.arange(12), runs=2000, seed=0)[:, 0] / one.true_latency_ms(load) - 1

    spikes = extra[extra > 1e-12]
    assert len(spikes) / extra.size == pytest.approx(0.2, abs=0.01)
    assert spikes.mean() == pytest.approx(3.0, rel=0.05)


def test_a_spec_says_how_much_devices_drift_between_sessions(kernels: KernelModel) -> None:
    one = simulated(n_devices=3000, noise={"log_sd": 0.0, "spike_probability": 0.0, "session_drift_log_sd": 0.05})
    load = workloads(kernels, 2)

    logs = np.log(one.measure(load, np.arange(3000), runs=2, seed=0) / one.true_latency_ms(load)[:, :, None])

    assert logs[:, 0, 0].std() == pytest.approx(0.05, rel=0.05)
    # One factor per device and session, whatever is measured.
    np.testing.assert_allclose(logs, np.broadcast_to(logs[:, :1, :1], logs.shape), atol=1e-12)


def test_names_of_devices_are_made_when_asked_for() -> None:
    ids = simulated(n_devices=1_000_000).device_ids

    assert len(ids) == 1_000_000
    assert ids[-1] == "xavier_nx-999999"
    assert tuple(ids[7:9]) == ("xavier_nx-0007", "xavier_nx-0008")
    with pytest.raises(IndexError):
        ids[1_000_000]
