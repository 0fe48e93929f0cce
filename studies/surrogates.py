"""How far surrogates can be trusted: on random plans, at the optimum, and in the closed loop of measuring and searching.

    python -m studies.surrogates [plans | loop] [--seeds 3] [--check]

Writes the tables in docs/surrogates.md: about an hour on one core. ``--check`` runs one seed and writes nothing. Fleets
are simulated: Xavier NX, fp32, scenario ``mixed``, 1000 devices, 16 clusters, one representative each, every measurement
the median of five noisy runs. ResNet50 is held to 1.0 G FLOPs, MobileNetV1 to half of its own. Importance is drawn at
random and differs between seeds: no claim here rests on a trained model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from hdapbench_methods.hdap.measuring import objective_of
from hdapbench_methods.hdap.searching import ROUGH_TOLERANCE

from hdapbench.arrays import Floats, Integers
from hdapbench.cost.kernels import KernelModel
from hdapbench.fleet.base import Workloads
from hdapbench.fleet.estimate.clustering import Clustering, cluster_devices
from hdapbench.fleet.estimate.probes import take_fingerprint
from hdapbench.fleet.simulated.fleet import SimulatedFleet
from hdapbench.search import AdditiveImportance, SearchSpace, minimise, solve_exact, why_not_exact
from hdapbench.search.exact import TOLERANCE
from hdapbench.surrogate.active import ActiveResult, ActiveRounds
from hdapbench.surrogate.base import Surrogate
from hdapbench.surrogate.design import neighbours, random_plans, training_plans
from hdapbench.surrogate.fit import SURROGATES, SurrogateName, fit_surrogate
from hdapbench.surrogate.measured import MeasuredPlans
from hdapbench.surrogate.report_card import agreement
from studies.objectives import FleetMean
from studies.subjects import MODELS, drawn_scores, network, simulated_fleet, space_beside_uniform, target_flops
from studies.tables import options, publish, spread

N_CLUSTERS, RUNS, N_TEST, N_TRAINED, N_ACTIVE, EVALUATIONS = 16, 5, 500, 100, 50, 10_000
PUBLIC: SurrogateName = "gbrt-on-ratios"
LOOPS = {"ResNet50": ((120, 1.039), (240, 1.015)), "MobileNetV1": ((160, 1.015),)}
"""Measured plans, and the latency over the best possible that is wanted there: .66, .645 of uniform's where the best is
.6355, and .82 where it is .8078."""
ACTIVE_SHARE = 0.4
"""Of the measured plans of a loop, those measured in active rounds."""


@dataclass(frozen=True)
class World:
    """A model on a clustered fleet, and what is searched there."""

    kernels: KernelModel
    fleet: SimulatedFleet
    clustering: Clustering
    space: SearchSpace
    uniform: Integers
    seed: int

    @classmethod
    def of(cls, name: str, seed: int) -> World:
        """World of a model: fleet, noise and importance follow from the seed."""
        kernels, cost = network(name).kernels, network(name).cost
        fleet = simulated_fleet(sku="xavier_nx", scenario="mixed", n_devices=1000, seed=seed)
        fingerprint = take_fingerprint(fleet, kernels, runs=RUNS, seed=100)
        importance = AdditiveImportance.of_scores(drawn_scores(cost.sizes, np.random.default_rng([seed, 1])))
        space, uniform = space_beside_uniform(cost, target_flops(name), FleetMean(fleet, kernels), importance)
        clustering = cluster_devices(fingerprint.latency_ms, n_clusters=N_CLUSTERS, seed=seed)
        return cls(kernels, fleet, clustering, space, uniform, seed)

    def measure(self, widths: Integers, session: int) -> Floats:
        """Latency in ms on the representatives in one session, shape (n_plans, n_clusters)."""
        devices = np.array(self.clustering.representatives)
        samples = self.fleet.measure(self._workloads(widths), devices, runs=RUNS, seed=session)
        return np.asarray(np.median(samples, axis=2).T)

    def true_average_ms(self, widths: Integers) -> Floats:
        """Noise-free average of the representatives, shape (n_plans,): what a surrogate can know at best."""
        devices = np.array(self.clustering.representatives)
        return np.asarray(self.clustering.weights @ self.fleet.true_latency_ms(self._workloads(widths), devices))

    def relative_latency(self, widths: Integers) -> float:
        """Noise-free mean latency of all devices, relative to uniform pruning's."""
        plan, uniform = self.space.objective(np.stack([widths, self.uniform]))
        return float(plan / uniform)

    def measured(self, widths: Integers, session: int = 1) -> MeasuredPlans:
        """Plans measured on the representatives."""
        return MeasuredPlans(
            self.kernels, widths, self.measure(widths, session), self.clustering.weights, self.fleet.tiling
        )

    def training(self, kind: SurrogateName, n_plans: int) -> MeasuredPlans:
        """Plans to begin with: the public recipe's are random, ours spread; uniform and dense are among ours."""
        cost, target = self.space.cost, self.space.target_flops
        if kind == PUBLIC:
            return self.measured(random_plans(cost, target, n_plans, rng=np.random.default_rng([self.seed, 2])))
        spread = training_plans(cost, target, n_plans - 2, seed=self.seed)
        return self.measured(np.concatenate([np.stack([self.uniform, cost.sizes]), spread]))

    def search(self, surrogate: Surrogate, *, tolerance: float = TOLERANCE) -> Integers:
        """The plan that a surrogate prefers, and others: exact where it is a sum over kernels, else genetic."""
        space = replace(self.space, objective=objective_of(surrogate))
        start = self.uniform[None]
        if why_not_exact(space) is None:
            found = solve_exact(space, start=start, tolerance=tolerance)
        else:
            rng = np.random.default_rng([self.seed, 3])
            found = minimise(space, start=start, n_evaluations=EVALUATIONS, rng=rng, algorithm="genetic")
        return np.concatenate([found.widths[None], found.runners_up])

    def active(self, kind: SurrogateName, measured: MeasuredPlans, n_plans: int) -> ActiveResult:
        """Active rounds of at most so many measured plans, each round a session of its own."""
        sessions = iter(range(2, 1000))

        def near(widths: Integers, n: int, rng: np.random.Generator) -> Integers:
            return neighbours(self.space.cost, widths, n, rng=rng, limit=self.space.target_flops)

        rounds = ActiveRounds(surrogate_name=kind, most_plans=n_plans, seed=self.seed)
        return rounds.run(
            measured,
            search=self.search,
            search_roughly=lambda surrogate: self.search(surrogate, tolerance=ROUGH_TOLERANCE),
            measure=lambda plans: self.measure(plans, next(sessions)),
            neighbours=near,
        )

    def _workloads(self, widths: Integers) -> Workloads:
        return Workloads(self.kernels, widths, tuple(f"w{number}" for number in range(len(widths))))


def plan_rows(here: World, kind: SurrogateName) -> dict[str, float]:
    """Errors of a kind on random plans, at the optimum that it leads to, and there after active rounds."""
    measured = here.training(kind, N_TRAINED)
    surrogate = fit_surrogate(kind, measured, seed=here.seed)
    test = random_plans(here.space.cost, here.space.target_flops, N_TEST, rng=np.random.default_rng([here.seed, 4]))
    on_random = agreement(surrogate.predict_average(test), here.true_average_ms(test))
    best = here.search(surrogate)[:1]
    after = here.active(kind, measured, N_ACTIVE)
    last = after.rounds[-1]
    return {
        "mape": on_random.mape,
        "spearman": on_random.spearman,
        "optimum": float(surrogate.predict_average(best)[0] / here.true_average_ms(best)[0] - 1.0),
        "active": last.predicted_ms / float(here.true_average_ms(last.widths[None])[0]) - 1.0,
        "n_active": float(len(after.measured) - len(measured)),
    }


def loop_rows(here: World, kind: SurrogateName, n_plans: int) -> dict[str, float]:
    """What the plan that a loop of so many measured plans ends with truly takes, and how wrong its surrogate is there."""
    n_active = round(ACTIVE_SHARE * n_plans)
    found = here.active(kind, here.training(kind, n_plans - n_active), n_active)
    widths = found.widths[None]
    return {
        "relative": here.relative_latency(found.widths),
        "error": float(found.surrogate.predict_average(widths)[0] / here.true_average_ms(widths)[0] - 1.0),
        "n_measured": float(len(found.measured)),
    }


def plans_table(n_seeds: int) -> Iterator[str]:
    """Markdown of the errors of all kinds, line by line."""
    yield "| network | surrogate | MAPE, random plans | Spearman | error at the optimum | after active rounds | plans |"
    yield "|---|---|---|---|---|---|---|"
    for model in MODELS:
        for kind in SURROGATES:
            rows = collect(model, n_seeds, lambda here, kind=kind: plan_rows(here, kind))  # type: ignore[misc]
            cells = [
                f"{spread(rows['mape'], '.1%')}",
                f"{spread(rows['spearman'], '.3f')}",
                f"{spread(rows['optimum'], '+.1%')}",
                f"{spread(rows['active'], '+.1%')}",
                f"{rows['n_active'].mean():.0f}",
            ]
            yield f"| {model} | {kind} | " + " | ".join(cells) + " |"


def loop_table(n_seeds: int) -> Iterator[str]:
    """Markdown of the closed loops, line by line."""
    yield "| network | surrogate | measured plans | latency / uniform | latency / best | error there |"
    yield "|---|---|---|---|---|---|"
    for model, sizes in LOOPS.items():
        best = collect(model, n_seeds, best_possible)["relative"]
        yield f"| {model} | the fleet itself | | {spread(best, '.3f')} | 1 | |"
        for kind in SURROGATES:
            for n_plans, wanted in sizes:
                rows = collect(model, n_seeds, lambda here, kind=kind, n=n_plans: loop_rows(here, kind, n))  # type: ignore[misc]
                over = rows["relative"] / best
                cells = [spread(rows["relative"], ".3f"), spread(over, ".3f"), spread(rows["error"], "+.1%")]
                met = "" if over.mean() <= wanted else f" (wanted {wanted:.3f})"
                used = f"{rows['n_measured'].mean():.0f} of {n_plans}"
                yield f"| {model} | {kind} | {used} | {cells[0]} | {cells[1]}{met} | {cells[2]} |"


def best_possible(here: World) -> dict[str, float]:
    """The exact optimum of the fleet's true mean: what no loop can beat."""
    return {"relative": here.relative_latency(solve_exact(here.space, start=here.uniform[None]).widths)}


def collect(model: str, n_seeds: int, experiment: Callable[[World], dict[str, float]]) -> dict[str, Floats]:
    """Results of an experiment in one world per seed, each of shape (n_seeds,)."""
    rows = [experiment(World.of(model, seed)) for seed in range(n_seeds)]
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def main() -> int:
    """Run the parts of the study that were asked for; 0."""
    tables = {"plans": plans_table, "loop": loop_table}
    parser = options(__doc__, check="one seed; prints and writes nothing")
    parser.add_argument("parts", nargs="*", choices=[*tables, []], help="default: all")
    parser.add_argument("--seeds", type=int, default=3, help="worlds per row (default %(default)s)")
    arguments = parser.parse_args()
    for part in arguments.parts or tables:
        lines = tables[part](1 if arguments.check else arguments.seeds)
        publish("surrogates.md", "surrogates", part, lines, check=arguments.check)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
