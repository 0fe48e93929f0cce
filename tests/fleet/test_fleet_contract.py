"""What `Fleet` promises whatever lies behind it: the contract on each kind, and checks of answers that break it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError
from hdapbench.fleet.base import Fleet, Variants, Workloads
from hdapbench.fleet.open import open_fleet
from hdapbench.spec import RecordedFleetSpec
from hdapbench.testing.fleet_contract import FleetContract
from tests.fleet.making import ToyFleet, pruned, simulated


class TestSimulated(FleetContract):
    @pytest.fixture
    def fleet(self) -> Fleet:
        return simulated()

    @pytest.fixture
    def workloads(self, kernels: KernelModel) -> Workloads:
        return pruned(kernels, 3, seed=0)


class TestRecorded(FleetContract):
    @pytest.fixture
    def fleet(self, tmp_path: Path) -> Fleet:
        rows = [f"{device},{plan},{device + 1}.5,1" for device in range(3) for plan in ("a", "b")]
        (tmp_path / "lab.csv").write_text("\n".join(["device,plan,latency_ms,share", *rows]))
        fields = {"name": "lab", "kind": "recorded", "path": str(tmp_path / "lab.csv"), "weight_column": "share"}
        return open_fleet(RecordedFleetSpec.model_validate(fields))

    @pytest.fixture
    def workloads(self) -> Workloads:
        return Workloads.named(("b", "a"))


class TestLive(FleetContract):
    @pytest.fixture
    def fleet(self) -> Fleet:
        return Live({"": np.ones(2)})

    @pytest.fixture
    def workloads(self, kernels: KernelModel) -> Workloads:
        return live_workloads(kernels)


class Live(ToyFleet):
    """Builds every workload and runs it: what a local or a remote fleet does."""

    def sample(self, workloads: Workloads, devices: np.ndarray, *, runs: int, seed: int) -> np.ndarray:
        assert workloads.variants is not None
        answers = [float(workloads.variants.build(widths)) for widths in workloads.widths]  # type: ignore[arg-type]
        return np.tile(np.array(answers)[None, :, None], (len(devices), 1, runs))


def live_workloads(kernels: KernelModel) -> Workloads:
    variants = Variants(lambda widths: float(widths[0]), (3, 8, 8), "mine")  # type: ignore[arg-type, return-value]
    return Workloads(kernels, np.stack([kernels.sizes, kernels.sizes // 2]), ("a", "b"), variants)


def test_a_live_fleet_is_given_a_way_to_build_each_model(kernels: KernelModel) -> None:
    workloads = live_workloads(kernels)

    samples = Live({"": np.ones(1)}).measure(workloads, np.array([0]), runs=2, seed=0)

    np.testing.assert_array_equal(samples, [[[width, width] for width in workloads.widths[:, 0]]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -3.0])
def test_an_impossible_answer_is_an_error_that_names_device_and_workload(bad: float) -> None:
    fleet = ToyFleet({"probe0": np.ones(3), "mine": np.array([1.0, 1.0, bad])})

    with pytest.raises(FleetError, match=r"device board-2 gave .* for workload mine"):
        fleet.measure(Workloads.named(("probe0", "mine")), np.array([0, 2]), runs=5, seed=0)


def test_answers_of_the_wrong_shape_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    fleet = ToyFleet({"mine": np.ones(3)})
    monkeypatch.setattr(fleet, "sample", lambda *_, **__: np.ones((2, 1, 5)))

    with pytest.raises(FleetError, match=r"answered with shape \(2, 1, 5\)"):
        fleet.measure(Workloads.named(("mine",)), np.array([0, 2]), runs=7, seed=0)
