"""What any fleet must do, as a test suite: subclass `FleetContract`; its fixtures return your fleet and workloads."""

from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest

from hdapbench.errors import FleetError
from hdapbench.fleet.base import Fleet, LatencySource, Workloads
from hdapbench.fleet.estimate.clustered import fingerprint_fleet
from hdapbench.spec import ClusteringSpec


class FleetContract:
    """Tests that every fleet passes. A subclass overrides the fixtures `fleet` and `workloads`."""

    @pytest.fixture
    def fleet(self) -> Fleet:
        """Fleet of at least two devices."""
        raise NotImplementedError("override the fixture `fleet` to return a fleet")

    @pytest.fixture
    def workloads(self) -> Workloads:
        """Two workloads or more that the fleet can time."""
        raise NotImplementedError("override the fixture `workloads` to return what the fleet can time")

    def test_it_says_what_it_is_in_plain_values(self, fleet: Fleet) -> None:
        """Boards and fingerprints print and keep these."""
        facts = fleet.describe()

        assert fleet.name
        assert facts["kind"]
        assert fleet.source in get_args(LatencySource)
        assert all(isinstance(value, (str, int, float)) for value in facts.values()), facts
        assert json.dumps(fleet.describe_devices(), allow_nan=False)
        assert len(set(fleet.device_ids)) == fleet.n_devices > 1
        if fleet.weights is not None:
            assert fleet.weights.shape == (fleet.n_devices,)
            assert abs(fleet.weights.sum() - 1) < 1e-9

    def test_every_asked_device_answers_for_every_workload(self, fleet: Fleet, workloads: Workloads) -> None:
        """Devices are answered in the order asked for, and an answer has as many repeats as asked for."""
        both = fleet.measure(workloads, np.array([1, 0]), runs=3, seed=0)

        assert both.shape == (2, len(workloads), 3)
        assert fleet.measure(workloads, np.array([], dtype=np.int64), runs=3, seed=0).shape == (0, len(workloads), 3)

    def test_devices_that_are_not_there_are_refused(self, fleet: Fleet, workloads: Workloads) -> None:
        """The error names them."""
        for device in (-1, fleet.n_devices):
            with pytest.raises(FleetError, match=rf"asked for \[{device}\]"):
                fleet.measure(workloads, np.array([device]), runs=1, seed=0)

    def test_what_is_known_without_measuring_has_its_shape(self, fleet: Fleet, workloads: Workloads) -> None:
        """All of it may be unknown."""
        true, mean = fleet.true_latency_ms(workloads), fleet.mean_latency_ms(workloads)
        bounds = fleet.bound_shares(workloads.kernels, workloads.widths)

        assert true is None or true.shape == (fleet.n_devices, len(workloads))
        assert mean is None or mean.shape == (len(workloads),)
        assert bounds is None or np.allclose(bounds.sum(axis=1), 1.0)
        assert fleet.plans is None or set(workloads.ids) <= set(fleet.plans)

    def test_it_can_be_fingerprinted_clustered_and_averaged(self, fleet: Fleet, workloads: Workloads) -> None:
        """Runs and commands do so."""
        how = ClusteringSpec(n_clusters=2)

        clustered = fingerprint_fleet(
            fleet, workloads.kernels, clustering=how, runs=3, seed=0, variants=workloads.variants
        )
        found = clustered.measure_clusters(workloads, runs=3, seed=1)

        assert clustered.fingerprint_ms.shape[0] == fleet.n_devices
        assert np.all(clustered.average(found.device_latency_ms, found.devices).mean_ms > 0)

    def test_it_may_be_closed_twice_and_asked_again(self, fleet: Fleet, workloads: Workloads) -> None:
        """Whoever is done with a fleet gives back its processes, and need not know who comes next."""
        for _ in range(2):
            fleet.close()
            fleet.close()
            assert len(fleet.measure(workloads, np.array([0]), runs=1, seed=0)) == 1
        fleet.close()
