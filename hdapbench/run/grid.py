"""Spec + registry -> the trials of its grid, with every semantic problem reported at its line. Imports no torch."""

from __future__ import annotations

import hashlib
import json
import platform
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic_core import PydanticSerializationError

from hdapbench.errors import BrokenMethodError, DataError, MethodError, SpecError, SpecProblem
from hdapbench.files import expand_path, file_hash
from hdapbench.method.registry import MethodRegistry
from hdapbench.run.contents import images_hash
from hdapbench.runtimes.host import read_host
from hdapbench.spec import (
    FleetSpec,
    LoadedSpec,
    RecordedFleetSpec,
    Spec,
    context_hash,
    dataset_group,
    parse_target,
    problem_at,
)
from hdapbench.spec.code import code_hash, plugin_code
from hdapbench.spec.fleet_kinds import GROUP as FLEET_KINDS
from hdapbench.tasks.device import kind_of
from hdapbench.trial import DENSE, NUMBERS, Trial

UNNAMED_IMAGES = frozenset({"9bdcd7aa37aed2fc", "4fc64842c4c91315", "e3cdc427cd870cc4", "1aafedd98eb35ae6"})
"""Archives of the shipped specs: their trials were stored before ids named images, and keep their ids."""
_FILES = {("model", "weights"): "weights", ("base", "teacher", "weights"): "teacher"}
"""Place of a file of weights in a spec -> what trial ids call its content."""


def fleet_hash(fleet: FleetSpec) -> str:
    """Sixteen hexadecimal digits of everything in a fleet's spec but its name, and what no number depends on."""
    content = fleet.model_dump(mode="json", exclude={"name", *fleet.not_in_ids})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def named_by_content(loaded: LoadedSpec) -> Spec:
    """Spec whose fleets name their files by content: what its hash, its fleets' hashes and its boards go by.

    Raises
    ------
    SpecError
        With every fleet's file that is not there.
    """
    fleets: list[FleetSpec] = []
    problems = []
    for number, fleet in enumerate(loaded.spec.fleets):
        place = ("fleets", number, fleet.file_key or "kind")
        try:
            name = None if fleet.file is None else file_hash(resolve_path(loaded, fleet.file))
            fleets.append(fleet if name is None else fleet.with_file(f"sha256:{name[:16]}"))
        except OSError:
            path = resolve_path(loaded, str(fleet.file))
            fix = "paths start from the spec's folder"
            if isinstance(fleet, RecordedFleetSpec):
                fix += f"; to make it: hdapbench fleet ask {loaded.source} -o job.zip"
            problems.append(problem_at(loaded, place, f"there is no file '{path}'; {fix}"))
        except DataError as error:
            problems.append(problem_at(loaded, place, str(error)))
    if problems:
        raise SpecError(problems)
    return loaded.spec.model_copy(update={"fleets": tuple(fleets)})


def plan_trials(loaded: LoadedSpec, registry: MethodRegistry, *, cache_dir: Path | None = None) -> tuple[Trial, ...]:
    """Trials of a spec: the dense reference in every seed's session per fleet, then method x target x fleet x seed.

    A method whose code cannot be used has trials too: each becomes a row that says why, and the others run.

    Parameters
    ----------
    loaded
        The spec and where it came from.
    registry
        The methods, those of the spec's plug-ins included.
    cache_dir
        Where hashes of images are kept, so that they are read only once.

    Raises
    ------
    SpecError
        With every unknown method, wrong parameter and missing file of the spec.
    """
    spec = loaded.spec
    problems = _method_problems(loaded, registry)
    weights = weights_paths(loaded)
    for place, path in weights.items():
        if not path.is_file():
            problems.append(problem_at(loaded, place, f"there is no file '{path}'"))
    if problems:
        raise SpecError(problems)

    named = named_by_content(loaded)
    context = context_hash(
        spec.model_copy(update={"device": kind_of(spec.device)}),
        {_FILES[place]: file_hash(path) for place, path in weights.items()},
    )
    shared = _sources(loaded, cache_dir)
    trials = []
    for fleet in named.fleets:
        common = {
            "benchmark": spec.name,
            "context": context,
            "fleet": fleet.name,
            "fleet_hash": fleet_hash(fleet),
            "sources": shared | _fleet_sources(fleet),
        }
        trials += [Trial(**common, method=DENSE, target=None, seed=seed) for seed in spec.seeds]
        trials += [
            Trial(
                **common,
                method=method.name,
                parameters=_resolved(registry, method.name, parameters),
                target=target.text,
                seed=seed,
                code=registry.code(method.name),
                size_of="stored" if "size" in parse_target(target.text).kinds else None,
            )
            for seed in spec.seeds
            for target in spec.targets
            for method in spec.methods
            if (method.targets is None or target in method.targets) and (method.seeds is None or seed in method.seeds)
            for parameters in method.grid()
        ]
    return tuple({trial.id: trial for trial in trials}.values())  # what the grid names twice runs once


def _sources(loaded: LoadedSpec, cache_dir: Path | None) -> dict[str, str]:
    """`Trial.sources` that all trials of a spec share."""
    spec = loaded.spec
    images = None
    if spec.data.path is not None:
        with suppress(DataError):  # a variable that is not set: whoever reads the data says so
            images = images_hash(spec.data.name, resolve_path(loaded, spec.data.path), cache_dir=cache_dir)
    found = {
        "program": str(NUMBERS) if NUMBERS else None,
        "model": code_hash(spec.model.name, base_directory(loaded)),
        "teacher": code_hash(spec.base.teacher.name, base_directory(loaded)) if spec.base.teacher else None,
        "data set": plugin_code(dataset_group(spec.data.name), spec.data.name),
        "images": None if images in UNNAMED_IMAGES else images,
    }
    return {name: value for name, value in found.items() if value is not None}


def _fleet_sources(fleet: FleetSpec) -> dict[str, str]:
    """`Trial.sources` of trials on a fleet."""
    host = f"{platform.node()}|{read_host().processor}" if fleet.on_this_host else None
    code = plugin_code(FLEET_KINDS, fleet.kind)
    found = {"fleet's kind": code, "host": host and hashlib.sha256(host.encode()).hexdigest()[:16]}
    return {name: value for name, value in found.items() if value is not None}


def register_plugins(loaded: LoadedSpec, registry: MethodRegistry, extra_files: tuple[str, ...] = ()) -> None:
    """Add the method files that the spec and the command line name; of broken ones the registry keeps the reason.

    Raises
    ------
    SpecError
        When a file of the spec is absent, or holds a method whose name is taken.
    MethodError
        When a file of the command line is.
    """
    problems = []
    for number, plugin in enumerate(loaded.spec.plugins):
        try:
            registry.try_file(resolve_path(loaded, plugin))
        except MethodError as error:
            problems.append(problem_at(loaded, ("plugins", number), str(error)))
    if problems:
        raise SpecError(problems)
    for file in extra_files:
        registry.try_file(Path(file))


def resolve_path(loaded: LoadedSpec, path: str) -> Path:
    """Path of a spec with ``${VAR}`` and ``~`` expanded, relative to the spec's folder."""
    return base_directory(loaded) / expand_path(path)


def base_directory(loaded: LoadedSpec) -> Path:
    """Folder that relative paths of a spec start from: the one the spec lies in."""
    return Path(loaded.source).resolve().parent


def weights_paths(loaded: LoadedSpec) -> dict[tuple[str, ...], Path]:
    """Files of weights that a spec names, by their place in it; published weights are no files."""
    teacher = loaded.spec.base.teacher
    named = {
        ("model", "weights"): loaded.spec.model.weights,
        ("base", "teacher", "weights"): teacher.weights if teacher is not None else None,
    }
    return {
        place: resolve_path(loaded, weights)
        for place, weights in named.items()
        if weights is not None and not weights.startswith("torchvision:")
    }


def _resolved(registry: MethodRegistry, name: str, parameters: dict[str, Any]) -> dict[str, Any]:
    """Parameters with defaults filled in; as they stand in the spec where those cannot be: its trials fail."""
    try:
        return registry.resolve(name, parameters).model_dump(mode="json")
    except (BrokenMethodError, PydanticSerializationError):
        return parameters


def _method_problems(loaded: LoadedSpec, registry: MethodRegistry) -> list[SpecProblem]:
    problems = []
    for number, method in enumerate(loaded.spec.methods):
        try:
            registry.get(method.name)
        except BrokenMethodError:
            continue  # its trials fail with the reason; the other methods are none the worse for it
        except MethodError as error:
            problems.append(problem_at(loaded, ("methods", number), str(error)))
            continue
        seen = set()
        for parameters in method.grid():
            for field, message in registry.parameter_problems(method.name, parameters):
                if (field, message) not in seen:
                    seen.add((field, message))
                    problems.append(problem_at(loaded, ("methods", number, "parameters", field), message))
    return problems
