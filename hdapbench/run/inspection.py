"""What a spec's model allows: costs, groups, and which targets are in reach. Cached, so that torch stays out."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hdapbench import __version__
from hdapbench.errors import DataError, SpecError, SpecProblem
from hdapbench.run.contents import images_hash, read_json, write_json
from hdapbench.run.grid import base_directory, resolve_path, weights_paths
from hdapbench.run.requirements import unmet
from hdapbench.spec import LoadedSpec, LocalFleetSpec, parse_target, problem_at
from hdapbench.spec.code import OF_PACKAGES
from hdapbench.spec.data import EMBEDDED
from hdapbench.tasks.device import kind_of

INSPECTION = 4
"""Raised whenever more is looked at, so that what was cached before is not taken for it."""

DEFAULT_CLASSES = 10
ASSUMED_CLASSES = {"tiny-imagenet": 200, "imagenet": 1000, "speech-commands": 35, "yolo": 80}
"""Classes of sets that are not there to be counted; ``yolo`` as in COCO, the others `DEFAULT_CLASSES`."""


@dataclass(frozen=True)
class TargetCheck:
    """A FLOPs target of the spec, and whether the model can meet it."""

    text: str
    flops: int
    reachable: bool


@dataclass(frozen=True)
class Inspection:
    """Costs and groups of a spec's model, and its targets.

    ``product_flops`` are those between activations, which ``flops`` hold unless the spec leaves them out. ``frozen``
    maps each group that cannot be pruned to its reason, ``widths`` are the channels of the others.
    ``classes_are_counted`` is False when the data is not there: then ``n_classes`` is what the set usually has, and
    costs of the last layer depend on it. ``problems`` are those of the machine and the files around the spec.
    """

    flops: int
    params: int
    product_flops: int
    counts_products: bool
    minimum_flops: int
    n_groups: int
    widths: Sequence[int]
    frozen: dict[str, str]
    targets: tuple[TargetCheck, ...]
    n_classes: int
    classes_are_counted: bool
    problems: tuple[SpecProblem, ...]

    def refuse(self) -> None:
        """Raise `SpecError` with all problems, if there are any."""
        if self.problems:
            raise SpecError(self.problems)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def inspect_model(loaded: LoadedSpec, *, cache_dir: Path) -> Inspection:
    """Inspection of a spec's model, which goes a run's whole way once with random images; no data are read.

    What was found is cached by what it depends on: a second call imports no torch.

    Raises
    ------
    SpecError
        At the place of the model or its weights, when a run would refuse or stumble on them; with what else is wrong.
    """
    spec = loaded.spec
    n_classes, counted = count_classes(loaded, cache_dir=cache_dir)
    try:
        found = _found(loaded, n_classes, counted=counted, cache_dir=cache_dir)
    except SpecError as error:
        raise SpecError([*error.problems, *unmet(loaded, None, cache_dir=cache_dir)]) from error
    # Bit-widths lower size and cycles without a change of FLOPs: whether such a target is in reach, its method says.
    targets = [part for t in spec.targets for part in parse_target(t.text).parts if part.kind == "flops"]
    limits = [target.resolve(found["flops"]) for target in targets]
    return Inspection(
        **found,
        n_classes=n_classes,
        classes_are_counted=counted,
        targets=tuple(
            TargetCheck(str(target), limit, limit >= found["minimum_flops"])
            for target, limit in zip(targets, limits, strict=True)
        ),
        problems=tuple(unmet(loaded, found["widths"], cache_dir=cache_dir)),
    )


def _found(loaded: LoadedSpec, n_classes: int, *, counted: bool, cache_dir: Path) -> dict[str, Any]:
    """What the dry pass finds out, cached."""
    spec = loaded.spec
    about: list[Any] = [INSPECTION, spec.task, n_classes, counted, __version__, *_files(loaded)]
    about += [part.model_dump(mode="json") for part in (spec.model, spec.base, spec.fine_tune)]
    about += [
        kind_of(spec.device),
        spec.count_products,
        sorted({kind for t in spec.targets for kind in parse_target(t.text).kinds}),
    ]
    about += [fleet.model_dump(mode="json") for fleet in spec.fleets if isinstance(fleet, LocalFleetSpec)]
    path = cache_dir / "inspection" / f"{_key(about)}.json"
    # Code that the user names may change under the same name: only models that ship with packages are cached.
    names = [network.name.partition(":") for network in (spec.model, spec.base.teacher) if network is not None]
    cacheable = all(not separator or source in OF_PACKAGES for source, separator, _ in names)
    found = read_json(path) if cacheable else None
    if not isinstance(found, dict) or found.pop("sum", None) != _key([found]):  # absent or damaged
        found = _trace(loaded, n_classes, counted=counted)
        if cacheable:
            write_json(path, found | {"sum": _key([found])})
    return found


def count_classes(loaded: LoadedSpec, *, cache_dir: Path) -> tuple[int, bool]:
    """Classes of a spec's data, which its classifier depends on, and whether they were counted rather than assumed.

    Counts are cached by the images' content.

    Raises
    ------
    SpecError
        When the data are there and cannot be what the spec says.
    """
    data = loaded.spec.data
    assumed = ASSUMED_CLASSES.get(data.name, DEFAULT_CLASSES)
    if data.name in EMBEDDED or data.path is None:
        return assumed, data.name in EMBEDDED
    try:
        source = resolve_path(loaded, data.path)
    except DataError:
        return assumed, False
    if not source.exists():
        return assumed, False
    try:
        images = images_hash(data.name, source, cache_dir=cache_dir)
        path = cache_dir / "inspection" / f"classes-{_key([INSPECTION, data.name, images])}.json"
        counted = read_json(path)
        if isinstance(counted, int) and counted > 0:
            return counted, True
        from hdapbench.data import count_classes as count

        found = count(data.name, source)
    except DataError as error:
        raise SpecError([problem_at(loaded, ("data", "path"), str(error))]) from error
    if found is None:
        return assumed, False
    write_json(path, found)
    return found, True


def _key(content: list[Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _files(loaded: LoadedSpec) -> list[Any]:
    """What the files behind a model are known by: a yaml of ultralytics by its hash, weights by size and time."""
    spec = loaded.spec.model
    path = base_directory(loaded) / spec.name.removeprefix("ultralytics:")
    code = hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None
    found: list[Any] = [code]
    for weights in weights_paths(loaded).values():
        status = weights.stat() if weights.is_file() else None
        found += [str(weights), *((status.st_size, status.st_mtime_ns) if status else ())]
    return found


def _trace(loaded: LoadedSpec, n_classes: int, *, counted: bool) -> dict[str, Any]:
    import torch

    from hdapbench.run.dry_pass import dry_pass

    torch.set_num_threads(loaded.spec.threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of what is tried out; a run shows those of what it does
        network = dry_pass(loaded, n_classes=n_classes, counted=counted)
    return {
        "flops": network.cost.dense.flops,
        "params": network.cost.dense.params,
        "product_flops": network.cost.dense.product_flops,
        "counts_products": network.cost.counts_products,
        "minimum_flops": network.cost.minimum_flops,
        "n_groups": len(network.group_set),
        "widths": [int(size) for size in network.cost.sizes],
        "frozen": {group.name: group.reason for group in network.group_set.frozen},
    }
