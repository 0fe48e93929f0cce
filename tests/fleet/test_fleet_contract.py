"""What `Fleet` promises whatever lies behind it, shown on fleets of a few lines: a recorded and a live one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

from hdapbench.cost.kernels import KernelModel
from hdapbench.errors import FleetError
from hdapbench.fleet.base import Fleet, LatencySource, Variants, Workloads
from hdapbench.fleet.estimate.clustered import fingerprint_fleet
from hdapbench.spec import ClusteringSpec


class Recorded(Fleet):
    """Looks samples up by the workload's id."""

    name = "recorded"
    source: LatencySource = "measured"

    def __init__(self, table: dict[str, NDArray[np.float64]]) -> None:
        self._table = table
        n_devices = len(next(iter(table.values())))
        self.device_ids = tuple(f"board-{number}" for number in range(n_devices))

    def describe(self) -> dict[str, str | int | float]:
        return {"kind": "recorded", "n_devices": self.n_devices}

    def sample(
        self,
        workloads: Workloads,
        devices: NDArray[np.int64],
        *,
        runs: int,
        seed: int,
    ) -> NDArray[np.float64]:
        return np.stack([self._table[name][devices][:, :runs] for name in workloads.ids], axis=1)


class Live(Fleet):
    """Builds every workload and runs it: what a local or a remote fleet does."""

    name = "live"
    source: LatencySource = "measured"
    device_ids = ("here",)

    def describe(self) -> dict[str, str | int | float]:
        return {"kind": "local"}

    def sample(
        self,
        workloads: Workloads,
        devices: NDArray[np.int64],
        *,
        runs: int,
        seed: int,
    ) -> NDArray[np.float64]:
        assert workloads.variants is not None
        answers = [float(workloads.variants.build(widths)) for widths in workloads.widths]  # type: ignore[arg-type]
        return np.tile(np.array(answers)[None, :, None], (len(devices), 1, runs))


def recorded(kernels: KernelModel, n_devices: int = 6) -> tuple[Recorded, Callable[..., Workloads]]:
    rng = np.random.default_rng(0)
    names = ("probe0", "probe1", "probe2", "mine")
    table = {name: rng.uniform(1, 2, size=(n_devices, 5)) for name in names}

    def workloads(*ids: str) -> Workloads:
        return Workloads(kernels, np.tile(kernels.sizes, (len(ids), 1)), ids)

    return Recorded(table), workloads


def test_a_recorded_fleet_answers_by_the_ids_of_workloads(kernels: KernelModel) -> None:
    fleet, workloads = recorded(kernels)

    samples = fleet.measure(workloads("mine", "probe0"), np.array([1, 3, 4]), runs=5, seed=0)

    assert samples.shape == (3, 2, 5)
    assert not np.any(samples[:, 0] == samples[:, 1])


def test_a_recorded_fleet_can_be_fingerprinted_and_clustered(kernels: KernelModel) -> None:
    fleet, _ = recorded(kernels)

    clustered = fingerprint_fleet(fleet, kernels, clustering=ClusteringSpec(n_clusters=2), runs=5, seed=0)

    assert clustered.n_clusters == 2
    assert clustered.n_fingerprint_queries == 6 * 3


def test_a_live_fleet_is_given_a_way_to_build_each_model(kernels: KernelModel) -> None:
    variants = Variants(lambda widths: float(widths[0]), (3, 8, 8), "mine")  # type: ignore[arg-type, return-value]
    widths = np.stack([kernels.sizes, kernels.sizes // 2])
    workloads = Workloads(kernels, widths, ("a", "b"), variants)

    samples = Live().measure(workloads, np.array([0]), runs=2, seed=0)

    np.testing.assert_array_equal(samples, [[[width, width] for width in widths[:, 0]]])


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0, -3.0])
def test_an_impossible_answer_is_an_error_that_names_device_and_workload(kernels: KernelModel, bad: float) -> None:
    fleet, workloads = recorded(kernels)
    fleet._table["mine"][2, 1] = bad

    with pytest.raises(FleetError, match=r"device board-2 gave .* for workload mine"):
        fleet.measure(workloads("probe0", "mine"), np.array([0, 2]), runs=5, seed=0)


def test_answers_of_the_wrong_shape_are_an_error(kernels: KernelModel) -> None:
    fleet, workloads = recorded(kernels)

    with pytest.raises(FleetError, match=r"answered with shape \(2, 1, 5\)"):
        fleet.measure(workloads("mine"), np.array([0, 2]), runs=7, seed=0)
