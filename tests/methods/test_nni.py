from __future__ import annotations

import importlib.util
import logging
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from hdapbench.testing import tiny_problem, tiny_workbench
from tests.methods.worlds import bench_on, problem_on

pytestmark = [
    pytest.mark.skipif(importlib.util.find_spec("nni") is None, reason="nni is not installed"),
    pytest.mark.filterwarnings("ignore:.*"),  # nni 3.0 warns about its own code under new torch
]

SCRIPT = """
import sys, threading, warnings
warnings.simplefilter("error")
from hdapbench_methods.nni.masks import quiet
with quiet():
    pass
import logging
assert "nni" in sys.modules
print([t.name for t in threading.enumerate()], logging.getLogger("nni").handlers)
"""


class TestMasks:
    def test_scales_of_several_groups_cannot_be_ranked_by_group(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from hdapbench_methods.nni import Nni

        problem = tiny_problem("plain")
        monkeypatch.setattr("hdapbench.prune.norms.first_shared_norm", lambda model, groups: "joined")

        assert "'joined'" in (Nni(pruner="slim", dependency_aware=True).skip(problem) or "")
        assert Nni(pruner="slim").skip(problem) is None
        assert Nni(pruner="l1", dependency_aware=True).skip(problem) is None

    def test_dependency_aware_layers_of_a_group_are_masked_alike(self) -> None:
        from hdapbench_methods.nni.masks import Settings, masks_of

        problem = tiny_problem("residual")
        layers = next(group.producers for group in problem.groups.values() if len(group.producers) > 1)
        alike = []
        for aware in (False, True):
            masks, _ = masks_of(problem, Settings("l1", dependency_aware=aware), 0.5)
            alive = [masks[layer]["weight"].flatten(1).sum(1) > 0 for layer in layers]
            alike.append(all(bool((other == alive[0]).all()) for other in alive))

        assert alike == [False, True]

    def test_unanimous_coupling_removes_only_what_all_layers_mask(self) -> None:
        from hdapbench_methods.nni.method import Nni

        votes = np.array([0.0, 0.5, 0.5, 1.0])

        assert Nni()._width(votes) == 2
        assert Nni(coupling="unanimous")._width(votes) == 3

    def test_weights_trained_under_masks_go_on_to_the_runner(self) -> None:
        from hdapbench_methods.nni.method import Nni

        plans = [
            Nni(pruner=p, training_steps=5, steps=4).compress(tiny_problem("plain")) for p in ("movement", "taylor")
        ]

        assert plans[0].weights is not None
        assert plans[1].weights is None

    def test_training_is_charged_at_every_sparsity_tried(self) -> None:
        from hdapbench_methods.nni.method import Nni

        problem = tiny_problem("plain")

        Nni(pruner="agp", training_steps=10, steps=3).compress(problem)

        # Eleven batches of 64, of 64 images in all; a fourth try where none of three met the target.
        assert problem.budget.spent.train_epochs in {33.0, 44.0}

    @pytest.mark.parametrize("pruner", ["taylor", "agp"])
    def test_dropout_follows_the_seed_and_leaves_the_global_random_state_alone(self, pruner: str) -> None:
        from hdapbench_methods.nni.method import Nni

        model = deepcopy(tiny_workbench("residual").network.model)
        model.classifier = nn.Sequential(nn.Dropout(0.5), model.classifier).eval()
        bench, method = bench_on(model), Nni(pruner=pruner, training_steps=5, steps=2, learning_rate=0.05)
        before = torch.get_rng_state()

        plans = [method.compress(problem_on(bench)) for _ in range(2)]

        assert plans[0] == plans[1]
        assert torch.equal(torch.get_rng_state(), before)


class TestSpeedup:
    @pytest.mark.parametrize("kind", ["residual", "depthwise", "concat"])
    def test_its_model_is_ours(self, kind: str) -> None:
        from hdapbench_methods.nni.speedup import compared

        problem = tiny_problem(kind)
        plan = problem.plan_by_importance(dict.fromkeys(problem.groups, 0.6), "l1")

        facts = compared(problem, problem.model(), plan)

        assert facts["traced"]
        assert facts["same_parameters"]
        assert facts["largest_difference"] <= 1e-6
        assert facts["largest_output"] > 0.01

    def test_a_model_that_it_cannot_follow_is_a_reason_and_no_failure(self, monkeypatch: pytest.MonkeyPatch) -> None:
        import torch
        from hdapbench_methods.nni.method import Nni

        def refuse(model: object) -> None:
            raise torch.fx.proxy.TraceError("symbolically traced variables cannot be used as inputs to control flow")

        monkeypatch.setattr(torch.fx, "symbolic_trace", refuse)
        problem = tiny_problem("plain")

        Nni(speedup=True, steps=3).compress(problem)

        assert problem.decisions["speedup"]["traced"] is False
        assert problem.decisions["speedup"]["reason"].startswith("TraceError: symbolically traced")


def test_a_process_that_imports_nni_through_us_has_no_more_threads_files_output_or_warnings(tmp_path: Path) -> None:
    environment = {
        "HOME": str(tmp_path),
        "PATH": "/usr/bin:/bin",
        "PYTHONPATH": ":".join([str(Path(__file__).parents[2]), *filter(None, sys.path)]),
        "OMP_NUM_THREADS": "1",
    }

    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, env=environment, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert done.stdout == "['MainThread'] []\n"
    assert done.stderr == ""
    assert list(tmp_path.iterdir()) == []
    assert logging.getLogger().level == logging.WARNING
