from __future__ import annotations

import numpy as np
import pytest
import torch
from hdapbench_methods.torch_pruning.method import TorchPruning
from hdapbench_methods.torch_pruning.ratio import kept_at_ratio
from hdapbench_methods.torch_pruning.scorers import Criterion, group_scores
from torch import nn

from hdapbench.method import Plan, Problem
from hdapbench.spec import BudgetSpec
from hdapbench.testing import tiny_problem
from tests.methods.worlds import bench_on, problem_on


def scores_of(problem: Problem, criterion: Criterion, model: nn.Module | None = None) -> dict[str, np.ndarray]:
    dense = Plan(kept={name: tuple(range(group.n_channels)) for name, group in problem.groups.items()})
    return group_scores(problem, model or problem.model(), dense, criterion, n_images=24)


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 6, 3), nn.Conv2d(12, 5, 3)
        self.classifier = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        return self.classifier(self.second(torch.cat([x, x], 1)).mean((2, 3)))


class _NormedTogether(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = (nn.Sequential(nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6)) for _ in range(2))
        self.norm, self.last = nn.BatchNorm2d(12), nn.Sequential(nn.Conv2d(12, 5, 3), nn.BatchNorm2d(5))
        self.classifier = nn.Linear(5, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classifier(self.last(self.norm(torch.cat([self.left(x), self.right(x)], 1))).mean((2, 3)))


def test_batch_norms_of_several_groups_are_a_reason_to_skip_where_scales_of_a_group_are_one() -> None:
    problem = problem_on(bench_on(_NormedTogether()))

    assert "'norm'" in (TorchPruning(pruner="group-bn-scale").skip(problem) or "")
    assert TorchPruning(pruner="bn-scale").skip(problem) is None
    assert TorchPruning(pruner="group-bn-scale").skip(tiny_problem("concat")) is None


class TestScores:
    def test_hessian_counts_every_image_not_only_the_last(self, monkeypatch: pytest.MonkeyPatch) -> None:
        problem = tiny_problem("plain")
        forwards = scores_of(problem, "hessian")
        batches = problem.training.batches
        monkeypatch.setattr(
            problem.training, "batches", lambda n, batch_size: reversed(list(batches(n, batch_size=batch_size)))
        )

        backwards = scores_of(problem, "hessian")

        assert all(backwards[name] == pytest.approx(score, rel=1e-3) for name, score in forwards.items())

    def test_activations_do_not_depend_on_how_images_are_batched(self, monkeypatch: pytest.MonkeyPatch) -> None:
        problem = tiny_problem("residual")
        whole = scores_of(problem, "activation")
        batches = problem.training.batches
        monkeypatch.setattr(problem.training, "batches", lambda n, batch_size=64: batches(n, batch_size=5))

        assert {name: score.tolist() for name, score in scores_of(problem, "activation").items()} == {
            name: pytest.approx(score.tolist(), rel=1e-4) for name, score in whole.items()
        }

    def test_channels_that_a_layer_consumes_twice_are_scored_once(self) -> None:
        problem = problem_on(bench_on(_Twice()))
        seen: list[torch.Tensor] = []
        model = problem.model()
        model.second.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))

        scores = scores_of(problem, "activation")["first"]
        model(torch.cat([images for images, _ in problem.training.batches(24)]))

        once = seen[0][:, :6].abs().mean((0, 2, 3)).detach().numpy()
        assert scores == pytest.approx(once / once.mean(), rel=1e-4)

    def test_obd_c_is_the_squared_gradient_of_single_images_under_labels_of_the_models_own(self) -> None:
        problem = tiny_problem("plain")
        scores = scores_of(problem, "obd-c")

        model, name = problem.model(), next(iter(problem.groups))
        layer, generator = model.get_submodule(name), torch.Generator().manual_seed(problem.training.seed)
        fisher = torch.zeros_like(layer.weight)
        for images, _ in problem.training.batches(24, batch_size=8):
            drawn = torch.multinomial(model(images).detach().softmax(1), 1, generator=generator)[:, 0]
            for image, label in zip(images, drawn, strict=True):
                model.zero_grad()
                problem.training.loss(model(image[None]), label[None]).backward()
                fisher += layer.weight.grad**2
        expected = (layer.weight.detach() ** 2 * fisher).sum((1, 2, 3))
        expected = (expected / expected.mean()).numpy()

        assert scores[name] == pytest.approx(expected, rel=1e-3)

    @pytest.mark.parametrize("criterion", ["taylor", "hessian", "obd-c", "activation"])
    def test_what_reads_images_is_charged_for_them(self, criterion: Criterion) -> None:
        problem = tiny_problem("concat")

        scores_of(problem, criterion)

        assert problem.budget.spent.train_epochs == pytest.approx(24 / 64)


class TestRatios:
    def test_a_ratio_removes_as_many_as_torch_pruning_does(self) -> None:
        kept = kept_at_ratio({"a": np.arange(10.0), "b": np.arange(7.0)}, [["a"], ["b"]], 0.3)

        assert kept == {"a": tuple(range(3, 10)), "b": tuple(range(3, 7))}  # int(7 * 0.7) = 4 stay

    def test_a_shared_scope_takes_the_least_wherever_they_are_but_no_group_that_would_go_whole(self) -> None:
        some = kept_at_ratio({"a": np.array([1.0, 2, 5]), "b": np.array([3.0, 4, 6])}, [["a", "b"]], 0.5)
        whole = kept_at_ratio({"a": np.array([1.0, 2, 3]), "b": np.array([4.0, 5, 6])}, [["a", "b"]], 0.5)

        assert some == {"a": (2,), "b": (1, 2)}
        assert whole == {"a": (0, 1, 2), "b": (0, 1, 2)}

    def test_equal_scores_of_one_group_do_not_all_go(self) -> None:
        assert len(kept_at_ratio({"a": np.zeros(10)}, [["a"]], 0.3)["a"]) == 7

    def test_rounding_goes_down_to_a_multiple_as_in_torch_pruning_and_leaves_what_has_none_as_it_is(self) -> None:
        scores = {"a": np.arange(16.0), "b": np.arange(6.0)}

        kept = kept_at_ratio(scores, [["a"], ["b"]], 0.4, round_to=4)
        later = kept_at_ratio(scores, [["a"], ["b"]], 0.9, round_to=4, left={"a": 8, "b": 4})

        assert [len(kept["a"]), len(kept["b"])] == [8, 6]
        assert [len(later["a"]), len(later["b"])] == [8, 4]

    @pytest.mark.parametrize(
        ("scope", "ratio", "round_to"), [("local", 0.7, 8), ("global", 0.9, 1), ("global", 0.9, 8)]
    )
    def test_widths_are_torch_prunings_own_where_groups_would_vanish(
        self, scope: str, ratio: float, round_to: int
    ) -> None:
        import torch_pruning

        problem = tiny_problem("residual")
        model = problem.model()
        pruner = torch_pruning.pruner.BasePruner(
            model, problem.training.example_input(), importance=torch_pruning.importance.GroupMagnitudeImportance(),
            pruning_ratio=ratio, global_pruning=scope == "global", round_to=round_to, ignored_layers=[model.classifier],
            in_channel_groups={}, out_channel_groups={}, num_heads={}, channel_groups={},
        )  # fmt: skip
        pruner.step()

        plan = TorchPruning(pruning_ratio=ratio, scope=scope, round_to=round_to).compress(problem)

        theirs = [model.get_submodule(name).weight.shape[0] for name in problem.groups]
        assert list(plan.widths(list(problem.groups))) == theirs


class TestTraining:
    @pytest.mark.parametrize("pruner", ["group-norm", "growing-reg", "bn-scale", "group-bn-scale"])
    def test_a_penalty_shrinks_what_it_is_put_on_and_is_charged(self, pruner: str) -> None:
        from hdapbench_methods.torch_pruning.sparse import train_sparse

        def total(reg: float) -> float:
            problem = tiny_problem("residual")
            model = train_sparse(problem, pruner, epochs=4.0, reg=reg, delta_reg=reg, growth_steps=1)
            assert problem.budget.spent.train_epochs == 4.0
            layers = [m for m in model.modules() if isinstance(m, nn.BatchNorm2d | nn.Conv2d)]
            return float(sum(layer.weight.detach().abs().sum() for layer in layers))

        assert total(0.3) < 0.99 * total(0.0)

    def test_the_plan_carries_the_trained_weights(self) -> None:
        plan = TorchPruning(pruner="group-norm").compress(tiny_problem("plain"))

        assert plan.weights is not None

    def test_no_penalty_object_leaves_anything_behind_for_the_next(self) -> None:
        import inspect

        from torch_pruning.pruner.algorithms import BasePruner

        TorchPruning(pruner="growing-reg").compress(tiny_problem("depthwise"))

        defaults = inspect.signature(BasePruner.__init__).parameters
        assert not any(value.default for value in defaults.values() if isinstance(value.default, dict))


class TestRounds:
    def test_rounds_are_charged_for_their_gradients_and_their_fine_tuning(self) -> None:
        problem = tiny_problem("residual")

        TorchPruning(importance="taylor", n_images=16, iterative_steps=4, step_epochs=0.5).compress(problem)

        assert problem.budget.spent.train_epochs == pytest.approx(4 * 16 / 64 + 3 * 0.5)

    def test_scores_are_taken_anew_so_that_rounds_change_the_plan(self) -> None:
        once, rounds = (
            TorchPruning(iterative_steps=steps, scope="global").compress(tiny_problem("residual", target=0.4))
            for steps in (1, 6)
        )

        assert once.kept != rounds.kept

    def test_a_round_is_too_much_for_a_budget_that_one_pass_meets(self) -> None:
        from hdapbench.errors import BudgetExceededError

        method = TorchPruning(importance="taylor", n_images=64, iterative_steps=2)

        with pytest.raises(BudgetExceededError):
            method.compress(tiny_problem("plain", budget=BudgetSpec(train_epochs=1.5)))
