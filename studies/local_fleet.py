"""How fast ResNet50 becomes at 1.0 G FLOPs on devices that are really measured, and what the surrogate makes of them.

    python -m studies.local_fleet [speedup | reversed | surrogates | all] [--quick] [--state DIR]

Devices are processes on this host: onnxruntime with one or two threads, full and reduced CPU shares, priorities and
affinities; in ``reversed`` every second one runs without graph optimisation, which turns the order of plans round. Leave
the host alone meanwhile: foreign load is recorded and told. Everything measured is kept in ``--state`` and not measured
again, so an interrupted study goes on where it was. About 25 minutes on four quiet CPUs; ``--quick`` takes few plans and
two sessions, and writes no table.

There are no weights to download: the model is untrained and importance is drawn at random, as in
`studies.ablation`. HDAP's plans keep at least the importance of uniform pruning. Latency does not depend on
weights; these tables speak of latency at equal importance, not of accuracy.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from hdapbench_methods.halp import Halp
from hdapbench_methods.hdap import Hdap
from hdapbench_methods.magnitude import Magnitude
from hdapbench_methods.uniform import Uniform
from scipy import stats

from hdapbench.arrays import Floats, Integers
from hdapbench.bench.limit import Limit
from hdapbench.cost.tiling import GPU_TILES
from hdapbench.fleet.local.fleet import LocalFleet
from hdapbench.method import Method
from hdapbench.spec import LocalFleetSpec
from hdapbench.surrogate.design import training_plans
from hdapbench.surrogate.fit import SurrogateName
from hdapbench.surrogate.measured import MeasuredPlans
from hdapbench.surrogate.report_card import report_card
from studies.ablation import EQUAL, DrawnProblem, planned_widths, workbench
from studies.tables import options, publish

MODEL = "ResNet50"
TARGET_FLOPS = 10**9
PARTS = ("speedup", "reversed", "surrogates")
SCORE_RUNS = 7
DEVICES: tuple[dict[str, Any], ...] = (
    {"name": "plain"},
    {"name": "polite", "nice": 10},
    {"name": "pinned", "cpus": [1]},
    {"name": "threads2", "runtime": {"threads": 2}},
    {"name": "threads2-pinned", "runtime": {"threads": 2}, "cpus": [2, 3]},
    {"name": "share70", "cpu_share": 0.7},
    {"name": "share50", "cpu_share": 0.5},
    {"name": "share35", "cpu_share": 0.35},
)


def fleet_spec(part: str) -> LocalFleetSpec:
    """Eight devices; in all parts but ``speedup`` every second one runs without graph optimisation."""
    devices: list[dict[str, Any]] = [dict(device) for device in DEVICES]
    if part != "speedup":
        for device in devices[1::2]:
            device["runtime"] = device.get("runtime", {}) | {"graph_optimization": "none"}
    return LocalFleetSpec.model_validate(
        {
            "name": f"local-{part}",
            "kind": "local",
            "devices": devices,
            "rounds": 2,
            "runs": 5,
            "clustering": {"method": "kmeans", "n_clusters": 4},
        }
    )


def methods_of(part: str, *, quick: bool) -> Mapping[str, Method]:
    """Rows of a table."""
    n_plans, active = (16, 8) if quick else (40, 24)
    common: dict[str, Any] = EQUAL | {"n_plans": n_plans, "active_plans": active, "plans_per_round": 8}
    rows: dict[str, Method] = {
        "uniform": Uniform(),
        "uniform, multiples of 16": Uniform(round_to=16),
        "magnitude, global": Magnitude(scope="global"),
    }
    if part == "reversed":
        return rows | {
            "hdap, nominal device": Hdap.model_validate(common | {"devices": "nominal"}),
            "hdap": Hdap.model_validate(common),
        }
    rows |= {
        "halp, fleet": Halp(n_images=1, fleet=True, n_plans=n_plans, bundle=16),
        "hdap": Hdap.model_validate(common),
        "hdap, FLOPs used up": Hdap.model_validate(common | {"least_flops_share": 0.98}),
        "hdap, multiples of 16": Hdap.model_validate(common | {"round_to": 16}),
    }
    return rows


class Study:
    """One part: its fleet, and what was found of it so far.

    Parameters
    ----------
    state
        Folder of what was measured.
    """

    def __init__(self, part: str, fleet: LocalFleet, *, state: Path, quick: bool) -> None:
        self.part, self.fleet, self.quick = part, fleet, quick
        self._state = state / ("quick" if quick else "full")
        self._state.mkdir(parents=True, exist_ok=True)
        self.foreign_load = "not recorded"
        self._bench = workbench(MODEL, fleet)
        self._network = self._bench.network

    def plans(self) -> dict[str, dict[str, Any]]:
        """Row -> widths and what the method noted; found once each."""
        path = self._state / f"{self.part}-plans.json"
        found: dict[str, dict[str, Any]] = json.loads(path.read_text()) if path.exists() else {}
        for name, method in methods_of(self.part, quick=self.quick).items():
            if name in found:
                continue
            started = time.monotonic()
            problem = DrawnProblem(
                self._bench,
                Limit.on_flops(TARGET_FLOPS),
                on_progress=lambda text, name=name: say(f"{self.part}, {name}: {text}"),
            )
            found[name] = {
                "widths": list(planned_widths(method, problem)),
                "surrogate": problem.decisions.get("surrogate"),
                "device_queries": problem.budget.spent.device_queries,
                "seconds": round(time.monotonic() - started, 1),
            }
            path.write_text(json.dumps(found, indent=1))
            say(f"{self.part}, {name}: found after {found[name]['seconds']:.0f} s")
        return found

    def sessions(self, widths: Integers, n_sessions: int) -> Floats:
        """Median latency in ms on every device, shape (n_sessions, n_devices, n_plans); each session kept."""
        path = self._state / f"{self.part}-sessions.jsonl"
        known = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
        known = [entry for entry in known if entry["widths"] == widths.tolist()]
        for number in range(len(known), n_sessions):
            say(f"{self.part}: scoring session {number + 1} of {n_sessions}")
            samples = self.fleet.measure(
                self._network.workloads(widths), np.arange(self.fleet.n_devices), runs=SCORE_RUNS, seed=9000 + number
            )
            entry = {"widths": widths.tolist(), "latency_ms": np.median(samples, axis=2).tolist()}
            entry["foreign_load"] = str(self.fleet.describe().get("foreign_load"))
            with path.open("a") as file:
                file.write(json.dumps(entry) + "\n")
            known.append(entry)
        self.foreign_load = "; ".join(dict.fromkeys(str(entry["foreign_load"]) for entry in known[-1:]))
        return np.array([entry["latency_ms"] for entry in known[:n_sessions]])

    def speedups(self) -> Iterator[str]:
        """Markdown of average speed-ups over the dense model."""
        plans = self.plans()
        sizes = self._network.cost.sizes
        widths = np.array([sizes, *(plan["widths"] for plan in plans.values())], dtype=np.int64)
        latency = self.sessions(widths, 2 if self.quick else 6)
        flops = self._network.cost.flops(widths) / 1e9
        yield "| plan | G FLOPs | average (ms) | speed-up | least and greatest over devices | device queries |"
        yield "|---|--:|--:|--:|--:|--:|"
        for place, name in enumerate(["dense", *plans]):
            mean = latency[:, :, place].mean()
            ratio = latency[:, :, 0].mean(axis=1) / latency[:, :, place].mean(axis=1)  # (n_sessions,)
            each = np.median(latency[:, :, 0] / latency[:, :, place], axis=0)  # (n_devices,)
            queries = plans[name]["device_queries"] if place else 0
            yield (
                f"| {name} | {flops[place]:.3f} | {mean:.1f} | {interval(ratio)} | {each.min():.2f}x to "
                f"{each.max():.2f}x | {queries:,} |"
            )

    def surrogates(self) -> Iterator[str]:
        """Markdown of cross-validated errors, with and without features of the runtime's blocks."""
        widths, latency = self._spread()
        yield "| features | surrogate | error (MAPE) | within 5 % | rank correlation |"
        yield "|---|---|--:|--:|--:|"
        n_devices = latency.shape[1]
        kinds: tuple[SurrogateName, ...] = ("nnls", "ridge", "gp", "nnls+gbrt", "gbrt-on-ratios")
        for label, tiling in (("GPU tiles", GPU_TILES), ("blocks of channels", self.fleet.tiling)):
            for kind in kinds:
                plans = MeasuredPlans(self._network.kernels, widths, latency, np.full(n_devices, 1 / n_devices), tiling)
                found = report_card(kind, plans, sizes=()).plans
                yield f"| {label} | {kind} | {found.mape:.1%} | {found.within_5:.0%} | {found.spearman:.2f} |"

    def _spread(self) -> tuple[Integers, Floats]:
        """Plans as HDAP spreads them, and their medians in ms, shape (n_plans, n_devices); measured in lots."""
        path = self._state / "surrogates.json"
        n_plans, devices = (32, [0, 1, 3, 6]) if self.quick else (80, [0, 1, 3, 6])
        widths = training_plans(self._network.cost, TARGET_FLOPS, n_plans, seed=1)
        rows: list[list[float]] = json.loads(path.read_text()) if path.exists() else []
        while len(rows) < n_plans:
            lot = widths[len(rows) : len(rows) + 8]
            say(f"surrogates: plan {len(rows) + 1} of {n_plans}")
            samples = self.fleet.measure(self._network.workloads(lot), np.array(devices), runs=5, seed=len(rows))
            rows += np.median(samples, axis=2).T.tolist()
            path.write_text(json.dumps(rows))
            self.foreign_load = str(self.fleet.describe().get("foreign_load"))
        return widths, np.array(rows[:n_plans])


def interval(ratios: Floats) -> str:
    """Mean over sessions with its 95 % interval (Student's t)."""
    mean, n = float(ratios.mean()), len(ratios)
    half = float(stats.t.ppf(0.975, n - 1) * ratios.std(ddof=1) / np.sqrt(n)) if n > 1 else float("nan")
    return f"{mean:.2f}x ± {half:.2f}"


_shown = [0.0]


def say(text: str) -> None:
    """A line of progress, at most one a second."""
    if time.monotonic() - _shown[0] > 1:
        _shown[0] = time.monotonic()
        print(f"{time.strftime('%H:%M:%S')} {text}"[:200], file=sys.stderr, flush=True)


def main() -> None:
    """Run the parts that are asked for."""
    parser = options(__doc__)
    parser.add_argument("part", nargs="?", default="all", choices=(*PARTS, "all"))
    parser.add_argument("--quick", action="store_true", help="few plans, two sessions, no table written")
    parser.add_argument("--state", type=Path, default=Path(".hdapbench/study-local-fleet"), help="what was measured")
    arguments = parser.parse_args()
    for part in PARTS if arguments.part == "all" else (arguments.part,):
        fleet = LocalFleet(fleet_spec(part), cache_dir=arguments.state / "exports", on_progress=say)
        with fleet:
            study = Study(part, fleet, state=arguments.state, quick=arguments.quick)
            lines = list(study.surrogates() if part == "surrogates" else study.speedups())
            facts = fleet.describe()
        about = f"{facts['host']}, onnxruntime {facts['onnxruntime']}. Foreign load: {study.foreign_load}."
        print(f"{part}\n")
        publish("fleets.md", "local_fleet", f"local {part}", [*lines, "", about], check=arguments.quick)


if __name__ == "__main__":
    main()
