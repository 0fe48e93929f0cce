"""What a spec's model allows: costs, groups, and which targets are in reach. Cached, so that torch stays out."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from hdapbench import __version__
from hdapbench.grid import base_directory, resolve_path
from hdapbench.spec import LoadedSpec, parse_flops

ASSUMED_CLASSES = 10
"""Classes of the digits, of CIFAR-10, and of archives, whose folders are not counted here."""


@dataclass(frozen=True)
class TargetCheck:
    """A FLOPs target of the spec, and whether the model can meet it."""

    text: str
    flops: int
    reachable: bool


@dataclass(frozen=True)
class Inspection:
    """Costs and groups of a spec's model, and its targets.

    ``frozen`` maps each group that cannot be pruned to its reason.
    """

    flops: int
    params: int
    minimum_flops: int
    n_groups: int
    frozen: dict[str, str]
    targets: tuple[TargetCheck, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


def inspect_model(loaded: LoadedSpec, *, cache_dir: Path) -> Inspection:
    """Inspection of a spec's model, without reading data or weights and without training.

    The trace is cached by the model's part of the spec: a second call imports no torch.

    Raises
    ------
    ModelError
        When the model cannot be built or traced.
    """
    spec = loaded.spec
    n_classes = _n_classes(loaded)
    key_content = [spec.model.model_dump(mode="json", exclude={"weights"}), n_classes, __version__]
    key = hashlib.sha256(json.dumps(key_content, sort_keys=True).encode()).hexdigest()[:16]
    path = cache_dir / "inspection" / f"{key}.json"
    # Code that the user names may change under the same name: only models that ship with packages are cached.
    cacheable = ":" not in spec.model.name or spec.model.name.startswith(("torchvision:", "ultralytics:"))
    if cacheable and path.exists():
        found = json.loads(path.read_text())
    else:
        found = _trace(loaded, n_classes)
        if cacheable:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(found))
    targets = [parse_flops(target.flops) for target in spec.targets]
    limits = [target.resolve(found["flops"]) for target in targets]
    return Inspection(
        **found,
        targets=tuple(
            TargetCheck(str(target), limit, limit >= found["minimum_flops"])
            for target, limit in zip(targets, limits, strict=True)
        ),
    )


def _n_classes(loaded: LoadedSpec) -> int:
    """Classes of the data, from the folders of an unpacked set; the classifier alone depends on them."""
    data = loaded.spec.data
    if data.name == "imagefolder" and data.path is not None:
        train = resolve_path(loaded, data.path) / "train"
        if train.is_dir():
            return sum(entry.is_dir() for entry in train.iterdir())
    return ASSUMED_CLASSES


def _trace(loaded: LoadedSpec, n_classes: int) -> dict[str, Any]:
    import torch

    from hdapbench.models import build_model
    from hdapbench.network import trace

    torch.set_num_threads(loaded.spec.threads)
    spec = loaded.spec.model
    network = trace(build_model(spec, n_classes=n_classes, base_dir=base_directory(loaded)), spec.input_shape)
    return {
        "flops": network.cost.dense.flops,
        "params": network.cost.dense.params,
        "minimum_flops": network.cost.minimum_flops,
        "n_groups": len(network.group_set),
        "frozen": {group.name: group.reason for group in network.group_set.frozen},
    }
