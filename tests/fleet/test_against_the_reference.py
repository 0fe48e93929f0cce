"""Simulated fleets against the scalar reference: draws, clocks, multipliers, latencies and the fleet's mean."""

from __future__ import annotations

import numpy as np
import pytest

from hdapbench.fleet.base import Workloads
from tests.fleet.making import simulated
from tests.fleet.networks import random_network, random_widths, shapes_of
from tests.fleet.reference import CURRENT, OLD, network_ms
from tests.fleet.state_reference import LAWS, draw_devices

SKUS = ("xavier_nx", "nano")


@pytest.mark.parametrize("sku", SKUS)
@pytest.mark.parametrize("scenario", LAWS)
@pytest.mark.parametrize("uptime", [None, 0.0, 120.0, 1800.0])
def test_states_equal_those_of_the_scalar_reference(sku: str, scenario: str, uptime: float | None) -> None:
    expected = draw_devices(sku, scenario, 400, seed=5, uptime=uptime)

    states = simulated(scenario, 400, seed=5, sku=sku, uptime_seconds=uptime).states

    assert states.mode.tolist() == [device.mode for device in expected]
    assert states.stack_index.tolist() == [int(device.old) for device in expected]
    for name, reference in (
        ("clock_mhz", "sustained_mhz"),
        ("cold_clock_mhz", "cold_mhz"),
        ("throttle_seconds", "throttle_seconds"),
        ("alpha", "alpha"),
        ("beta", "beta"),
        ("gamma", "gamma"),
    ):
        of_reference = [getattr(device, reference) for device in expected]
        np.testing.assert_allclose(getattr(states, name), of_reference, rtol=1e-9, err_msg=name)


def test_states_across_the_borders_of_the_parts_they_are_drawn_in_equal_the_reference(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("hdapbench.fleet.simulated.scenario._DEVICES_AT_A_TIME", 64)
    expected = draw_devices("xavier_nx", "harsh", 200, seed=1)

    states = simulated("harsh", 200, seed=1).states

    np.testing.assert_allclose(states.beta, [device.beta for device in expected], rtol=1e-9)


@pytest.mark.parametrize(("sku", "precision"), [("xavier_nx", "fp32"), ("xavier_nx", "tc16"), ("nano", "fp16")])
@pytest.mark.parametrize("scenario", LAWS)
@pytest.mark.parametrize("uptime", [None, 60.0])
def test_latencies_and_the_fleets_mean_equal_those_of_the_scalar_reference(
    sku: str, precision: str, scenario: str, uptime: float | None
) -> None:
    rng = np.random.default_rng(SKUS.index(sku))
    kernels = random_network(rng, 14)
    widths = random_widths(rng, kernels, 3)
    fleet = simulated(scenario, 12, seed=2, sku=sku, precision=precision, uptime_seconds=uptime)
    load = Workloads(kernels, widths, ("a", "b", "c"))

    devices = draw_devices(sku, scenario, 12, seed=2, uptime=uptime)
    expected = [
        [
            network_ms(
                shapes, sku, precision, (device.alpha, device.beta, device.gamma, OLD if device.old else CURRENT)
            )
            for shapes in (shapes_of(kernels, row) for row in widths)
        ]
        for device in devices
    ]
    np.testing.assert_allclose(fleet.true_latency_ms(load), expected, rtol=1e-9)
    np.testing.assert_allclose(fleet.mean_latency_ms(load), np.mean(expected, axis=0), rtol=1e-9)
