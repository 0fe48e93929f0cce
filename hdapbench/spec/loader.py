"""Spec files -> Spec, with every problem reported at once and at its place."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from hdapbench.errors import SpecError, SpecProblem
from hdapbench.spec.base import did_you_mean
from hdapbench.spec.data import dataset_names
from hdapbench.spec.document import Document, Path_, parse_scalar, path_text, read_document, set_value
from hdapbench.spec.fleet_kinds import BUILT_IN, GROUP, AnyFleetSpec, fleet_kind
from hdapbench.spec.fleets import FleetSpec
from hdapbench.spec.plugins import plugin_names
from hdapbench.spec.schema import Spec

Checked = TypeVar("Checked")


@dataclass(frozen=True)
class LoadedSpec:
    """A valid spec, the file it came from, and where its parts stand there."""

    spec: Spec
    source: str
    document: Document
    overridden: Mapping[Path_, str]


def load_spec(path: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """Spec of a YAML file; see `load`."""
    return load(path, overrides).spec


def load(path: str | Path, overrides: Sequence[str] = ()) -> LoadedSpec:
    """Spec of a YAML file, with the places of its parts.

    Parameters
    ----------
    path
        The YAML file.
    overrides
        ``key=value`` texts such as ``fleets[0].n_devices=8``; values are read as YAML.

    Raises
    ------
    SpecError
        With every problem found.
    """
    spec, source = _validated(path, overrides, Spec.model_validate, Spec)
    return LoadedSpec(spec, source.name, source.document, source.overridden)


def load_fleets(path: str | Path, overrides: Sequence[str] = ()) -> tuple[FleetSpec, ...]:
    """Fleets of a YAML file: of a whole spec, or the one that the file is; relative paths start from its folder.

    Parameters
    ----------
    path
        A spec with ``fleets``, or a file that holds one fleet's keys.
    overrides
        ``key=value`` texts such as ``n_devices=8``.

    Raises
    ------
    SpecError
        With every problem found.
    """
    folder = Path(path).resolve().parent
    if "fleets" in read_document(Path(path)).values:
        return tuple(fleet.located(folder) for fleet in load(path, overrides).spec.fleets)
    one: TypeAdapter[FleetSpec] = TypeAdapter(AnyFleetSpec)
    return (_validated(path, overrides, one.validate_python, *BUILT_IN.values())[0].located(folder),)


def _validated(
    path: str | Path, overrides: Sequence[str], validate: Callable[[Any], Checked], *models: type[BaseModel]
) -> tuple[Checked, _Source]:
    """What a file holds, checked, and where it stands; ``models`` are what it may be, for hints on unknown keys."""
    document = read_document(Path(path))
    problems = list(document.problems)
    overridden: dict[Path_, str] = {}
    for text in overrides:
        try:
            key, value = parse_override(text)
            set_value(document.values, key, value)
            overridden[key] = text
        except ValueError as error:
            problems.append(SpecProblem(f"--set {text}", 0, 0, "", str(error)))
    loaded = _Source(str(path), document, overridden, models)
    problems += _unknown_data_set(loaded)
    try:
        spec = validate(document.values)
    except ValidationError as error:
        problems += [loaded.problem(details) for details in error.errors() if not _is_echo(details)]
        raise SpecError(sorted(set(problems), key=_order)) from None
    if problems:
        raise SpecError(sorted(set(problems), key=_order))
    return spec, loaded


def _unknown_data_set(source: _Source) -> list[SpecProblem]:
    """Problem of a data set that no installed package offers; stored specs may name such ones."""
    data, known = source.document.values.get("data"), dataset_names()
    name = data.get("name") if isinstance(data, dict) else None
    if not isinstance(name, str) or name in known:
        return []
    return [source.at(("data", "name"), f"unknown value {name!r}{did_you_mean(name, known)}")]


def problem_at(loaded: LoadedSpec, path: Path_, message: str) -> SpecProblem:
    """Problem at a path of a valid spec, for checks that need more than the schema."""
    return _Source(loaded.source, loaded.document, loaded.overridden).at(path, message)


def parse_override(text: str) -> tuple[Path_, Any]:
    """Path and value of ``key=value``.

    Raises
    ------
    ValueError
        When there is no key or the value is not YAML.
    """
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise ValueError("write it as key=value, such as fleets[0].n_devices=8")
    parts = [part for part in re.split(r"[.\[\]]+", key.strip()) if part]
    return tuple(int(part) if part.isdigit() else part for part in parts), parse_scalar(value)


def schema_json() -> str:
    """JSON Schema of specs, for editors; ends with a newline."""
    schema = Spec.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    methods = schema["properties"]["methods"]["items"]
    schema["properties"]["methods"]["items"] = {"anyOf": [{"type": "string"}, methods]}
    simulated = schema["$defs"]["SimulatedFleetSpec"]["properties"]
    named = schema["$defs"]["ScenarioSpec"]["properties"]["base"]
    simulated["scenario"] = {"anyOf": [{"enum": named["enum"]}, simulated["scenario"]]}
    flops = schema["$defs"]["TargetSpec"]["properties"]["flops"]
    flops["type"] = ["string", "integer"]
    return json.dumps(schema, indent=2) + "\n"


def canonical_json(spec: Spec) -> str:
    """Resolved spec as JSON with sorted keys: the same text for equal specs."""
    return json.dumps(spec.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))


def spec_hash(spec: Spec) -> str:
    """Sixteen hexadecimal digits of the resolved spec; comments, key order and written defaults do not count."""
    return hashlib.sha256(canonical_json(spec).encode()).hexdigest()[:16]


def context_hash(spec: Spec, extra: Mapping[str, str] | None = None) -> str:
    """Sixteen hexadecimal digits of what all trials of a spec share and what bears on their numbers.

    Parameters
    ----------
    spec
        The spec.
    extra
        Content hashes of files that the spec names.
    """
    shared = {"model", "task", "data", "base", "fine_tune", "budget", "threads", "device"}
    content = {"spec": spec.model_dump(mode="json", include=shared), "files": dict(extra or {})}
    if extra and "weights" in extra:
        content["spec"]["model"]["weights"] = None  # the content counts, not where it lies
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]


def _order(problem: SpecProblem) -> tuple[int, int, str, str]:
    return (problem.line, problem.column, problem.path, problem.message)


@dataclass(frozen=True)
class _Source:
    """Turns paths into located problems."""

    name: str
    document: Document
    overridden: Mapping[Path_, str]
    models: tuple[type[BaseModel], ...] = (Spec,)

    def at(self, path: Path_, message: str) -> SpecProblem:
        for key, text in self.overridden.items():
            if path[: len(key)] == key or key[: len(path)] == path:
                return SpecProblem(f"--set {text}", 0, 0, path_text(path), message)
        line, column = self.document.place(path)
        return SpecProblem(self.name, line, column, path_text(path), message)

    def problem(self, details: ErrorDetails) -> SpecProblem:
        path = self._real_path(details["loc"])
        return self.at(path, _message(details, path, self.models))

    def _real_path(self, location: tuple[int | str, ...]) -> Path_:
        """Location without the branch names that pydantic adds for unions."""
        values: Any = self.document.values
        path: list[int | str] = []
        for number, part in enumerate(location):
            inside = isinstance(values, dict) and part in values
            if inside or (isinstance(values, list) and isinstance(part, int) and part < len(values)):
                values = values[part]
            elif number < len(location) - 1 or not isinstance(values, dict):
                continue
            path.append(part)
        return tuple(path)


def _is_echo(details: ErrorDetails) -> bool:
    """Whether a list is called too short only because its entries, reported themselves, are wrong."""
    return details["type"] == "too_short" and bool(details["input"])


def _message(details: ErrorDetails, path: Path_, roots: tuple[type[BaseModel], ...]) -> str:
    """What is wrong, in the words of a spec's author."""
    mistake, value = details["type"], details["input"]
    shown = repr(value) if len(repr(value)) <= 60 else f"{repr(value)[:57]}..."
    text = details["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    context = details.get("ctx", {})
    if mistake == "extra_forbidden":
        text = f"unknown key '{path[-1]}'{did_you_mean(str(path[-1]), _known_keys(details['loc'], roots))}"
    elif mistake == "too_short":
        text = "must have at least one entry"
    elif mistake == "union_tag_not_found":
        text = "the key 'kind' is missing: simulated or recorded"
    elif mistake == "union_tag_invalid":
        allowed = context["expected_tags"].replace("'", "").split(", ")
        text = f"kind: unknown value '{context['tag']}'{did_you_mean(context['tag'], allowed)}"
    elif mistake == "missing":
        text = f"the key '{details['loc'][-1]}' is missing"
    elif mistake == "literal_error":
        allowed = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        text = f"unknown value {shown}{did_you_mean(str(value), allowed)}"
    elif mistake != "value_error":
        text = f"{shown} should be {text}" if details["msg"].startswith("Input") else f"{text} (here: {shown})"
    return text


def _known_keys(location: Path_, roots: tuple[type[BaseModel], ...]) -> list[str]:
    """Keys that the schema knows where an unknown key stands; ``location`` as Pydantic gives it, branches included."""
    models = list(roots)
    for part in location[:-1]:
        if isinstance(part, int):
            continue
        branch = [model for model in models if len(models) > 1 and part in _tags(model)]
        if not branch and models and issubclass(models[0], FleetSpec) and part in plugin_names(GROUP):
            branch = [fleet_kind(str(part)).spec]
        inner = [
            found for m in models if part in m.model_fields for found in _models_in(m.model_fields[part].annotation)
        ]
        models = branch or inner
    return list(models[0].model_fields) if models else []


def _tags(model: type[BaseModel]) -> tuple[Any, ...]:
    """Values of the key that tells the branches of a union apart."""
    field = model.model_fields.get("kind")
    return get_args(field.annotation) if field is not None else ()


def _models_in(annotation: Any) -> list[type[BaseModel]]:
    """Every Pydantic model inside an annotation."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _models_in(inner)]
