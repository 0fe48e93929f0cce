"""What each size of work costs: fleets of up to a million devices, stored trials, executors, visits of boards.

    python -m studies.scaling

Every row comes from a process of its own, whose peak memory is its own. Writes the tables in docs/scaling.md; some minutes.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from hdapbench.fleet.base import Fleet, Workloads
from hdapbench.fleet.open import open_fleet
from hdapbench.runtimes.host import read_host
from hdapbench.spec import RayFleetSpec
from hdapbench.spec.command_fleet import CommandFleetSpec
from studies.tables import options, publish

ROOT = Path(__file__).parents[1]
FLEETS = (10, 1_000, 100_000, 1_000_000)
TRIALS = (100, 1_000, 10_000)


def fleet(n_devices: int) -> list[str]:
    """Open a fleet, fingerprint and cluster it, and estimate a model's average: ResNet56 on simulated boards."""
    from hdapbench.fleet.estimate.clustered import fingerprint_fleet
    from hdapbench.spec import ClusteringSpec
    from studies.subjects import network, simulated_fleet

    kernels = network("resnet56", (3, 32, 32), n_classes=10).kernels
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.process_time()
    boards = simulated_fleet(sku="xavier_nx", scenario="mixed", n_devices=n_devices, seed=0)
    clustered = fingerprint_fleet(boards, kernels, clustering=ClusteringSpec(), runs=7, seed=0)
    fingerprinted = time.process_time()
    half = Workloads(kernels, np.maximum(kernels.sizes[None] // 2, 1), ("half",))
    measured = clustered.measure_clusters(half, runs=7, seed=1)
    mean = float(clustered.average(measured.device_latency_ms).mean_ms[0])
    true = boards.mean_latency_ms(half)
    assert true is not None
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10
    return [
        f"{n_devices:,}",
        f"{fingerprinted - began:.2f}",
        f"{time.process_time() - fingerprinted:.2f}",
        f"{clustered.n_measured}",
        f"{100 * abs(mean / float(true[0]) - 1):.2f} %",
        f"{more:,.0f}",
    ]


def stored(n_trials: int) -> list[str]:
    """Store so many results, and read them."""
    from hdapbench.store.sqlite import open_store
    from hdapbench.testing.store_contract import example_result, example_trial

    trials = [example_trial(method="uniform", seed=seed) for seed in range(n_trials)]
    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder, "results.db")) as store:
        began = time.process_time()
        for trial in trials:
            store.add(example_result(trial))
        written = time.process_time()
        results = store.results(trial_ids=[trial.id for trial in trials])
        read = time.process_time()
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    assert len(results) == n_trials
    return [
        f"{n_trials:,}",
        f"{1e3 * (written - began) / n_trials:.2f}",
        f"{1e3 * (read - written) / n_trials:.2f}",
        f"{size / n_trials / 2**10:.1f}",
    ]


def visits(kind: str) -> list[str]:
    """Seconds of a visit of one board of this host besides the timing: what reaching it costs."""
    from studies.subjects import network

    small = network("resnet6", (1, 8, 8), n_classes=10)
    work = small.workloads(small.cost.sizes[None])
    common = {"name": "lab", "devices": [{"name": "a"}], "rounds": 1, "drift": "keep"}
    with tempfile.TemporaryDirectory() as folder:
        cache = Path(folder)
        if kind == "command":
            run = f"{sys.executable} {{runner}} --runs {{runs}} {{models}}"
            spec = CommandFleetSpec.model_validate(common | {"kind": "command", "run": run})
            took = _visit_seconds(open_fleet(spec, cache_dir=cache), work)
        else:
            from ray.cluster_utils import Cluster

            head = {"num_cpus": 0, "include_dashboard": False, "object_store_memory": 80 << 20}
            cluster = Cluster(initialize_head=True, head_node_args=head)
            try:
                cluster.add_node(num_cpus=0, resources={"board:a": 1}, object_store_memory=80 << 20)
                lab = RayFleetSpec.model_validate(common | {"kind": "ray", "address": cluster.address})
                took = _visit_seconds(open_fleet(lab, cache_dir=cache), work)
            finally:
                cluster.shutdown()
    return [f"`{kind}`", f"{took:.2f}"]


def _visit_seconds(fleet: Fleet, work: Workloads) -> float:
    """Median of five visits, less what the board timed; the first, which ships models, does not count."""
    spans = []
    with fleet:
        for session in range(6):
            began = time.monotonic()
            timed = fleet.measure(work, np.array([0]), runs=1, seed=session)
            spans.append(time.monotonic() - began - float(timed.sum()) / 1e3)
    return float(np.median(spans[1:]))


def executors(name: str) -> list[str]:
    """Wall time of twelve small trials by an executor, beside that of the trials alone."""
    return [f"`{name}`", *_run_seconds(name)]


def _run_seconds(name: str) -> tuple[str, str]:
    spec = """\
schema_version: 1
name: many
model: {name: resnet6, input_shape: [1, 8, 8]}
data: {name: digits}
base: {epochs: 1}
fine_tune: {epochs: 1}
fleets: [{name: six, kind: simulated, sku: nano, scenario: mixed, n_devices: 6, clustering: {n_clusters: 2}}]
targets: [{flops: 0.7x}, {flops: 0.5x}, {flops: 0.3x}]
methods: [uniform, random, magnitude, fpgm]
seeds: [0]
"""
    how = ["--executor", name] if find_spec("hdapbench.executor") else []
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "many.yaml").write_text(spec)
        began = time.monotonic()
        words = [sys.executable, "-m", "hdapbench", "run", "many.yaml", "--json", "--output", "board.md", *how]
        done = subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True)
        wall = time.monotonic() - began
        results = json.loads(done.stdout)
    return f"{wall:.1f}", f"{sum(result['seconds'] for result in results):.1f}"


def known_executors() -> tuple[str, ...]:
    """Executors of this version: where there is no choice, what there is."""
    return ("inline", "process", "ray") if find_spec("hdapbench.executor") else ("inline",)


ROWS: dict[str, Callable[[str], list[str]]] = {
    "fleet": lambda size: fleet(int(size)),
    "stored": lambda size: stored(int(size)),
    "visits": visits,
    "executors": executors,
}


def table(head: tuple[str, ...], part: str, cases: tuple[object, ...]) -> Iterator[str]:
    """Rows of a table, each made by a process of its own."""
    yield f"| {' | '.join(head)} |"
    yield f"|{'--:|' * len(head)}"
    for case in cases:
        words = [sys.executable, "-m", "studies.scaling", "--row", part, str(case)]
        done = subprocess.run(
            words, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{part} {case}: {done.stderr[-2000:]}")
        yield f"| {' | '.join(json.loads(done.stdout.splitlines()[-1]))} |"


TABLES = {
    "fleet": (
        ("devices", "fingerprint and cluster (s)", "a plan's average (s)", "measured devices", "error", "memory (MiB)"),
        FLEETS,
    ),
    "stored": (("trials", "stored (ms each)", "read (ms each)", "KiB each"), TRIALS),
    "visits": (("fleet", "a visit besides its timing (s)"), ("command", "ray")),
    "executors": (("executor", "wall (s)", "trials alone (s)"), known_executors()),
}


def main() -> int:
    """Write the tables, or print one row."""
    parser = options(__doc__)
    parser.add_argument("--row", nargs=2, metavar=("TABLE", "CASE"), help="print one row as JSON")
    parser.add_argument("--only", choices=TABLES, help="one table alone")
    arguments = parser.parse_args()
    if arguments.row:
        part, case = arguments.row
        print(json.dumps(ROWS[part](case)))
        return 0
    for part, (head, cases) in TABLES.items():
        if arguments.only in (None, part):
            publish("scaling.md", "scaling", f"scaling {part}", table(head, part, cases))
    host = read_host()
    about = f"{host.processor}, {host.n_cpus} CPUs, one thread each; load average {host.load or 0:.0f} of other work."
    publish("scaling.md", "scaling", "scaling host", [about])
    return 0


if __name__ == "__main__":
    sys.exit(main())
