"""What a spec's model allows: costs, groups, and which targets are in reach. Cached, so that torch stays out."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hdapbench import __version__
from hdapbench.errors import FleetError, HdapbenchError, SpecError
from hdapbench.fleet.recorded.fleet import RecordedFleet
from hdapbench.run.contents import read_json, write_json
from hdapbench.run.grid import base_directory, resolve_path
from hdapbench.spec import LoadedSpec, RecordedFleetSpec, parse_target, problem_at

INSPECTION = 2
"""Raised whenever more is looked at, so that what was cached before is not taken for it."""

WIDTHS = re.compile(r"w\d+(-\d+)*")
"""How `hdapbench.bench.network.Network.workloads` names the plans that a run measures."""

EMBEDDED = frozenset({"digits", "digit-scenes"})
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

    ``frozen`` maps each group that cannot be pruned to its reason. ``classes_are_counted`` is False when the data is
    not there: then ``n_classes`` is what the set usually has, and costs of the last layer depend on it.
    """

    flops: int
    params: int
    minimum_flops: int
    n_groups: int
    frozen: dict[str, str]
    targets: tuple[TargetCheck, ...]
    n_classes: int
    classes_are_counted: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def inspect_model(loaded: LoadedSpec, *, cache_dir: Path) -> Inspection:
    """Inspection of a spec's model, which goes a run's whole way once with random images; no data are read.

    What was found is cached by the model's part of the spec: a second call imports no torch.

    Raises
    ------
    SpecError
        At the place of the model or its weights, when a run would refuse or stumble on them; at that of a recorded
        fleet, when it has none of the plans that a run would measure.
    """
    spec = loaded.spec
    _refuse_recordings(loaded)
    n_classes, counted = count_classes(loaded, cache_dir=cache_dir)
    model = spec.model.model_dump(mode="json")
    key = _key([INSPECTION, model, spec.task, n_classes, counted, __version__, *_files(loaded)])
    path = cache_dir / "inspection" / f"{key}.json"
    # Code that the user names may change under the same name: only models that ship with packages are cached.
    cacheable = ":" not in spec.model.name or spec.model.name.startswith(("torchvision:", "ultralytics:"))
    found = read_json(path) if cacheable else None
    if not isinstance(found, dict) or found.pop("sum", None) != _key([found]):  # absent or damaged
        found = _trace(loaded, n_classes, counted=counted)
        if cacheable:
            write_json(path, found | {"sum": _key([found])})
    # Bit-widths lower size and cycles without a change of FLOPs: whether such a target is in reach, its method says.
    targets = [parse_target(target.text) for target in spec.targets if target.flops is not None]
    limits = [target.resolve(found["flops"]) for target in targets]
    return Inspection(
        **found,
        n_classes=n_classes,
        classes_are_counted=counted,
        targets=tuple(
            TargetCheck(str(target), limit, limit >= found["minimum_flops"])
            for target, limit in zip(targets, limits, strict=True)
        ),
    )


def _refuse_recordings(loaded: LoadedSpec) -> None:
    """Raise `SpecError` for recorded fleets that cannot time what a run measures: plans named after their widths."""
    problems = []
    for number, fleet in enumerate(loaded.spec.fleets):
        if not isinstance(fleet, RecordedFleetSpec):
            continue
        place = ("fleets", number, "path")
        try:
            plans = RecordedFleet(fleet.located(base_directory(loaded))).plans
        except FleetError as error:
            problems.append(problem_at(loaded, place, str(error)))
            continue
        if not any(map(WIDTHS.fullmatch, plans)):
            some = ", ".join(repr(plan) for plan in plans[:3]) + (", ..." if len(plans) > 3 else "")
            message = (
                f"a recorded fleet has latencies of its plans alone ({some}), and a run measures new ones; estimate "
                f"these with: hdapbench fleet estimate {fleet.path}; or name a simulated or a local fleet"
            )
            problems.append(problem_at(loaded, place, message))
    if problems:
        raise SpecError(problems)


def count_classes(loaded: LoadedSpec, *, cache_dir: Path) -> tuple[int, bool]:
    """Classes of a spec's data, which its classifier depends on, and whether they were counted rather than assumed.

    Counts of a file are cached by its size and time; in a folder classes may come without its time changing.

    Raises
    ------
    DataError
        When the data are there and cannot be what the spec says.
    """
    data = loaded.spec.data
    assumed = ASSUMED_CLASSES.get(data.name, DEFAULT_CLASSES)
    if data.name in EMBEDDED or data.path is None:
        return assumed, data.name in EMBEDDED
    try:
        source = resolve_path(loaded, data.path)
        status = source.stat()
    except (OSError, HdapbenchError):
        return assumed, False
    content = [data.name, str(source), status.st_size, status.st_mtime_ns]
    path = cache_dir / "inspection" / f"classes-{_key(content)}.json"
    counted = read_json(path)
    if isinstance(counted, int) and counted > 0 and source.is_file():
        return counted, True
    from hdapbench.data import count_classes as count

    found = count(data.name, source)
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
    if spec.weights is None or spec.weights.startswith("torchvision:"):
        return [code]
    weights = resolve_path(loaded, spec.weights)
    status = weights.stat() if weights.is_file() else None
    return [code, str(weights), *((status.st_size, status.st_mtime_ns) if status else ())]


def _trace(loaded: LoadedSpec, n_classes: int, *, counted: bool) -> dict[str, Any]:
    import torch

    from hdapbench.run.dry_pass import dry_pass

    torch.set_num_threads(loaded.spec.threads)
    network = dry_pass(loaded, n_classes=n_classes, counted=counted)
    return {
        "flops": network.cost.dense.flops,
        "params": network.cost.dense.params,
        "minimum_flops": network.cost.minimum_flops,
        "n_groups": len(network.group_set),
        "frozen": {group.name: group.reason for group in network.group_set.frozen},
    }
