"""Scenarios of a spec: what it names differs from the base, everything else does not."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from pydantic import ValidationError

from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError, SpecError
from hdapbench.fleet.base import Workloads
from hdapbench.fleet.simulated.engine import CURRENT_STACK, SoftwareStack
from hdapbench.fleet.simulated.scenario import SCENARIOS, DevicePlace, resolve_scenario
from hdapbench.spec import ScenarioSpec
from hdapbench.spec.loader import load_fleets
from tests.fleet.making import simulated

STATES = ("mode", "ambient_celsius", "clock_mhz", "alpha", "beta", "gamma")


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_scenario_that_names_its_base_alone_is_the_base(name: str) -> None:
    assert resolve_scenario(ScenarioSpec(base=name)) is SCENARIOS[name]
    assert simulated(name).describe()["scenario"] == name


def test_what_a_spec_names_is_changed_and_nothing_else() -> None:
    spec = ScenarioSpec.model_validate({"base": "harsh", "leakage_log_sd": 0.0, "gpu_load": [0.1, 0.2]})

    found = resolve_scenario(spec)

    changed = {key for key in vars(found) if getattr(found, key) != getattr(SCENARIOS["harsh"], key)}
    assert changed == {"leakage_log_sd", "gpu_load"}
    assert found.gpu_load == (0.1, 0.2)
    assert (
        simulated(spec.model_dump(exclude_none=True)).describe()["scenario"]
        == "harsh with its own leakage_log_sd, gpu_load"
    )


def test_every_key_of_a_scenario_reaches_the_devices() -> None:
    """A key that changed nothing would be a promise without effect."""
    changes: dict[str, object] = {
        "modes": {"10W_DESKTOP": 1.0},
        "places": {"freezer": {"share": 1.0, "mean_celsius": -5.0, "sd_celsius": 1.0}},
        "thermal_resistance_log_sd": 1.0,
        "dynamic_power_log_sd": 0.5,
        "leakage_log_sd": 1.5,
        "busy_share": 1.0,
        "gpu_load": [0.4, 0.5],
        "memory_load": [0.4, 0.5],
        "cpu_contention_mean": 5.0,
        "capped_share": 1.0,
        "stacks": [{"share": 1.0, "depthwise_slowdown": 2.0}],
        "gpu_residual_log_sd": 0.5,
        "memory_residual_log_sd": 0.5,
        "launch_residual_log_sd": 0.5,
    }
    assert set(changes) == set(ScenarioSpec.model_fields) - {"base"}
    before = simulated("mixed", 400).states

    for key, value in changes.items():
        after = simulated({"base": "mixed", key: value}, 400).states
        differing = [name for name in (*STATES, "stack_index") if np.any(getattr(after, name) != getattr(before, name))]
        assert differing, key
        # Each quantity has a stream of its own: changing one leaves the draws of all others.
        expected = {"memory_load": ["gamma"], "stacks": ["stack_index"], "gpu_residual_log_sd": ["beta"]}
        assert differing == expected.get(key, differing), key


def test_own_modes_occur_as_often_as_their_shares_say() -> None:
    states = simulated({"base": "mixed", "modes": {"10W_DESKTOP": 0.25, "20W_2CORE": 0.75}}, 20_000).states

    assert set(states.mode) == {"10W_DESKTOP", "20W_2CORE"}
    assert (states.mode == "10W_DESKTOP").mean() == pytest.approx(0.25, abs=0.012)
    assert states.clock_mhz[states.mode == "10W_DESKTOP"].max() <= 510


def test_a_mode_of_share_zero_never_occurs() -> None:
    states = simulated({"base": "mixed", "modes": {"10W_DESKTOP": 0.0, "15W_6CORE": 1.0}}, 5000).states

    assert set(states.mode) == {"15W_6CORE"}


def test_own_places_set_the_ambient_temperature() -> None:
    places = {
        "freezer": {"share": 0.4, "mean_celsius": -5.0, "sd_celsius": 1.0},
        "kiln": {"share": 0.6, "mean_celsius": 50.0},
    }

    ambient = simulated({"base": "mixed", "places": places}, 20_000).states.ambient_celsius

    assert resolve_scenario(ScenarioSpec.model_validate({"base": "mixed", "places": places})).places == (
        DevicePlace(0.4, -5.0, 1.0),
        DevicePlace(0.6, 50.0, 0.0),
    )
    cold = ambient < 20
    assert cold.mean() == pytest.approx(0.4, abs=0.015)
    assert ambient[cold].mean() == pytest.approx(-5.0, abs=0.05)
    assert ambient[cold].std() == pytest.approx(1.0, rel=0.05)
    assert set(ambient[~cold]) == {50.0}


def test_own_loads_lie_between_their_ends_on_the_busy_boards() -> None:
    bare = {"gpu_residual_log_sd": 0.0, "memory_residual_log_sd": 0.0, "busy_share": 0.3, "base": "same_config"}

    states = simulated(bare | {"gpu_load": [0.2, 0.4], "memory_load": [0.0, 0.0]}, 10_000).states

    load = 1 - 1109.25 / states.clock_mhz / states.beta
    busy = load > 1e-9
    assert busy.mean() == pytest.approx(0.3, abs=0.02)
    assert load[busy].min() == pytest.approx(0.2, abs=0.001)
    assert load[busy].max() == pytest.approx(0.4, abs=0.001)
    assert load[busy].mean() == pytest.approx(0.3, abs=0.005)
    np.testing.assert_allclose(states.gamma, 1 / (1 - load / 2), rtol=1e-9)


def test_own_stacks_run_on_their_shares_and_the_current_one_on_the_rest(kernels: KernelModel) -> None:
    stacks = [{"share": 0.2, "depthwise_slowdown": 3.0}, {"share": 0.5, "narrow_tile_factor": 1.25}]

    states = simulated({"base": "mixed", "stacks": stacks}, 20_000).states

    assert states.stacks == (CURRENT_STACK, SoftwareStack(1.0, 3.0), SoftwareStack(1.25, 1.0))
    np.testing.assert_allclose(np.bincount(states.stack_index) / 20_000, [0.3, 0.2, 0.5], atol=0.012)


def test_stacks_that_share_the_whole_fleet_leave_no_current_one() -> None:
    states = simulated({"base": "harsh", "stacks": [{"share": 0.4}, {"share": 0.6}]}, 5000).states

    assert set(states.stack_index) == {1, 2}


def test_an_empty_list_of_stacks_takes_the_old_one_from_a_harsh_fleet() -> None:
    assert set(simulated({"base": "harsh", "stacks": []}, 1000).states.stack_index) == {0}


def test_ambient_temperatures_are_clipped() -> None:
    places = {"oven": {"share": 0.5, "mean_celsius": 80.0}, "pole": {"share": 0.5, "mean_celsius": -40.0}}

    assert set(simulated({"base": "mixed", "places": places}, 100).states.ambient_celsius) == {-10.0, 55.0}


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"modes": {}}, "modes: shares sum to 0, not 1"),
        ({"gpu_load": [0.3, 0.1]}, "gpu_load: 0.3 is the lowest and exceeds the highest, 0.1"),
        ({"memory_load": [0.3, 0.1]}, "memory_load: 0.3 is the lowest and exceeds the highest, 0.1"),
        ({"gpu_load": [0.0, 1.0]}, "less than 1"),
        ({"gpu_load": [0.1]}, "gpu_load"),
        ({"busy_share": 1.5}, "less than or equal to 1"),
        ({"cpu_contention_mean": -1.0}, "greater than or equal to 0"),
        ({"stacks": [{"share": 0.5, "depthwise_slowdown": 0.0}]}, "greater than 0"),
        ({"stacks": [{"share": 0.5, "narrow_tile_factor": 0.5}]}, "greater than or equal to 1"),
        ({"humidity": 0.5}, "humidity"),
    ],
)
def test_an_impossible_scenario_is_refused(changes: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValidationError) as caught:
        ScenarioSpec.model_validate({"base": "mixed", **changes})

    assert complaint in str(caught.value)


def fleet_file(folder: Path, scenario: str, sku: str = "xavier_nx") -> Path:
    path = folder / "fleet.yaml"
    path.write_text(f"name: mine\nkind: simulated\nsku: {sku}\nn_devices: 30\nscenario: {scenario}\n")
    return path


def test_a_file_of_one_fleet_is_read(tmp_path: Path) -> None:
    (spec,) = load_fleets(fleet_file(tmp_path, "{base: harsh, memory_load: [0.1, 0.2]}"), ["n_devices=8"])

    assert (spec.name, spec.n_devices) == ("mine", 8)
    assert spec.scenario == ScenarioSpec(base="harsh", memory_load=(0.1, 0.2))


@pytest.mark.parametrize(
    ("scenario", "complaint"),
    [
        ("hars", r"fleet\.yaml:5:\d+ scenario: unknown value 'hars'; did you mean 'harsh'\?"),
        (
            "{base: harsh, memory_lod: [0, 0.1]}",
            r"5:\d+ scenario\.memory_lod: unknown key .*did you mean 'memory_load'\?",
        ),
        ("{base: mixed, modes: {15W_6CORE: 0.5}}", r"5:\d+ scenario: modes: shares sum to 0\.5, not 1"),
        ("{base: mixed, gpu_load: [0.4, 0.2]}", r"5:\d+ scenario: gpu_load: 0\.4 is the lowest"),
        ("{memory_load: [0, 0.1]}", r"scenario: the key 'base' is missing|scenario\.base: the key 'base' is missing"),
    ],
)
def test_a_wrong_scenario_is_reported_at_its_place(tmp_path: Path, scenario: str, complaint: str) -> None:
    with pytest.raises(SpecError, match=complaint):
        load_fleets(fleet_file(tmp_path, scenario))


def test_a_board_of_ones_own_is_a_file(tmp_path: Path, kernels: KernelModel) -> None:
    profile = resources.files("hdapbench").joinpath("fleet/simulated/skus/nano.yaml").read_text()
    path = tmp_path / "slow_nano.yaml"
    path.write_text(profile.replace("name: nano", "name: slow_nano").replace("launch_us: 20", "launch_us: 2000"))
    load = Workloads(kernels, kernels.sizes[None], ("dense",))

    mine, nano = simulated(sku=str(path)), simulated(sku="nano")

    assert mine.device_ids[3] == "slow_nano-0003"
    assert mine.describe()["sku"] == str(path)
    extra = mine.true_latency_ms(load) - nano.true_latency_ms(load)
    np.testing.assert_allclose(extra[:, 0], 1.98 * len(kernels) * nano.states.alpha, rtol=1e-9)


def test_a_board_file_that_is_broken_is_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.yaml"
    broken.write_text("name: broken\ngpu_mhz: -3\n")

    with pytest.raises(FleetError, match=r"broken\.yaml gpu_mhz: must be above 0 \(here: -3\)"):
        simulated(sku=str(broken))
