"""NNI's pruners, each with what it needs, and the masks that they leave. Importing NNI leaves nothing behind."""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from hdapbench.method import Problem

PrunerName = Literal["l1", "l2", "fpgm", "slim", "taylor", "linear", "agp", "movement"]
TRAINS_WEIGHTS = frozenset({"linear", "agp", "movement"})
ROUNDS = 5
BATCH_SIZE = 64

Masks = dict[str, dict[str, Tensor]]


@dataclass(frozen=True)
class Settings:
    """What an NNI pruner is told.

    Attributes
    ----------
    dependency_aware
        Whether the layers of a group are ranked together and masked alike.
    training_steps, learning_rate
        Batches and rate of the training that slim, taylor, linear, agp and movement need.
    """

    pruner: PrunerName
    dependency_aware: bool = False
    training_steps: int = 20
    learning_rate: float = 0.001


def masks_of(problem: Problem, settings: Settings, sparsity: float) -> tuple[Masks, nn.Module]:
    """Masks (layer -> {"weight": ones and zeros}) at a sparsity, and the model after the pruner's training; charged."""
    if settings.pruner not in {"l1", "l2", "fpgm"}:
        problem.budget.charge("train_epochs", steps_of(settings) * BATCH_SIZE / problem.training.n_train_images)
    model = problem.model().train()
    with quiet(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(problem.training.seed)  # for dropout
        pruner, arguments = _pruner(problem, model, settings, _config(problem, settings, sparsity))
        _, masks = pruner.compress(**arguments)
        pruner.unwrap_model()
    return masks, model.eval()


def steps_of(settings: Settings) -> int:
    """Training steps of a pruner that trains; the schedules need one more than whole rounds."""
    if settings.pruner in TRAINS_WEIGHTS:
        return max(settings.training_steps // ROUNDS, 1) * ROUNDS + 1
    return settings.training_steps


def targets(problem: Problem, name: str, *, norm: bool) -> list[str]:
    """Layers of a group that NNI masks: those that produce its channels, or (for slim) their batch norms."""
    group = problem.groups[name]
    if not norm:
        return list(group.producers)
    modules = dict(problem.model().named_modules())
    return [member.layer for member in group.members if isinstance(modules[member.layer], nn.BatchNorm2d)]


def _config(problem: Problem, settings: Settings, sparsity: float) -> list[dict[str, Any]]:
    """NNI's configuration: one entry, or one per group whose layers depend on each other."""
    norm = settings.pruner == "slim"
    layers = {name: targets(problem, name, norm=norm) for name in problem.groups}
    common = {"op_types": ["BatchNorm2d"] if norm else ["Conv2d", "Linear"], "sparse_ratio": sparsity}
    if not settings.dependency_aware:
        return [{"op_names": [layer for found in layers.values() for layer in found], **common}]
    return [{"op_names": found, "dependency_group_id": name, **common} for name, found in layers.items()]


def _pruner(
    problem: Problem, model: nn.Module, settings: Settings, config: list[dict[str, Any]]
) -> tuple[Any, dict[str, int | None]]:
    """Pruner object, and the arguments that its ``compress`` insists on."""
    from nni.compression import pruning

    untrained = {"l1": pruning.L1NormPruner, "l2": pruning.L2NormPruner, "fpgm": pruning.FPGMPruner}
    if settings.pruner in untrained:
        return untrained[settings.pruner](model, config), {}
    steps = steps_of(settings)
    evaluator = _evaluator(problem, model, settings.learning_rate, steps)
    scoring = {"slim": pruning.SlimPruner, "taylor": pruning.TaylorPruner}
    if settings.pruner in scoring:
        return scoring[settings.pruner](model, config, evaluator, training_steps=steps), {}
    arguments: dict[str, int | None] = {"max_steps": steps, "max_epochs": None}
    if settings.pruner == "movement":
        return pruning.MovementPruner(model, config, evaluator, steps // ROUNDS, steps - 1), arguments
    scheduled = pruning.LinearPruner if settings.pruner == "linear" else pruning.AGPPruner
    inner = pruning.L1NormPruner(model, config)
    return scheduled(inner, interval_steps=steps // ROUNDS, total_times=ROUNDS, evaluator=evaluator), arguments


def _evaluator(problem: Problem, model: nn.Module, learning_rate: float, limit: int) -> Any:
    """NNI's evaluator around a plain training loop that always reaches the steps it is asked for."""
    import nni
    from nni.compression.utils import TorchEvaluator

    def train(model: Any, optimizer: Any, step: Any, _scheduler: Any, max_steps: int | None, _epochs: Any) -> None:
        done = 0
        while done < (max_steps or limit):
            for batch in problem.training.batches(problem.training.n_train_images, batch_size=BATCH_SIZE):
                optimizer.zero_grad()
                step(batch, model).backward()
                optimizer.step()
                done += 1
                if done >= (max_steps or limit):
                    return

    def training_step(batch: Any, model: Any) -> Any:
        return problem.training.loss(model(batch[0]), batch[1])

    optimizer = nni.trace(torch.optim.SGD)(model.parameters(), lr=learning_rate, momentum=0.9)
    return TorchEvaluator(train, optimizer, training_step, dummy_input=problem.training.example_input())


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """NNI without output, warnings or log handlers: importing it installs one on stdout, which is taken away again."""
    logger = logging.getLogger("nni")
    with (
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # NNI 3.0 is older than the torch it runs on, which says so
        import nni.compression.speedup  # noqa: F401 - imported for its side effects, here where they are contained

        for handler in list(logger.handlers):
            logger.removeHandler(handler)
        logger.propagate = False
        levels = {name: logging.getLogger(name).level for name in ("nni", "nni.compression.speedup.model_speedup")}
        for name in levels:
            logging.getLogger(name).setLevel(logging.ERROR)
        yield
