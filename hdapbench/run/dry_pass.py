"""A spec's network on the whole way of a run with one batch: traced, cut by one plan, trained, quantised, exported.

Quantisation is looked at under targets that limit it, exports where devices of this host run models.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn

from hdapbench.bench.network import Network, trace
from hdapbench.bench.quantization import Quantizer
from hdapbench.bench.weights import WeightStore
from hdapbench.errors import MissingExtraError, ModelError, PlanError, SpecError, SurgeryError
from hdapbench.fleet.local.device import devices_of
from hdapbench.models import build_model, check_published
from hdapbench.plan import Plan
from hdapbench.prune.surgery import checked_apply
from hdapbench.quant.deploy.c99 import c_code
from hdapbench.quant.deploy.integer import IntegerModel
from hdapbench.quant.deploy.report import deploy
from hdapbench.run.grid import base_directory
from hdapbench.runtimes.base import find_runtime
from hdapbench.runtimes.program_file import write_model
from hdapbench.spec import LoadedSpec, LocalFleetSpec, Recipe, parse_target, problem_at
from hdapbench.tasks.base import TORCHVISION, fill, given_state, given_teacher
from hdapbench.tasks.device import lack_of, resolved
from hdapbench.tasks.dry_run import N_IMAGES, Examples, dry_run, dry_training, said
from hdapbench.tasks.open import open_task
from hdapbench.tasks.stepper import Setting
from hdapbench.tasks.teacher import check_teacher

BIT_TARGETS = frozenset({"size", "mpic", "ne16", "ram", "flash"})
"""Kinds of targets that limit what bit-widths change."""


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
    _try_teacher(loaded, images, n_classes)
    examples = Examples(images, task.example_labels(N_IMAGES, n_classes))
    classes = n_classes if counted else None
    with _refused(loaded, ("model", "name"), "the model cannot be traced or cut"):
        dry_run(model, images, examples.labels, task=task, n_classes=classes)
        network = trace(
            model.eval(), spec.model.input_shape, count_products=spec.count_products, attention=spec.model.attention
        )
        half = {name: tuple(range(max(size // 2, 1))) for name, size in network.group_set.sizes.items()}
        compact, _ = checked_apply(model, network.group_set, Plan(kept=half), images)
        dry_run(compact, images, examples.labels, task=task, n_classes=classes)
        if lack_of(spec.device) is None:
            setting = Setting(task, resolved(spec.device), teacher=model)
            dry_training(compact, examples, setting=setting, recipes=_recipes(loaded))
    for number, target in enumerate(spec.targets):
        kinds = parse_target(target.text).kinds
        if kinds & BIT_TARGETS:
            with _refused(loaded, ("targets", number), "the model cannot be quantised"):
                integer = _quantize(network, compact, Plan(kept=half), examples)
                if kinds & {"ram", "flash"}:
                    c_code(integer, loaded.spec.name)
    for number, fleet in enumerate(spec.fleets):
        if isinstance(fleet, LocalFleetSpec):
            with _refused(loaded, ("fleets", number), "the model cannot be exported"):
                _export(compact, fleet, spec.model.input_shape)
    return network


def _try_teacher(loaded: LoadedSpec, images: Tensor, n_classes: int) -> None:
    """Refuse a teacher of the base model that does not give what the base model learns from."""
    spec, place = loaded.spec, ("base", "teacher")
    with _refused(loaded, place, "the teacher does not run"):
        base_dir = base_directory(loaded)
        teacher, _ = given_teacher(spec.model, spec.base, None, n_classes=n_classes, base_dir=base_dir)
        if teacher is not None and spec.task == "classification":
            check_teacher(teacher, images, n_classes)


def _recipes(loaded: LoadedSpec) -> list[Recipe]:
    """Those that a run trains by."""
    spec = loaded.spec
    is_given = spec.model.weights is not None and spec.base.start is None
    recipes: list[Recipe] = [spec.fine_tune] if is_given else [spec.base, spec.fine_tune]
    return [recipe for recipe in recipes if recipe.epochs > 0]


def _quantize(network: Network, compact: nn.Module, plan: Plan, examples: Examples) -> IntegerModel:
    """Bring a plan of 8 bits to whole numbers, as is done with the plans of methods."""
    quantizer = Quantizer(network, examples, WeightStore(network.model, Path()))
    graph = quantizer.fold(compact).graph
    bits = {layer: (8,) * graph.by_name[layer].shape[0] for layer in graph.layers}
    fixed, folded = quantizer.quantize(compact, plan.model_copy(update={"weight_bits": bits}))
    return deploy(fixed, folded, examples.batches(N_IMAGES, shuffle_seed=None)).model


def _export(compact: nn.Module, fleet: LocalFleetSpec, input_shape: tuple[int, int, int]) -> None:
    """Write the model as the devices of a fleet on this host take it."""
    runtimes = {device.runtime.runtime: device.runtime for device in devices_of(fleet)}
    with TemporaryDirectory(prefix="hdapbench-") as folder:
        for name, runtime in runtimes.items():
            if find_spec(find_runtime(name).package) is not None:  # or the fleet is refused for that
                write_model(compact, input_shape, Path(folder, name), runtime=runtime)


@contextmanager
def _refused(loaded: LoadedSpec, place: tuple[str | int, ...], what: str) -> Iterator[None]:
    """Errors of a block as a problem of the spec at a place; those that are no errors of ours say what failed."""
    try:
        yield
    except (ModelError, SurgeryError, PlanError, MissingExtraError) as error:
        raise _located(loaded, place, error) from error
    except Exception as error:  # the user's code may raise anything, wherever it is run
        raise _located(loaded, place, ModelError(f"{what}: {said(error)}")) from error


def try_out(loaded: LoadedSpec, images: Tensor, labels: Tensor, *, n_classes: int) -> None:
    """Refuse a spec's network that cannot be trained on the first images of its data.

    Raises
    ------
    SpecError
        At the place of the model.
    """
    with torch.random.fork_rng(devices=[]):
        model = _built(loaded, n_classes)
    with _refused(loaded, ("model", "name"), "the model cannot be trained"):
        dry_run(model, images, labels, task=open_task(loaded.spec.task), n_classes=n_classes)


def _built(loaded: LoadedSpec, n_classes: int) -> nn.Module:
    """The spec's network with its weights, where it has any that need no download."""
    spec, recipe, base_dir = loaded.spec.model, loaded.spec.base, base_directory(loaded)
    try:
        model = build_model(spec, n_classes=n_classes, base_dir=base_dir)
    except ModelError as error:
        raise _located(loaded, ("model", "name"), error) from error
    if spec.weights is None:
        return model
    try:
        if spec.weights.startswith(TORCHVISION):
            names = (text.removeprefix(TORCHVISION) for text in (spec.name, spec.weights))
            check_published(*names, n_classes=None if recipe.start else n_classes)
        else:
            state = given_state(spec, n_classes=None, base_dir=base_dir)
            fill(model, spec, recipe, state, n_classes=n_classes, base_dir=base_dir)
    except ModelError as error:
        raise _located(loaded, ("model", "weights"), error) from error
    return model


def _located(loaded: LoadedSpec, place: tuple[str | int, ...], error: Exception) -> SpecError:
    return SpecError([problem_at(loaded, place, str(error))])
