"""One method's misbehaviour is its own row's affair: the others' rows are what they are without it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hdapbench.cli.main import main
from hdapbench.store.sqlite import open_store

pytestmark = pytest.mark.usefixtures("in_the_folder_of_the_spec")

MINE = """\
from hdapbench.method import Method, Plan, Problem


class Mine(Method):
    name = "mine"
{fields}
    def compress(self, problem: Problem) -> Plan:
        {line}
        return problem.plan_by_scores(problem.importance("l2"))
"""


def rows(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, dict[str, Any]]:
    """Results by method, at one target."""
    main(["run", "tiny.yaml", "--quiet", "--json", "--set", "targets=[{flops: 0.5x}]", *arguments])
    return {row["trial"]["method"]: row for row in json.loads(capsys.readouterr().out)}


def write(line: str, fields: str = "") -> None:
    Path("mine.py").write_text(MINE.format(line=line, fields=fields))


def test_an_edited_file_is_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    seen = []
    for line in ("torn(", "return None", 'problem.remember("step", 1)', 'problem.remember("step", 2)'):
        write(line)
        seen.append(rows(capsys, "--method", "./mine.py")["mine"])

    assert "SyntaxError" in seen[0]["reason"]
    assert "not a Plan" in seen[1]["reason"]
    assert [row["notes"]["decisions"]["step"] for row in seen[2:]] == [1, 2]
    assert rows(capsys, "--method", "./mine.py")["mine"] == seen[3]


@pytest.mark.parametrize(
    "line",
    [
        "import torch; torch.set_grad_enabled(False)",
        "import torch; torch.set_default_dtype(torch.float64)",
        "import os; os.chdir('/')",
    ],
)
def test_settings_that_a_method_changes_do_not_reach_the_others(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    write(line)
    order = ("--set", "methods=[uniform]", "--method", "./mine.py", "--method", "fpgm")

    alone = rows(capsys, "--set", "methods=[fpgm]", "--workspace", "alone")
    beside = rows(capsys, *order, "--workspace", "beside")

    assert beside["mine"]["status"] == "complete"
    assert beside["fpgm"]["metrics"] == alone["fpgm"]["metrics"]
    assert Path("beside/artifacts").is_dir()


def test_a_method_that_changes_the_dense_model_fails_and_the_next_has_the_model_as_it_was(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("[parameter.data.zero_() for parameter in problem._bench.network.model.parameters()]")

    alone = rows(capsys, "--set", "methods=[fpgm]", "--workspace", "alone")
    beside = rows(
        capsys, "--set", "methods=[uniform]", "--method", "./mine.py", "--method", "fpgm", "--workspace", "beside"
    )

    assert "it changed the dense model" in beside["mine"]["reason"]
    assert beside["fpgm"]["metrics"] == alone["fpgm"]["metrics"]


@pytest.mark.parametrize(
    "line",
    [
        "problem._bench.train.images.zero_(), problem._bench.search.labels.zero_()",
        "problem._bench.network.cost.sizes.setflags(write=True); problem._bench.network.cost.sizes[:] = 3",
        "[vars(problem._bench.fleet).update({name: None}) for name in list(vars(problem._bench.fleet))]",
        "problem._bench.network.group_set.groups[0].__dict__.update(size=1)",
        "object.__setattr__(problem._bench.recipe, 'epochs', 0.0)",
    ],
)
def test_what_a_method_spoils_in_memory_is_made_anew_even_for_itself(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = "plan = problem.plan_by_scores(problem.importance('l2')); {}; return plan"
    Path("clean.py").write_text(MINE.format(line=plan.format("pass"), fields="").replace('"mine"', '"clean"'))
    write(plan.format(line))

    alone = rows(capsys, "--set", "methods=[fpgm]", "--method", "./clean.py", "--workspace", "alone")
    beside = rows(capsys, "--set", "methods=[uniform]", "--method", "./mine.py", "--method", "fpgm", "--workspace", "b")

    assert beside["fpgm"]["metrics"] == alone["fpgm"]["metrics"]
    assert beside["mine"]["metrics"] == alone["clean"]["metrics"]


@pytest.mark.parametrize(
    ("line", "fields", "reason"),
    [
        ("import asyncio; raise asyncio.CancelledError('no more')", "", "CancelledError at mine.py:8: no more"),
        ("problem.remember('scores', {1, 2})", "", "TypeError at mine.py:8: Object of type set is not JSON"),
        ("pass", "    thing: object = object()\n", "Unable to serialize unknown type"),
    ],
)
def test_what_goes_wrong_is_a_row_with_the_methods_own_line(
    line: str, fields: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(line, fields)

    found = rows(capsys, "--method", "./mine.py")

    assert reason in found["mine"]["reason"]
    assert found["random"]["status"] == "complete"


def test_a_broken_file_called_dense_is_no_dense_model(capsys: pytest.CaptureFixture[str]) -> None:
    Path("dense.py").write_text("def torn(:\n")

    found = rows(capsys, "--method", "./dense.py")

    assert found["dense.py"]["status"] == "failed"
    assert found["dense"]["trial"]["target"] is None


def test_a_method_that_asks_for_nothing_is_stopped_when_its_time_is_up(capsys: pytest.CaptureFixture[str]) -> None:
    write("while True: pass")

    found = rows(capsys, "--method", "./mine.py", "--set", "budget.wall_seconds=5")

    assert found["mine"]["status"] == "timeout"
    assert "the time limit of 5 s is up" in found["mine"]["reason"]


def test_a_second_run_says_how_to_repeat_what_failed(capsys: pytest.CaptureFixture[str]) -> None:
    write("raise RuntimeError")
    rows(capsys, "--method", "./mine.py")

    main(["run", "tiny.yaml", "--set", "targets=[{flops: 0.5x}]", "--method", "./mine.py"])

    assert "1 of them failed or timed out before; run them again with --retry-failed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line", ["import os; os.write(1, b'stray')", "import os; os.system('echo stray')", "print('stray')"]
)
def test_stdout_has_results_alone_whoever_else_writes_to_it(line: str, capfd: pytest.CaptureFixture[str]) -> None:
    write(line)

    assert main(["run", "tiny.yaml", "--quiet", "--json", "--set", "methods=[uniform]", "--method", "./mine.py"]) == 0

    written = capfd.readouterr()
    assert {row["status"] for row in json.loads(written.out)} == {"complete"}
    assert "stray" in written.err


SPOILS = """\
import os, torch, torch.nn.functional as F
from torch import nn
torch.relu = None
torch.autocast("cpu").__enter__()
nn.modules.module.register_module_forward_hook(lambda module, inputs, outputs: outputs * 2)
F.relu = nn.ReLU.forward = lambda *x: x[-1]
torch.set_default_device("meta")
""".replace("\n", "\n        ")


def test_what_a_method_leaves_on_reaches_neither_its_own_evaluation_nor_others(
    capsys: pytest.CaptureFixture[str],
) -> None:
    write("pass")
    Path("mine.py").write_text(
        SPOILS.replace("\n        ", "\n")
        + MINE.format(
            line="plan = problem.plan_by_scores(problem.importance('l2'))\n        " + SPOILS, fields=""
        ).replace('return problem.plan_by_scores(problem.importance("l2"))', "return plan")
    )
    Path("clean.py").write_text(MINE.format(line="pass", fields="").replace("mine", "clean"))

    alone = rows(capsys, "--set", "methods=[fpgm]", "--method", "./clean.py", "--workspace", "alone")
    beside = rows(capsys, "--set", "methods=[uniform]", "--method", "./mine.py", "--method", "fpgm", "--workspace", "b")

    assert beside["fpgm"]["metrics"] == alone["fpgm"]["metrics"]
    assert beside["mine"]["metrics"] == alone["clean"]["metrics"]
    assert {"torch's autocast", "torch's global hooks", "torch.nn.functional.relu", "torch's default device"} < set(
        beside["mine"]["notes"]["put_back"]
    )


MANY = """\
import numpy as np
from hdapbench.errors import BudgetExceededError, TargetUnreachableError
from hdapbench.method import Method, Plan


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("no")


class MuteBudget(BudgetExceededError, Mute):
    __str__ = Mute.__str__


class Does:
    def compress(self, problem):
        type(self).do(problem)
        return problem.plan_by_scores(problem.importance("l2"))


def raising(error):
    def do(problem):
        raise error
    return staticmethod(do)


class A(Does, Method):
    name, do = "mute", raising(Mute())


class B(Does, Method):
    name, do = "mute-budget", raising(MuteBudget())


class C(Does, Method):
    name, do = "surrogate", raising(ValueError("half \\udc80 and \\x1b[31mred\\n# heading"))


class D(Does, Method):
    name, do = "unreachable", raising(TargetUnreachableError("half \\udc80"))


class E(Does, Method):
    name, do = "interrupt", raising(KeyboardInterrupt())


class F(Does, Method):
    name, do = "leaves", raising(SystemExit(3))


class G(Does, Method):
    name, do = "remembers", staticmethod(lambda problem: problem.remember("x\\udc80", ["\\udc80", np.float32(0.5), np.arange(2)]))


class H(Does, Method):
    name, do = "infinite", staticmethod(lambda problem: problem.budget.charge("device_queries", float("inf")))


class I(Does, Method):
    name, do = "spoils-its-budget", staticmethod(lambda problem: problem.budget._spent.update(device_queries="x"))
"""


def test_whatever_methods_raise_remember_and_charge_becomes_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    Path("many.py").write_text(MANY)

    found = rows(capsys, "--set", "methods=[uniform]", "--method", "./many.py")

    spoilt = found.pop("spoils-its-budget")
    told = {name: f"{row['status']}: {row['reason']}" for name, row in found.items() if row["status"] != "complete"}
    assert told == {
        "mute": "failed: Mute at many.py:23: its text cannot be made (RuntimeError)",
        "mute-budget": "timeout: its text cannot be made (RuntimeError)",
        "surrogate": r"failed: ValueError at many.py:23: half \udc80 and \x1b[31mred # heading",
        "unreachable": r"infeasible: half \udc80",
        "interrupt": "failed: it raised KeyboardInterrupt, which is the user's alone",
        "leaves": "failed: SystemExit at many.py:23: 3",
        "infinite": "failed: ValueError at many.py:56: inf device_queries cannot be charged; amounts are finite and 0 or more",
    }
    assert spoilt["reason"].startswith("what it left cannot be stored: ValueError: invalid literal for int()")
    assert found["remembers"]["notes"]["decisions"] == {r"x\udc80": ["?", 0.5, [0, 1]]}


def test_a_trial_in_which_the_process_died_twice_is_a_row_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", "tiny.yaml", "--json", "--set", "targets=[{flops: 0.5x}]"])
    trial = next(t["id"] for t in json.loads(capsys.readouterr().out)["trials"] if "uniform" in t["trial"])
    path = Path(".hdapbench/running") / trial
    path.parent.mkdir(parents=True)
    path.write_text("0x\n0x\n")  # numbers of no processes

    found = rows(capsys)

    assert found["uniform"]["status"] == "failed"
    assert "the process ended 2 times while this method ran" in found["uniform"]["reason"]
    assert found["random"]["status"] == "complete"


@pytest.mark.parametrize(
    ("line", "code"),
    [("import os; os._exit(3)", 3), ("import ctypes; ctypes.string_at(0)", -signal.SIGSEGV)],
)
def test_a_method_that_ends_the_process_ends_two_runs_and_is_a_row_of_the_third(line: str, code: int) -> None:
    write(line)
    command = [sys.executable, "-c", "from hdapbench.cli.main import main; raise SystemExit(main())"]
    command += [
        "run",
        "tiny.yaml",
        "--method",
        "./mine.py",
        "--set",
        "methods=[uniform]",
        "--set",
        "targets=[flops: 0.5x]",
    ]
    runs = [subprocess.run(command, capture_output=True, text=True) for _ in range(3)]

    assert [done.returncode for done in runs] == [code, code, 1]
    assert "an earlier run ended while this method ran; it is asked once more" in runs[1].stderr
    assert "2 of 3 trials are done and skipped" in runs[2].stderr
    with open_store(Path(".hdapbench/results.db")) as store:
        found = {result.trial.method: result for result in store.results(trial_ids=store.benchmark("tiny").trial_ids)}
    assert found["uniform"].status == "complete"
    assert "the process ended 2 times while this method ran: it left by os._exit, crashed" in str(found["mine"].reason)
