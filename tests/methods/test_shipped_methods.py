from __future__ import annotations

import importlib.util
from copy import deepcopy

import numpy as np
import pytest
import torch

from hdapbench.cli.main import main
from hdapbench.errors import BudgetExceededError
from hdapbench.method import Method
from hdapbench.method.card import missing_packages
from hdapbench.method.plans import flops_of
from hdapbench.method.registry import MethodRegistry
from hdapbench.spec import BudgetSpec
from hdapbench.testing import KINDS, MethodContract, ModelKind, tiny_problem, tiny_workbench
from hdapbench.testing.in_subprocess import answers_in_subprocess, plans_of
from tests.methods.worlds import bench_of, bench_on, problem_on, share_of_uniform

VARIANTS = [
    ("uniform", {}),
    ("uniform", {"criterion": "taylor"}),
    *[("uniform", {"criterion": criterion}) for criterion in ("consumers", "thinet", "hrank")],
    ("uniform", {"criterion": "osscar", "reconstruct": True}),
    ("random", {}),
    ("magnitude", {}),
    ("magnitude", {"scope": "local", "norm": "l1"}),
    ("fpgm", {}),
    ("fpgm", {"scope": "global"}),
    ("slimming", {}),
    *[(name, {"round_to": 2}) for name in ("uniform", "magnitude", "slimming", "fpgm")],
    ("halp", {"n_plans": 12, "steps": 2}),
    ("amc", {"episodes": 4, "warmup_share": 0.75, "recalibrate": 16}),
    ("amc", {"episodes": 2, "recalibrate": 0, "tune_epochs": 0.5, "reward": "guaranteed", "round_to": 2}),
    ("netadapt", {"n_plans": 12, "short_epochs": 0.5, "proposals": 2}),
    ("netadapt", {"fleet": True, "table": "measured", "short_epochs": 0.0, "proposals": None, "round_to": 2}),
    ("halp", {"fleet": True, "table": "measured", "steps": 2, "bundles": 4}),
    *[("joint", {"penalty": penalty}) for penalty in ("growing-l2", "group-lasso")],
    ("fastnas", {"choices": 5}),
    ("depth", {"candidates": 3}),
    ("fastnas", {"choices": 4, "score": "loss", "criterion": "osscar", "reconstruct": True, "params_share": 0.9}),
    *[
        ("torch-pruning", {"importance": importance})
        for importance in (
            *("magnitude", "bn-scale", "lamp", "fpgm", "taylor", "hessian", "obd-c", "activation", "random"),
        )
    ],
    *[("torch-pruning", {"scope": scope, "round_to": to}) for scope in ("global", "isomorphic") for to in (1, 2)],
    *[
        ("torch-pruning", {"pruner": pruner, "growth_steps": 1})
        for pruner in ("group-norm", "growing-reg", "bn-scale", "group-bn-scale")
    ],
    ("torch-pruning", {"importance": "taylor", "iterative_steps": 3, "step_epochs": 0.5, "scope": "global"}),
    *[
        ("nni", {"pruner": pruner, "training_steps": 2, "steps": 6})
        for pruner in ("l1", "l2", "fpgm", "slim", "taylor", "linear", "agp", "movement")
    ],
    ("nni", {"dependency_aware": True, "coupling": "unanimous", "steps": 6, "round_to": 2, "speedup": True}),
    ("hdap", {"n_plans": 12, "active_plans": 6, "plans_per_round": 3, "shortlist_epochs": 0.5}),
    (
        "hdap",
        {
            "surrogate": "gbrt-on-ratios",
            "searcher": "ncs",
            "active_plans": 0,
            "n_plans": 12,
            "evaluations": 300,
            "shortlist": 1,
        },
    ),
]


QUICKER = {"amc": ("episodes=6",), "amc-bits": ("episodes=6",)}
"""Parameters other than the defaults, of methods that would keep the command line busy for minutes."""


def name_of(variant: tuple[str, dict[str, object]]) -> str:
    return "-".join([variant[0], *map(str, variant[1].values())])


@pytest.mark.filterwarnings("ignore:.*")  # nni 3.0 and torch-pruning 1.6 warn about their own code under new torch
class TestEveryShippedMethod(MethodContract):
    @pytest.fixture(params=VARIANTS, ids=name_of)
    def method(self, request: pytest.FixtureRequest) -> Method:
        name, parameters = request.param
        needs = {"nni": "nni", "amc": "stable_baselines3"}.get(name)
        if needs and importlib.util.find_spec(needs) is None:
            pytest.skip(f"{needs} is not installed")
        return MethodRegistry().resolve(name, parameters)


@pytest.mark.parametrize(
    "name", [name for name in MethodRegistry().names() if "methods." in MethodRegistry().origin(name)]
)
def test_every_shipped_method_passes_on_the_command_line_as_it_is(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    extra = MethodRegistry().get(name).extra
    if extra and (missing := missing_packages("hdapbench", extra)):
        pytest.skip(f"{', '.join(missing)} not installed")
    quicker = [f"--set={setting}" for setting in QUICKER.get(name, ())]

    ended = main(["methods", "test", name, "--one-process", *quicker])

    assert ended == 0, capsys.readouterr().out


def test_shipped_methods_give_the_same_plans_in_another_process_and_are_imported_in_silence() -> None:
    quick: dict[str, dict[str, object]] = {}
    for name, parameters in VARIANTS:
        quick.setdefault(name, parameters)
    methods = [MethodRegistry().resolve(name, parameters) for name, parameters in quick.items()]

    elsewhere = answers_in_subprocess([(method, method.name) for method in methods], ("residual",))

    assert [answer.plans for answer in elsewhere] == [plans_of(method, ("residual",)) for method in methods]
    assert sum(len(answer.plans or {}) for answer in elsewhere) >= len(methods) - 2  # nni and amc may be absent
    assert [answer.imported for answer in elsewhere] == [[]] * len(methods)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["uniform", "random", "magnitude", "fpgm", "slimming", "torch-pruning", "nni"])
def test_methods_that_know_a_ratio_use_what_single_channels_allow(name: str, kind: ModelKind) -> None:
    if name == "nni" and importlib.util.find_spec("nni") is None:
        pytest.skip("nni is not installed")
    problem = tiny_problem(kind, target=0.6)

    plan = MethodRegistry().resolve(name, {}).compress(problem)

    # One more channel in any group must break the target: with groups this small 0.97 of it may not exist.
    widths = np.array(plan.widths(list(problem.groups)))
    for group in range(len(widths)):
        wider = widths + (np.arange(len(widths)) == group)
        if wider[group] <= problem.cost.sizes[group]:
            assert problem.cost.flops(wider)[0] > problem.target_flops


@pytest.mark.parametrize("target", [0.8, 0.5, 0.2])
def test_random_shares_keep_their_proportions_whether_they_are_scaled_up_or_down(target: float) -> None:
    problem = problem_on(bench_of("vgg16", 32), target)
    drawn = np.random.default_rng([0, 0x48444150]).uniform(0.2, 1.0, len(problem.groups))

    plan = MethodRegistry().resolve("random", {}).compress(problem)

    shares = np.array(plan.widths(list(problem.groups))) / problem.cost.sizes
    scales = (shares / drawn)[shares < 1]
    assert np.ptp(scales) < 0.15 * scales.mean()
    assert 0.97 * problem.target_flops <= flops_of(problem, plan) <= problem.target_flops


def test_a_layer_without_weights_goes_first_in_global_magnitude_pruning() -> None:
    model = deepcopy(tiny_workbench("residual").network.model)
    with torch.no_grad():
        model.body[1].inner[0].weight.zero_()
    problem = problem_on(bench_on(model))

    plan = MethodRegistry().resolve("magnitude", {}).compress(problem)

    stem, inner = plan.widths(list(problem.groups))
    assert stem == 12
    assert inner < 5


@pytest.mark.parametrize(("least_flops_share", "most"), [(0.97, 0.98), (0.0, 0.95)])
def test_hdap_finds_a_plan_that_is_truly_faster_than_uniform(least_flops_share: float, most: float) -> None:
    problem = problem_on(bench_of("mobilenetv1", 32))
    parameters = {"n_plans": 60, "choice": "guard", "criterion": "l1", "guard": "uniform", "guard_levels": [1.0]}
    parameters["least_flops_share"] = least_flops_share

    plan = MethodRegistry().resolve("hdap", parameters).compress(problem)

    assert share_of_uniform(plan, problem, bench_of("mobilenetv1", 32)) < most
    assert least_flops_share * problem.target_flops <= flops_of(problem, plan) <= problem.target_flops


def test_hdap_is_charged_for_the_fingerprint_and_every_plan() -> None:
    problem = tiny_problem("plain")
    parameters = {"n_plans": 10, "active_plans": 0, "choice": "guard", "guard_levels": [1.25, 1.0]}

    MethodRegistry().resolve("hdap", parameters).compress(problem)

    # Twelve devices and three probes; then, on three clusters, ten plans (fewer where they coincide), the optimum, and
    # for each of two criteria what each of two levels gives, by search and by measurement, beside the two references.
    assert 36 < problem.budget.spent.device_queries <= 36 + (11 + 2 * (2 * 2 + 2)) * 3
    assert problem.budget.spent.accuracy_evals == 0


def test_hdap_says_when_its_budget_does_not_even_cover_the_fingerprint() -> None:
    problem = tiny_problem("plain", budget=BudgetSpec(device_queries=35))

    with pytest.raises(BudgetExceededError, match="36 device_queries asked for, 35 left"):
        MethodRegistry().resolve("hdap", {}).compress(problem)


def test_a_missing_nni_is_a_reason_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)

    reason = MethodRegistry().resolve("nni", {}).skip(tiny_problem("plain"))

    assert reason == "nni is not installed; install it with: pip install 'hdapbench[nni]'"


@pytest.mark.parametrize("name", MethodRegistry().names())
def test_only_defaults_are_left_out_of_what_a_trial_remembers(name: str) -> None:
    """A trial's method is built from what it remembers: any other value left out would come back as the default."""
    found = MethodRegistry().get(name)
    for field, info in found.model_fields.items():
        if info.exclude_if is not None:
            others = (None, 0, 0.0, 0.5, 1, 1.0, 5, 100, True, False, "fp32")
            dropped = [value for value in others if value != info.default and info.exclude_if(value)]
            assert info.exclude_if(info.default), field
            assert not dropped, field
