"""Every rule of the contract has plug-ins that break it, in tests/testing/bad_plugins; each is caught, at the line marked there."""

from __future__ import annotations

import inspect
import os
import random
from pathlib import Path

import numpy as np
import pytest
import torch

from hdapbench.method import Method, Plan, Problem
from hdapbench.method.registry import MethodRegistry
from hdapbench.testing import RULES, MethodContract, ModelKind, Violation, check_method, tiny_problem, tiny_workbench
from hdapbench.testing import rules as r
from hdapbench.testing.in_subprocess import check_in_subprocess

FOLDER = Path(__file__).parent / "bad_plugins"
TOGETHER = ("plans", "promises", "side_effects")

BAD: dict[str, tuple[ModelKind, str, str, set[str]]] = {
    "tuple_parameter": ("plain", r.PARAMETERS, "cannot be written as JSON and read back", set()),
    "object_parameter": ("plain", r.PARAMETERS, "cannot be written as JSON and read back", set()),
    "empty_reason": ("plain", r.SKIP, "skip returned ''", set()),
    "skip_that_crashes": ("plain", r.SKIP, "skip raised KeyError: 'head'", set()),
    "leaves_while_skipping": ("plain", r.SKIP, "skip raised SystemExit: 0", set()),
    "crash": ("plain", r.PLAN, "at 0.7x compress raised RuntimeError: out of ideas", set()),
    "cancels": ("plain", r.PLAN, "at 0.7x compress raised CancelledError: no more", set()),
    "names_unknown_weights": ("plain", r.PLAN, "the plan cannot be carried out: PlanError: the weights", {r.BUDGET}),
    "hands_in_a_model": ("plain", r.PLAN, "the plan cannot be written and read as JSON", {r.BUDGET, r.SEED}),
    "no_plan": ("plain", r.PLAN, "compress returned a dict, not a Plan", {r.BUDGET, r.UNREACHABLE}),
    "forgets_a_group": ("plain", r.PLAN, "is not planned", {r.BUDGET}),
    "empties_narrow_groups": ("plain", r.PLAN, "keeps no channel; at least one must stay", set()),
    "knows_chains_only": ("residual", r.PLAN, "ValueError: too many values to unpack", set()),
    "knows_no_depthwise": ("depthwise", r.PLAN, "NotImplementedError: grouped convolution", set()),
    "knows_no_concat": ("concat", r.PLAN, "outside 0..", {r.BUDGET}),
    "counts_by_itself": ("plain", r.TARGET, "above the target", {r.BUDGET, r.UNREACHABLE}),
    "promises_a_size": ("plain", r.PLAN, "asks for bit-widths, and the plan has none", set()),
    "exceeds_a_size": ("plain", r.TARGET, "(size), above the target of", set()),
    "exceeds_a_latency": ("plain", r.TARGET, "ms on average, above the target of", set()),
    "unseeded": ("plain", r.SEED, "draw random numbers from problem.rng only", set()),
    "remembers": ("plain", r.SEED, "two runs of one seed gave two plans", set()),
    "ignores_its_budget": ("plain", r.BUDGET, "above the target", set()),
    "hides_its_budget_error": ("plain", r.BUDGET, "let BudgetExceededError through or return a plan", set()),
    "pays_itself": ("plain", r.PLAN, "ValueError: -100 device_queries cannot be charged", set()),
    "raises_its_limits": ("plain", r.BUDGET, "more device_queries than the budget allows", set()),
    "hears_no_refusal": ("plain", r.UNREACHABLE, "must raise TargetUnreachableError; a plan was returned", set()),
    "changes_the_model": ("plain", r.UNTOUCHED, "the dense model's weights changed", {r.PUBLIC}),
    "trains_the_model": ("plain", r.UNTOUCHED, "the dense model's training mode changed", {r.PUBLIC}),
    "writes_into_sizes": ("plain", r.PLAN, "read-only", set()),
    "looks_at_the_test_split": ("plain", r.PUBLIC, "problem._bench is read", set()),
    "opens_a_new_budget": ("plain", r.PUBLIC, "problem.budget is set", set()),
    "prints": ("plain", r.SILENT, "it printed 'share", set()),
    "prints_while_skipping": ("plain", r.SILENT, "it printed 'groups", set()),
    "prints_to_stderr": ("plain", r.SILENT, "'working' to stderr; use problem.progress", set()),
    "writes_a_file": ("plain", r.FILES, "it wrote share.txt", set()),
    "saves_a_model": ("plain", r.FILES, "it wrote model.pt; use problem.training.keep_weights", set()),
    "draws_from_python": ("plain", r.RANDOM, "random changed", set()),
    "draws_from_numpy": ("plain", r.RANDOM, "numpy.random changed", set()),
    "draws_from_torch": ("plain", r.RANDOM, "torch changed", set()),
    "turns_gradients_off": ("plain", r.SETTINGS, "torch's gradient mode changed", set()),
    "changes_directory": ("plain", r.SETTINGS, "the working directory changed", set()),
    "asks_the_network": ("plain", r.NETWORK, "192.0.2.1", set()),
    "measures_in_secret": ("plain", r.CARD, "never sees latency, and 39 device_queries were spent", set()),
    "measures_under_a_size": ("plain", r.CARD, "never sees latency, and 42 device_queries were spent", set()),
    "reads_images_in_secret": ("plain", r.CARD, "never sees training images, and it reads them", set()),
    "promises_what_nobody_can_check": ("plain", r.CARD, "'Never sees: tomorrow' cannot be checked", set()),
}
"""Plug-in -> a model, the rule that it breaks there, what is said, and rules that it breaks with it."""


ALONE = {"busy_when_imported", "connects_when_imported", "depends_on_the_process", "never_ends", "well_behaved"}
"""Plug-ins of files of their own that have no row above."""


def bad(name: str) -> Method:
    """The plug-in, of a module that is executed anew; what files do when they are imported is done for it alone."""
    registry = MethodRegistry()
    alone = FOLDER / f"{name}.py"
    for path in [alone] if alone.exists() else [FOLDER / f"{file}.py" for file in TOGETHER]:
        registry.add_file(path)
    return registry.resolve(name, {})


def marked_line(method: Method) -> tuple[str, int] | None:
    """File and number of the line of a plug-in that ends in ``# here``; None where nobody can tell the line."""
    file = inspect.getfile(type(method))
    if Path(file).stem == method.name:
        lines, first = Path(file).read_text().splitlines(), 1
    else:
        lines, first = inspect.getsourcelines(type(method))
    found = (number for number, line in enumerate(lines, first) if line.rstrip().endswith("# here"))
    return next(((Path(file).name, number) for number in found), None)


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def test_a_method_that_keeps_the_rules_has_no_violation() -> None:
    assert check_method(bad("well_behaved")) == []


@pytest.mark.parametrize("name", BAD)
def test_each_bad_plug_in_is_caught_by_its_rule_at_its_line_and_by_no_other(name: str) -> None:
    kind, rule, message, others = BAD[name]
    method = bad(name)

    found = check_method(method, (kind,))

    assert {violation.rule for violation in found} == {rule, *others}
    first = next(violation for violation in found if violation.rule == rule)
    assert message in first.message
    assert (first.place and (Path(first.place.file).name, first.place.line)) == marked_line(method)


def test_a_plan_that_depends_on_the_process_is_caught_by_another_process() -> None:
    method = bad("depends_on_the_process")

    violations = check_in_subprocess(method, str(FOLDER / f"{method.name}.py"), ("plain", "residual"))

    assert check_method(method, ("plain",)) == []
    assert [violation.kind for violation in violations] == ["plain", "residual"]
    assert {violation.rule for violation in violations} == {r.SEED}
    assert violations[0].place is not None
    assert (f"{method.name}.py", violations[0].place.line) == marked_line(method)


def test_what_is_done_while_imported_is_caught_by_another_process_at_its_lines() -> None:
    before = random.getstate()
    name = "busy_when_imported"
    method = bad(name)
    random.setstate(before)

    violations = check_in_subprocess(method, str(FOLDER / f"{name}.py"), ("plain",))

    assert check_method(method, ("plain",)) == []
    assert {(violation.rule, str(violation.place).split(": ", 1)[1]) for violation in violations} == {
        (r.SILENT, 'print("registering")'),
        (r.RANDOM, "random.seed(3)"),
        (r.SETTINGS, 'np.seterr(all="raise")'),
        (r.FILES, 'Path("cache.txt").write_text("nothing yet")'),
    }
    assert "being imported, it prints 'registering'; a module only defines" in str(violations[0])


def test_a_connection_while_imported_is_refused_and_named() -> None:
    method = bad("connects_when_imported")

    (violation,) = check_in_subprocess(method, str(FOLDER / f"{method.name}.py"), ("plain",))

    assert violation.rule == r.NETWORK
    assert "192.0.2.1" in violation.message
    assert violation.place is not None
    assert (f"{method.name}.py", violation.place.line) == marked_line(method)


def test_another_process_loads_a_folder_of_methods(tmp_path: Path) -> None:
    name = "depends_on_the_process"
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "parts.py").write_text((FOLDER / f"{name}.py").read_text())
    (tmp_path / "mine" / "__init__.py").write_text("from .parts import *\n")
    registry = MethodRegistry()
    (found,) = registry.add_file(tmp_path / "mine")

    violations = check_in_subprocess(registry.resolve(found, {}), str(tmp_path / "mine"), ("plain",))

    assert [violation.rule for violation in violations] == [r.SEED]
    assert violations[0].place is not None
    assert Path(violations[0].place.file).name == "parts.py"


def test_a_method_that_never_ends_is_stopped_at_the_line_where_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdapbench.testing.attempt.LONGEST_SECONDS", 0.1)
    monkeypatch.setattr("hdapbench.testing.checking.LONGEST_SECONDS", 0.1)

    (violation,) = check_method(bad("never_ends"))

    assert (violation.rule, violation.message) == (
        r.PLAN,
        "at 0.7x compress did not end in 0.1 s, and other models were not tried",
    )
    assert violation.place is not None
    assert Path(violation.place.file).name == "never_ends.py"


def test_every_rule_has_a_bad_plug_in_and_every_bad_plug_in_a_row() -> None:
    assert {rule for _, rule, _, _ in BAD.values()} == set(RULES)
    registry = MethodRegistry()
    together = {name for file in TOGETHER for name in registry.add_file(FOLDER / f"{file}.py")}
    alone = {path.stem for path in FOLDER.glob("*.py")} - {*TOGETHER}
    assert together | alone == {*BAD, *ALONE}


@pytest.mark.parametrize("name", ["knows_chains_only", "knows_no_depthwise", "knows_no_concat"])
def test_a_method_for_some_structures_only_is_caught_on_the_others_alone(name: str) -> None:
    kind = BAD[name][0]

    found = check_method(bad(name))

    assert {violation.kind for violation in found} == {kind}


def test_what_bad_plug_ins_do_is_undone() -> None:
    torch.manual_seed(11)
    before = (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    here = Path.cwd()

    for name in (
        "draws_from_python",
        "draws_from_numpy",
        "draws_from_torch",
        "turns_gradients_off",
        "changes_directory",
    ):
        check_method(bad(name), ("plain",))
    check_method(bad("changes_the_model"), ("plain",))

    assert before == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())  # noqa: NPY002
    assert torch.is_grad_enabled()
    assert Path.cwd() == here
    assert os.listdir() == []  # noqa: PTH208
    assert all(
        parameter.abs().sum() > 0
        for parameter in tiny_workbench("plain").network.model.parameters()
        if parameter.ndim > 1
    )


def test_a_violation_reads_as_rule_model_reason_and_line() -> None:
    (violation,) = check_method(bad("prints"), ("plain",))

    assert isinstance(violation, Violation)
    assert str(violation).startswith("nothing is printed: plain model: it printed 'share")
    assert str(violation).endswith('(prints.py:11: print("share", share)  # here)')


class TestThePytestSuite:
    def test_passes_a_good_method(self) -> None:
        MethodContract().test_keeps_every_rule_on_a_depthwise_model(bad("well_behaved"))

    def test_fails_a_bad_one_with_the_rule_and_the_line(self) -> None:
        with pytest.raises(AssertionError, match=r"nothing is printed: residual model: .*prints.py:11: print"):
            MethodContract().test_keeps_every_rule_on_a_residual_model(bad("prints"))

    def test_shows_a_model_that_the_method_skips_as_skipped(self) -> None:
        class Choosy(Method):
            name = "choosy"

            def skip(self, problem: Problem) -> str | None:
                return "not today"

            def compress(self, problem: Problem) -> Plan:
                raise NotImplementedError

        with pytest.raises(pytest.skip.Exception, match="not today"):
            MethodContract().test_keeps_every_rule_on_a_plain_model(Choosy())


def test_the_plain_model_has_a_group_of_two_channels_and_a_frozen_one_of_one() -> None:
    problem = tiny_problem("plain")

    assert 2 in problem.cost.sizes
    assert any("single channel" in group.reason for group in problem._bench.network.group_set.frozen)
