"""Spec + registry -> the trials of its grid, with every semantic problem reported at its line. Imports no torch."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic_core import PydanticSerializationError

from hdapbench.errors import BrokenMethodError, MethodError, SpecError, SpecProblem
from hdapbench.files import expand_path
from hdapbench.method.registry import MethodRegistry
from hdapbench.spec import FleetSpec, LoadedSpec, context_hash, problem_at
from hdapbench.trial import DENSE, Trial


def fleet_hash(fleet: FleetSpec) -> str:
    """Sixteen hexadecimal digits of everything in a fleet's spec but its name."""
    content = fleet.model_dump(mode="json", exclude={"name"})
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def file_hash(path: Path) -> str:
    """SHA-256 of a file, as 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def plan_trials(loaded: LoadedSpec, registry: MethodRegistry) -> tuple[Trial, ...]:
    """Trials of a spec: one dense reference per fleet, then method x target x fleet x seed.

    A method whose code cannot be used has trials too: each becomes a row that says why, and the others run.

    Raises
    ------
    SpecError
        With every unknown method, wrong parameter and missing file of the spec.
    """
    spec = loaded.spec
    problems = _method_problems(loaded, registry)
    weights = _weights_path(loaded)
    if weights is not None and not weights.is_file():
        problems.append(problem_at(loaded, ("model", "weights"), f"there is no file '{weights}'"))
    if problems:
        raise SpecError(problems)

    extra = {"weights": file_hash(weights)} if weights is not None else {}
    context = context_hash(spec, extra)
    trials = []
    for fleet in spec.fleets:
        common = {"benchmark": spec.name, "context": context, "fleet": fleet.name, "fleet_hash": fleet_hash(fleet)}
        trials.append(Trial(**common, method=DENSE, target=None, seed=0))
        trials += [
            Trial(
                **common,
                method=method.name,
                parameters=_resolved(registry, method.name, parameters),
                target=target.text,
                seed=seed,
                code=registry.code(method.name),
            )
            for seed in spec.seeds
            for target in spec.targets
            for method in spec.methods
            if method.targets is None or target in method.targets
            for parameters in method.grid()
        ]
    return tuple({trial.id: trial for trial in trials}.values())  # what the grid names twice runs once


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


def _weights_path(loaded: LoadedSpec) -> Path | None:
    weights = loaded.spec.model.weights
    if weights is None or weights.startswith("torchvision:"):
        return None
    return resolve_path(loaded, weights)


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
