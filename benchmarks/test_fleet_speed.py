"""A million devices: exact means against dense evaluation, what each step costs per device, and what memory it takes.

All times are processor time of one thread, so that other work on the machine changes ratios little.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

from hdapbench.cost.kernel_file import kernels_to_dict
from hdapbench.cost.kernels import KernelModel
from hdapbench.fleet.base import Workloads
from hdapbench.fleet.estimate.clustered import cluster_fleet
from hdapbench.fleet.estimate.clustering import cluster_devices
from hdapbench.fleet.estimate.probes import take_fingerprint
from hdapbench.fleet.fingerprint import Fingerprint, load_fingerprint, save_fingerprint
from hdapbench.fleet.simulated.engine import KernelTimes, kernel_times
from hdapbench.fleet.simulated.exact import SortedDevices
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.spec import ClusteringSpec
from studies.search_speed import seconds
from studies.subjects import network, simulated_fleet

pytestmark = pytest.mark.benchmark(timer=time.process_time)

MILLION = 1_000_000
LEAST_TIMES_FASTER = 1000.0
MOST_GROWTH_PER_DEVICE = 2.0
"""Most that a device may cost in a fleet of a million, relative to one of 100,000: no more than linear growth, and caches
that others fill too. What grows with the square costs ten times as much."""
MEBIBYTE = 1 << 20


def resnet50() -> KernelModel:
    return network("ResNet50").kernels


def make_fleet(n_devices: int) -> SimulatedFleet:
    """Xavier NX boards of the scenario `mixed`."""
    return simulated_fleet(sku="xavier_nx", scenario="mixed", n_devices=n_devices)


fleet = cache(make_fleet)


@cache
def fingerprint(n_devices: int) -> Fingerprint:
    """Three probes, one repeat: what clustering costs does not depend on repeats."""
    return take_fingerprint(fleet(n_devices), resnet50(), runs=1, seed=0)


def pruned(n_plans: int) -> Workloads:
    """Plans of ResNet50 at random widths."""
    kernels = resnet50()
    widths = np.random.default_rng(0).integers(1, kernels.sizes + 1, size=(n_plans, len(kernels.sizes)))
    return Workloads(kernels, widths, tuple(f"p{number}" for number in range(n_plans)))


def dense_mean_ms(here: SimulatedFleet, times: KernelTimes) -> float:
    """Mean of one plan over all devices as numpy evaluates it: kernel by kernel, in chunks that stay in the cache."""
    states, launch_ms = here.states, here.profile.launch_us / 1000
    step, total = 1 << 13, 0.0
    compute, memory, latency = (np.empty(step) for _ in range(3))
    for first in range(0, here.n_devices, step):
        part = slice(first, min(first + step, here.n_devices))
        n = part.stop - first
        np.multiply(states.alpha[part], times.compute_ms.shape[1] * launch_ms, out=latency[:n])
        for c, m in zip(times.compute_ms[0], times.memory_ms[0], strict=True):
            np.multiply(states.beta[part], c, out=compute[:n])
            np.multiply(states.gamma[part], m, out=memory[:n])
            np.maximum(compute[:n], memory[:n], out=compute[:n])
            latency[:n] += compute[:n]
        total += float(latency[:n].sum())
    return total / here.n_devices


def test_the_exact_mean_of_a_million_devices_is_a_thousand_times_faster_than_the_dense_one(benchmark) -> None:  # type: ignore[no-untyped-def]
    here, model = fleet(MILLION), pruned(1)
    times = kernel_times(model.kernels, model.widths, here.profile, "fp32")
    launch_ms, states = here.profile.launch_us / 1000, here.states
    share = np.full(MILLION, 1 / MILLION)
    devices = SortedDevices.of(states.alpha, states.beta, states.gamma, share)

    exact = benchmark.pedantic(lambda: devices.mean_ms(times, launch_ms)[0], rounds=20, iterations=50)
    dense_seconds = seconds(lambda: dense_mean_ms(here, times), rounds=3)
    sorting = seconds(lambda: SortedDevices.of(states.alpha, states.beta, states.gamma, share), rounds=1)

    times_faster = dense_seconds / benchmark.stats.stats.min
    benchmark.extra_info["times_faster"] = round(times_faster)
    benchmark.extra_info["dense_evaluations_that_the_sort_costs"] = round(sorting / dense_seconds, 1)
    dense = dense_mean_ms(here, times)
    assert exact == pytest.approx(dense, rel=1e-9)
    assert here.mean_latency_ms(model)[0] == pytest.approx(dense, rel=1e-9)
    assert times_faster >= LEAST_TIMES_FASTER


def test_ten_thousand_plans_are_averaged_in_the_time_of_a_few_dense_means(benchmark) -> None:  # type: ignore[no-untyped-def]
    here, plans = fleet(MILLION), pruned(10_000)
    here.mean_latency_ms(pruned(1))  # sorts
    times = kernel_times(plans.kernels, plans.widths[:1], here.profile, "fp32")

    means = benchmark.pedantic(lambda: here.mean_latency_ms(plans), rounds=2)

    dense_seconds = seconds(lambda: dense_mean_ms(here, times), rounds=2)
    benchmark.extra_info["dense_means"] = round(benchmark.stats.stats.min / dense_seconds, 1)
    assert means[0] == pytest.approx(dense_mean_ms(here, times), rel=1e-9)
    # The kernels of all plans are timed, which no sum over devices saves; still 100 times faster than densely.
    assert benchmark.stats.stats.min < 100 * dense_seconds


STEPS: dict[str, Callable[[int], object]] = {
    "generate": make_fleet,
    "measure": lambda n: fleet(n).measure(pruned(1), np.arange(n), runs=7, seed=0),
    "latency of each device": lambda n: fleet(n).true_latency_ms(pruned(1)),
    "cluster": lambda n: cluster_fleet(fleet(n), fingerprint(n).latency_ms, ClusteringSpec(), seed=0),
}


@pytest.mark.parametrize("step", STEPS)
def test_a_device_costs_no_more_in_a_fleet_of_a_million_than_in_one_of_a_tenth(benchmark, step: str) -> None:  # type: ignore[no-untyped-def]
    run, tenth = STEPS[step], MILLION // 10
    run(tenth)  # what is made once and kept

    if step == "cluster":
        fingerprint(MILLION)
    small, large = [], []

    def both() -> None:
        small.append(seconds(lambda: run(tenth), rounds=2))
        large.append(seconds(lambda: run(MILLION)))

    with threadpool_limits(1):
        benchmark.pedantic(both, rounds=3)  # in turns, so that load hits both alike

    growth = min(large) / MILLION / (min(small) / tenth)
    benchmark.extra_info["per_device_relative_to_a_tenth"] = round(growth, 2)
    benchmark.extra_info["microseconds_per_device"] = round(min(large), 3)
    assert growth <= MOST_GROWTH_PER_DEVICE


def test_reading_a_million_fingerprints_takes_no_longer_than_clustering_them(benchmark, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "fp.parquet"
    save_fingerprint(fingerprint(MILLION), path)
    here = fleet(MILLION)

    with threadpool_limits(1):
        end_to_end = benchmark.pedantic(
            lambda: cluster_fleet(here, load_fingerprint(path).latency_ms, ClusteringSpec(), seed=0), rounds=2
        )
        reading = seconds(lambda: load_fingerprint(path), rounds=2)

    benchmark.extra_info["share_of_reading"] = round(reading / benchmark.stats.stats.min, 2)
    assert end_to_end.fingerprint_ms.shape == (MILLION, 3)
    assert reading < benchmark.stats.stats.min / 2


# Peak memory, in a process of its own: that of the kernel's books, which no freed array escapes.

MEASURED = """
import json, sys
from hdapbench.fleet.estimate.probes import take_fingerprint
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.fleet.estimate.clustered import cluster_fleet
from hdapbench.fleet.estimate.clustering import cluster_devices
from hdapbench.cost.kernel_file import kernels_from_dict
from hdapbench.spec import ClusteringSpec, SimulatedFleetSpec
from hdapbench.fleet.base import Workloads
import numpy as np, scipy.special, sklearn.cluster

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) * 1024

n = int(sys.argv[1])
kernels = kernels_from_dict(json.load(open(sys.argv[2])))
fields = {"name": "f", "kind": "simulated", "sku": "xavier_nx", "scenario": "mixed", "n_devices": n}
spec = SimulatedFleetSpec.model_validate(fields)
def points(n):
    # two correlated log latencies that spread like a mixed fleet's
    rng = np.random.default_rng(0)
    speed = 0.4 * rng.standard_normal((n, 1))
    return speed + 0.05 * rng.standard_normal((n, 2))
before = peak()
after = {}
"""

CHAIN = """
fleet = SimulatedFleet(spec)
after["generate"] = peak() - before
found = take_fingerprint(fleet, kernels, runs=7, seed=0)
clustered = cluster_fleet(fleet, found.latency_ms, ClusteringSpec(), seed=0)
dense = Workloads(kernels, kernels.sizes[None], ("dense",))
measured = clustered.measure_clusters(dense, runs=7, seed=1)
estimate = clustered.average(measured.device_latency_ms).mean_ms[0]
assert abs(estimate / fleet.mean_latency_ms(dense)[0] - 1) < 0.05
"""

DENSITY = {
    "scikit-learn": "sklearn.cluster.DBSCAN(eps=0.05).fit(points(n))",
    "hdapbench": 'cluster_devices(np.exp(points(n)), method="dbscan")',
}


def memory(program: str, n_devices: int, folder: Path) -> dict[str, float]:
    """Peak bytes that a program took beyond its imports, by step; ``all`` at its end."""
    kernels = folder / "kernels.json"
    kernels.write_text(json.dumps(kernels_to_dict(resnet50(), with_blocks=False)))
    text = f"{MEASURED}\n{program}\nafter['all'] = peak() - before\nprint(json.dumps(after))\n"
    command = [sys.executable, "-c", text, str(n_devices), str(kernels)]
    found = subprocess.run(command, capture_output=True, text=True, check=True)
    return json.loads(found.stdout)


needs_proc = pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")


@needs_proc
@pytest.mark.benchmark(timer=time.perf_counter)
def test_memory_grows_with_the_devices_alone_and_ten_million_fit_into_four_gigabytes(benchmark, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    small = memory(CHAIN, MILLION // 4, tmp_path)
    large = benchmark.pedantic(memory, args=(CHAIN, MILLION, tmp_path), rounds=1)

    per_device = (large["all"] - small["all"]) / (MILLION * 3 / 4)
    ten_million = large["all"] + 9 * MILLION * per_device
    benchmark.extra_info["generate_mib"] = round(large["generate"] / MEBIBYTE)
    benchmark.extra_info["all_mib"] = round(large["all"] / MEBIBYTE)
    benchmark.extra_info["bytes_per_device"] = round(per_device)
    assert large["generate"] < 150e6
    assert large["all"] < 1e9
    assert ten_million < 4e9


@needs_proc
@pytest.mark.benchmark(timer=time.perf_counter)
def test_density_clustering_of_a_million_takes_less_memory_than_scikit_learns_of_25_000(
    benchmark, tmp_path: Path
) -> None:  # type: ignore[no-untyped-def]
    half, whole = (memory(DENSITY["scikit-learn"], n, tmp_path)["all"] for n in (12_500, 25_000))
    ours = benchmark.pedantic(memory, args=(DENSITY["hdapbench"], MILLION, tmp_path), rounds=1)["all"]

    benchmark.extra_info["scikit_learn_25_000_mib"] = round(whole / MEBIBYTE)
    benchmark.extra_info["ours_million_mib"] = round(ours / MEBIBYTE)
    assert whole > 3 * half  # every pair of neighbours is kept: quadratic, so a million is out of reach
    assert ours < whole


def test_density_clustering_of_a_million_takes_less_time_than_scikit_learns_of_25_000(benchmark) -> None:  # type: ignore[no-untyped-def]
    from sklearn.cluster import DBSCAN

    probes = fingerprint(MILLION).latency_ms[:, :2]
    few = np.log(probes[:25_000])

    with threadpool_limits(1):
        ours = benchmark.pedantic(cluster_devices, args=(probes,), kwargs={"method": "dbscan"}, rounds=2)
        theirs = seconds(lambda: DBSCAN(eps=0.05).fit(few), rounds=1)

    benchmark.extra_info["scikit_learn_25_000_relative_to_ours_of_a_million"] = round(
        theirs / benchmark.stats.stats.min, 2
    )
    assert len(ours.labels) == MILLION
    # A device of theirs costs more than 10 times as much already here, and grows with the fleet.
    assert theirs / len(few) > 10 * benchmark.stats.stats.min / MILLION
