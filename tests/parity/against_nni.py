"""NNI's masks through the method beside those of a plain NNI script, and ModelSpeedup's models beside ours."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import Any

import torch
from hdapbench_methods.nni.masks import Settings, masks_of, quiet, steps_of
from hdapbench_methods.nni.speedup import compared
from torch import Tensor, nn

from hdapbench.method import Problem
from tests.parity.subjects import problem

PRUNERS = ("l1", "l2", "fpgm", "slim", "taylor", "linear", "agp", "movement")
CLASSES = {
    "l1": "L1NormPruner",
    "l2": "L2NormPruner",
    "fpgm": "FPGMPruner",
    "slim": "SlimPruner",
    "taylor": "TaylorPruner",
    "linear": "LinearPruner",
    "agp": "AGPPruner",
    "movement": "MovementPruner",
}
SPARSITY = 0.4
STEPS = 10


@dataclass(frozen=True)
class MaskComparison:
    """Masks of one pruner: layers, masked filters of ours and theirs, and mask entries that differ."""

    model: str
    pruner: str
    n_layers: int
    masked: int
    masked_directly: int
    differing: int


def compare_masks(name: str, pruner: str, side: int) -> MaskComparison:
    """Run a pruner through the method and directly, on the same batches."""
    settings = Settings(pruner, training_steps=STEPS)  # type: ignore[arg-type]
    torch.manual_seed(0)
    ours, _ = masks_of(problem(name, side), settings, SPARSITY)
    torch.manual_seed(0)
    theirs = masks_directly(problem(name, side), pruner, steps_of(settings))
    pairs = [(ours[layer]["weight"], theirs[layer]["weight"]) for layer in theirs]
    return MaskComparison(
        model=name,
        pruner=pruner,
        n_layers=len(ours),
        masked=sum(filters(mask) for mask, _ in pairs),
        masked_directly=sum(filters(mask) for _, mask in pairs),
        differing=sum(int((mask != other).sum()) for mask, other in pairs) + abs(len(ours) - len(theirs)),
    )


def filters(mask: Tensor) -> int:
    """Filters that a mask removes whole."""
    return int((mask.reshape(len(mask), -1).sum(1) == 0).sum())


def masks_directly(task: Problem, pruner: str, steps: int) -> dict[str, dict[str, Tensor]]:
    """What a user of NNI writes: all convolutions but depthwise ones (for slim: all norms), one sparsity."""
    import nni
    from nni.compression.utils import TorchEvaluator

    pruning = importlib.import_module("nni.compression.pruning")
    model = task.model().train()
    skipped = [key for key, module in model.named_modules() if isinstance(module, nn.Conv2d) and module.groups > 1]
    linears = [key for key, module in model.named_modules() if isinstance(module, nn.Linear)]
    kinds = ["BatchNorm2d"] if pruner == "slim" else ["Conv2d", "Linear"]
    config = [{"op_types": kinds, "exclude_op_names": [*skipped, linears[-1]], "sparse_ratio": SPARSITY}]

    def train(model: Any, optimizer: Any, step: Any, _scheduler: Any, max_steps: int | None, _epochs: Any) -> None:
        for _ in range(max_steps or steps):  # 32 images: one batch is an epoch
            optimizer.zero_grad()
            step(next(iter(task.training.batches(task.training.n_train_images))), model).backward()
            optimizer.step()

    def loss_of(batch: Any, model: Any) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    with quiet():
        kind = getattr(pruning, CLASSES[pruner])
        if pruner in {"l1", "l2", "fpgm"}:
            return dict(kind(model, config).compress()[1])
        optimizer = nni.trace(torch.optim.SGD)(model.parameters(), lr=0.001, momentum=0.9)
        evaluator = TorchEvaluator(train, optimizer, loss_of, dummy_input=task.training.example_input())
        if pruner in {"slim", "taylor"}:
            return dict(kind(model, config, evaluator, training_steps=steps).compress()[1])
        if pruner == "movement":
            bound = kind(model, config, evaluator, warmup_step=2, cooldown_begin_step=steps - 1)
        else:
            bound = kind(pruning.L1NormPruner(model, config), interval_steps=2, total_times=5, evaluator=evaluator)
        return dict(bound.compress(max_steps=steps, max_epochs=None)[1])


def compare_speedup(name: str, side: int) -> dict[str, object]:
    """ModelSpeedup's model of a plan that keeps half of every group beside ours."""
    task = problem(name, side)
    plan = task.plan_by_importance(dict.fromkeys(task.groups, 0.5), "l2")
    return {"model": name, **compared(task, task.model(), plan)}
