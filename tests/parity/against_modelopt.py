"""Sensitivities and widths of the method fastnas beside those of FastNAS in NVIDIA's Model Optimizer 0.47."""

from __future__ import annotations

import contextlib
import importlib
import io
from dataclasses import dataclass
from typing import Any

import torch
from hdapbench_methods.fastnas import Fastnas
from torch import Tensor, nn

from hdapbench.groups import GroupSet
from hdapbench.method import Plan, Problem
from hdapbench.prune.surgery import apply_plan
from tests.methods.worlds import bench_of, problem_on

DIVISOR = 8


@dataclass(frozen=True)
class FastnasComparison:
    """How two searches agree.

    Attributes
    ----------
    n_groups, n_widths
        That both evaluated.
    only_ours
        Groups that Model Optimizer leaves dense.
    largest_difference, largest
        Of sensitivities, and sensitivity.
    widths, widths_directly
        Group -> width that our curves give at their threshold, and theirs.
    """

    n_groups: int
    n_widths: int
    only_ours: tuple[str, ...]
    largest_difference: float
    largest: float
    widths: dict[str, int]
    widths_directly: dict[str, int]


class _Ours(Fastnas):
    """The method with a score that does not need a trained model: how near outputs stay to the dense model's."""

    def _score(self, problem: Problem, plan: Plan) -> float:
        model = apply_plan(problem.model(), GroupSet(tuple(problem.groups.values())), plan)
        return _closeness(model, problem.model(), _images(problem))


def compare_fastnas(name: str, side: int, share: float) -> FastnasComparison:
    """Both searches on a network whose parameters may fall to a share, with the same score and choices of widths."""
    asked = problem_on(bench_of(name, side), 1.0)
    _Ours(round_to=DIVISOR, recalibrate=0, params_share=share).compress(asked)
    told = asked.decisions["sensitivities"]
    found = _searched(asked.model(), asked.model(), _images(asked), share * asked.cost.dense.params)
    theirs = {key.removesuffix(".out_channels"): curve for key, curve in found["sensitivity_map"].items()}
    threshold = -float(found["best"]["metric"]) + 1e-6  # ours are told to six digits
    differences, widths, directly = [], {}, {}
    for group, losses in told["lost"].items():
        if group not in theirs:
            continue
        size = asked.groups[group].n_channels
        whole = [min(max(round(share * size / DIVISOR) * DIVISOR, DIVISOR), size) for share in told["shares"]]
        ours = dict(zip(whole, losses, strict=True))
        differences += [abs(ours[width] - theirs[group][width]) for width in ours.keys() & theirs[group].keys()]
        widths[group] = min(width for width, loss in ours.items() if loss <= threshold)
        directly[group] = min(width for width, loss in theirs[group].items() if loss <= threshold)
    return FastnasComparison(
        n_groups=len(widths),
        n_widths=len(differences),
        only_ours=tuple(group for group in asked.groups if group not in theirs),
        largest_difference=max(differences),
        largest=max(max(curve.values()) for curve in theirs.values()),
        widths=widths,
        widths_directly=directly,
    )


def _searched(model: nn.Module, dense: nn.Module, images: Tensor, params: float) -> dict[str, Any]:
    """State of Model Optimizer's search."""
    prune, config = (importlib.import_module(f"modelopt.torch.{part}") for part in ("prune", "prune.fastnas"))
    rules = config.FastNASConfig().model_dump()
    for rule in rules.values():
        for settings in (rule or {}).values():
            settings.update({key: DIVISOR for key in settings or {} if key.endswith("_divisor")})
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        _, state = prune.prune(
            model,
            mode=[("fastnas", rules)],
            constraints={"params": params},
            dummy_input=images[:1],
            config={"score_func": lambda found: _closeness(found, dense, images), "data_loader": []},
        )
    return dict(state)


def _closeness(model: nn.Module, dense: nn.Module, images: Tensor) -> float:
    """Minus the mean absolute difference of outputs, relative to the dense model's."""
    with torch.no_grad():
        wanted = dense.eval()(images)
        return -float((model.eval()(images) - wanted).abs().mean() / wanted.abs().mean())


def _images(problem: Problem) -> Tensor:
    return next(iter(problem.training.batches(8, batch_size=8)))[0]
