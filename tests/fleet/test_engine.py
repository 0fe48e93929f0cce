"""The vectorised engine against the scalar reference, and against what is published about the boards."""

from __future__ import annotations

import numpy as np
import pytest

from hdapbench.cost.kernels import Kernel, KernelModel
from hdapbench.cost.records import ChannelCount
from hdapbench.errors import FleetError
from hdapbench.fleet.simulated.engine import (
    CURRENT_STACK,
    OLD_STACK,
    KernelTimes,
    SoftwareStack,
    device_latency_ms,
    kernel_times,
)
from hdapbench.fleet.simulated.profile import load_profile
from tests.fleet.networks import random_network, random_widths, shapes_of
from tests.fleet.reference import CURRENT, OLD, Stack, kernel_ms, network_ms, winner

BOARDS = [("xavier_nx", "fp32"), ("xavier_nx", "fp16"), ("xavier_nx", "tc16"), ("nano", "fp32"), ("nano", "fp16")]


def single_kernel(kind: str = "conv", **changes: object) -> KernelModel:
    """One 3x3 convolution from 64 to 64 channels on 56x56 maps, or what ``changes`` make of it."""
    fields = {
        "channels_in": ChannelCount(0, {"g": 1}),
        "channels_out": ChannelCount(0, {"g": 1}),
        "height_in": 56,
        "width_in": 56,
        "height_out": 56,
        "width_out": 56,
        "kernel_area": 9,
        "stride": 1,
    }
    return KernelModel(("g",), np.array([64]), (Kernel("k", kind, **(fields | changes)),))  # type: ignore[arg-type]


@pytest.mark.parametrize(("sku", "precision"), BOARDS)
@pytest.mark.parametrize("stack", [CURRENT, OLD, Stack(narrow=2.25, depthwise=3.0)])
def test_kernel_times_equal_the_scalar_reference_on_random_networks(sku: str, precision: str, stack: Stack) -> None:
    rng = np.random.default_rng(BOARDS.index((sku, precision)))
    for _ in range(3):
        kernels = random_network(rng)
        widths = random_widths(rng, kernels, 4)

        times = kernel_times(
            kernels, widths, load_profile(sku), precision, stack=SoftwareStack(stack.narrow, stack.depthwise)
        )

        expected = np.array(
            [[kernel_ms(shape, sku, precision, stack) for shape in shapes_of(kernels, row)] for row in widths]
        )
        np.testing.assert_allclose(times.compute_ms, expected[..., 0], rtol=1e-9)
        np.testing.assert_allclose(times.memory_ms, expected[..., 1], rtol=1e-9)


@pytest.mark.parametrize(("sku", "precision"), BOARDS)
def test_device_latencies_equal_the_scalar_reference(sku: str, precision: str) -> None:
    rng = np.random.default_rng(100)
    kernels = random_network(rng)
    widths = random_widths(rng, kernels, 5)
    alpha, beta, gamma = rng.uniform(0.5, 4.0, size=(3, 7))
    times = kernel_times(kernels, widths, load_profile(sku), precision)

    latency = device_latency_ms(times, load_profile(sku).launch_us / 1000, alpha, beta, gamma)

    expected = [
        [network_ms(shapes_of(kernels, row), sku, precision, (alpha[d], beta[d], gamma[d], CURRENT)) for row in widths]
        for d in range(7)
    ]
    np.testing.assert_allclose(latency, expected, rtol=1e-9)


def test_every_kind_of_candidate_wins_somewhere_in_the_random_networks() -> None:
    """Agreement with the reference says nothing about a branch that no random kernel takes."""
    rng = np.random.default_rng(0)
    won = set()
    for _ in range(10):
        kernels = random_network(rng)
        matrices = [shape for shape in shapes_of(kernels, kernels.sizes) if shape.t in ("conv", "fc")]
        won |= {winner(shape, "xavier_nx", "fp32")[0] for shape in matrices}

    assert won == {"split 1", "split 2", "split 4", "split 8", "winograd"}


def test_the_stacks_of_the_reference_study_are_known_by_name() -> None:
    assert SoftwareStack(CURRENT.narrow, CURRENT.depthwise) == CURRENT_STACK
    assert SoftwareStack(OLD.narrow, OLD.depthwise) == OLD_STACK


def test_chunks_do_not_change_latencies(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    times = KernelTimes(rng.uniform(0, 1, (6, 9)), rng.uniform(0, 1, (6, 9)), np.full(6, 9))
    alpha, beta, gamma = rng.uniform(0.5, 2.0, size=(3, 11))

    whole = device_latency_ms(times, 0.01, alpha, beta, gamma)
    monkeypatch.setattr("hdapbench.fleet.simulated.engine._NUMBERS_AT_A_TIME", 1)
    chunked = device_latency_ms(times, 0.01, alpha, beta, gamma)

    np.testing.assert_array_equal(whole, chunked)
    assert whole.shape == (11, 6)


def test_plans_timed_together_equal_plans_timed_alone() -> None:
    rng = np.random.default_rng(2)
    kernels = random_network(rng)
    widths = np.repeat(random_widths(rng, kernels, 3), 2, axis=0)
    profile = load_profile("xavier_nx")

    together = kernel_times(kernels, widths, profile, "fp16")
    alone = [kernel_times(kernels, row, profile, "fp16") for row in widths]

    np.testing.assert_array_equal(together.compute_ms, np.concatenate([times.compute_ms for times in alone]))
    np.testing.assert_array_equal(together.memory_ms, np.concatenate([times.memory_ms for times in alone]))


def test_pairs_timed_in_parts_equal_pairs_timed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    kernels = random_network(rng)
    widths = random_widths(rng, kernels, 10)
    whole = kernel_times(kernels, widths, load_profile("nano"), "fp32")

    monkeypatch.setattr("hdapbench.fleet.simulated.engine._PAIRS_AT_A_TIME", 3)
    parts = kernel_times(kernels, widths, load_profile("nano"), "fp32")

    np.testing.assert_array_equal(whole.compute_ms, parts.compute_ms)
    np.testing.assert_array_equal(whole.memory_ms, parts.memory_ms)


def test_no_plans_have_no_times() -> None:
    times = kernel_times(single_kernel(), np.empty((0, 1), dtype=int), load_profile("nano"), "fp32")

    assert times.compute_ms.shape == times.memory_ms.shape == (0, 1)
    assert device_latency_ms(times, 0.01, np.ones(3), np.ones(3), np.ones(3)).shape == (3, 0)


def test_wave_quantisation_makes_latency_a_staircase_in_channels() -> None:
    """One channel more than a tile holds costs a whole tile: pruning to 64 pays, to 65 hardly."""
    profile, kernels = load_profile("nano"), single_kernel(kernel_area=1)

    compute = kernel_times(kernels, np.arange(60, 70)[:, None], profile, "fp32").compute_ms[:, 0]

    assert len(np.unique(compute)) < 10
    assert compute[5] > 1.02 * compute[4]  # 65 channels against 64


def test_a_precision_that_the_board_lacks_is_refused_by_name() -> None:
    with pytest.raises(FleetError, match=r"'nano' does not compute in tc16\. Known: fp32, fp16"):
        kernel_times(single_kernel(), [[64]], load_profile("nano"), "tc16")


@pytest.mark.parametrize("n_devices", [4096, 70_000])
def test_many_devices_are_looked_up_with_the_result_of_asking_each_kernel_by_kernel(
    n_devices: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(n_devices)
    compute, memory = np.exp(rng.normal(-1, 1.5, size=(2, 3, 40)))
    compute[0, :3], memory[0, 2:5], memory[1] = 0.0, 0.0, compute[1]  # nothing computed, moved, both; equal borders
    times = KernelTimes(compute, memory, np.full(3, 40))
    alpha, beta, gamma = np.exp(rng.normal(0, 0.5, size=(3, n_devices)))
    gamma[:5] = beta[:5]  # devices on the border

    looked_up = device_latency_ms(times, 0.02, alpha, beta, gamma)
    monkeypatch.setattr("hdapbench.fleet.simulated.engine._MANY_DEVICES", n_devices + 1)
    dense = device_latency_ms(times, 0.02, alpha, beta, gamma)

    assert not np.array_equal(looked_up, dense)  # two ways to add
    np.testing.assert_allclose(looked_up, dense, rtol=1e-9)
