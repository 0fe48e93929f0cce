"""The nominal boards against published latencies: plausible, not exact."""

from __future__ import annotations

import numpy as np
import pytest

from hdapbench.fleet.simulated.engine import device_latency_ms, kernel_times
from hdapbench.fleet.simulated.profile import load_profile
from tests.fleet.making import imagenet_kernels


# TensorRT fp16 at batch 1 and 224 px on a Jetson Nano, from the benchmarks of NVIDIA-AI-IOT/torch2trt.
@pytest.mark.parametrize(("name", "published_ms"), [("resnet18", 11.4), ("resnet50", 29.8)])
def test_resnets_on_the_nano_are_within_ten_percent_of_published_latencies(name: str, published_ms: float) -> None:
    kernels = imagenet_kernels(f"torchvision:{name}")
    profile = load_profile("nano")

    times = kernel_times(kernels, kernels.sizes, profile, "fp16")
    latency = device_latency_ms(times, profile.launch_us / 1000, np.ones(1), np.ones(1), np.ones(1))[0, 0]

    assert latency == pytest.approx(published_ms, rel=0.10)
