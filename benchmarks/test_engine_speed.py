"""The vectorised engine against the plain scalar reference of tests/fleet, on the same plans, in processor time."""

from __future__ import annotations

import numpy as np

from hdapbench.cost.kernels import Kernel, KernelModel
from hdapbench.cost.records import ChannelCount
from hdapbench.fleet.simulated.engine import device_latency_ms, kernel_times
from hdapbench.fleet.simulated.profile import load_profile
from studies.search_speed import seconds
from tests.fleet import reference

N_STAGES, N_BLOCKS = 4, 12
N_PLANS, N_SCALAR_PLANS, N_DEVICES = 2000, 40, 20
MINIMUM_RATIO = 10.0


def network() -> KernelModel:
    """48 convolutions of 3x3 and 1x1 over four stages, each with a group of its own."""
    groups, sizes, kernels = [], [], []
    before = ChannelCount(3)
    for stage in range(N_STAGES):
        extent = 56 >> stage
        for block in range(N_BLOCKS):
            name = f"s{stage}b{block}"
            groups.append(name)
            sizes.append(64 << stage)
            made = ChannelCount(0, {name: 1})
            kernel_area = 9 if block % 2 else 1
            kernels.append(Kernel(name, "conv", before, made, extent, extent, extent, extent, kernel_area, 1))
            before = made
    return KernelModel(tuple(groups), np.array(sizes), tuple(kernels))


def test_the_vectorised_engine_beats_the_scalar_reference(benchmark) -> None:  # type: ignore[no-untyped-def]
    kernels, profile = network(), load_profile("xavier_nx")
    rng = np.random.default_rng(0)
    widths = np.maximum(1, (kernels.sizes * rng.uniform(0.2, 1.0, size=(N_PLANS, len(kernels.sizes)))).astype(int))
    alpha, beta, gamma = rng.uniform(0.8, 2.0, size=(3, N_DEVICES))

    def vectorised() -> np.ndarray:
        times = kernel_times(kernels, widths, profile, "fp32")
        return device_latency_ms(times, profile.launch_us / 1000, alpha, beta, gamma)

    def scalar(plan: int) -> list[float]:
        """One plan on all devices; kernels are timed once and not once per device, to be fair."""
        taken, made = kernels.channels(widths[plan])
        times = []
        for number, kernel in enumerate(kernels.kernels):
            channels, extents = (int(taken[0, number]), int(made[0, number])), (kernel.height_in, kernel.height_out)
            shape = reference.Shape(
                t="conv",
                ci=channels[0],
                co=channels[1],
                k=round(kernel.kernel_area**0.5),
                s=1,
                hi=extents[0],
                wi=extents[0],
                ho=extents[1],
                wo=extents[1],
                res=False,
            )
            times.append(reference.kernel_ms(shape, "xavier_nx", "fp32"))
        launch = profile.launch_us / 1000
        return [
            sum(launch * a + max(b * compute, g * memory) for compute, memory in times)
            for a, b, g in zip(alpha, beta, gamma, strict=True)
        ]

    latency = benchmark.pedantic(vectorised, rounds=5, warmup_rounds=1)
    expected: list[list[float]] = []
    scalar_seconds = seconds(lambda: expected.extend(map(scalar, range(N_SCALAR_PLANS)))) * N_PLANS / N_SCALAR_PLANS
    ratio = scalar_seconds / seconds(vectorised, rounds=5)

    benchmark.extra_info["times_faster"] = round(ratio, 1)
    np.testing.assert_allclose(latency[:, :N_SCALAR_PLANS].T, expected, rtol=1e-9)
    assert ratio > MINIMUM_RATIO
