"""A spec's network on the whole way of a run with one batch: trained, traced, cut by one plan, trained again."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from hdapbench.bench.network import Network, trace
from hdapbench.cost.trace import check_parameters
from hdapbench.errors import ModelError, SpecError, SurgeryError
from hdapbench.files import expand_path
from hdapbench.models import build_model, check_published, load_weights
from hdapbench.plan import Plan
from hdapbench.prune.surgery import checked_apply
from hdapbench.run.grid import base_directory
from hdapbench.spec import LoadedSpec, problem_at
from hdapbench.tasks.base import TORCHVISION
from hdapbench.tasks.dry_run import N_IMAGES, dry_run, said
from hdapbench.tasks.open import open_task


def dry_pass(loaded: LoadedSpec, *, n_classes: int, counted: bool) -> Network:
    """Trace of a spec's network, after all that a run does to it was done with random images; no data are read.

    Parameters
    ----------
    n_classes
        Classes of the data.
    counted
        Whether they were counted; where not, the network may give any number of outputs.

    Raises
    ------
    SpecError
        At the place of the model or its weights, when a run would refuse or stumble on them.
    """
    spec = loaded.spec
    task = open_task(spec.task)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(spec.base.seed)
        model = _built(loaded, n_classes)
        images = torch.randn(N_IMAGES, *spec.model.input_shape)
    labels = task.example_labels(N_IMAGES, n_classes)
    classes = n_classes if counted else None
    try:
        check_parameters(model)
        dry_run(model, images, labels, task=task, n_classes=classes)
        network = trace(model.eval(), spec.model.input_shape)
        half = {name: tuple(range(max(size // 2, 1))) for name, size in network.group_set.sizes.items()}
        compact, _ = checked_apply(model, network.group_set, Plan(kept=half), images)
        dry_run(compact, images, labels, task=task, n_classes=classes)
    except (ModelError, SurgeryError) as error:
        raise _located(loaded, ("model", "name"), error) from error
    except Exception as error:  # the user's code may raise anything, wherever it is run
        wrong = ModelError(f"the model cannot be traced or cut: {said(error)}")
        raise _located(loaded, ("model", "name"), wrong) from error
    return network


def try_out(loaded: LoadedSpec, images: Tensor, labels: Tensor, *, n_classes: int) -> None:
    """Refuse a spec's network that cannot be trained on the first images of its data.

    Raises
    ------
    SpecError
        At the place of the model.
    """
    with torch.random.fork_rng(devices=[]):
        model = _built(loaded, n_classes)
    try:
        check_parameters(model)
        dry_run(model, images, labels, task=open_task(loaded.spec.task), n_classes=n_classes)
    except ModelError as error:
        raise _located(loaded, ("model", "name"), error) from error


def _built(loaded: LoadedSpec, n_classes: int) -> nn.Module:
    """The spec's network with its weights, where it has any that need no download."""
    spec, base_dir = loaded.spec.model, base_directory(loaded)
    try:
        model = build_model(spec, n_classes=n_classes, base_dir=base_dir)
    except ModelError as error:
        raise _located(loaded, ("model", "name"), error) from error
    if spec.weights is None:
        return model
    try:
        if spec.weights.startswith(TORCHVISION):
            names = (text.removeprefix(TORCHVISION) for text in (spec.name, spec.weights))
            check_published(*names, n_classes=n_classes)
        else:
            load_weights(model, Path(base_dir) / expand_path(spec.weights))
    except ModelError as error:
        raise _located(loaded, ("model", "weights"), error) from error
    return model


def _located(loaded: LoadedSpec, place: tuple[str, ...], error: Exception) -> SpecError:
    return SpecError([problem_at(loaded, place, str(error))])
