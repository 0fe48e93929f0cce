"""Spec files -> Spec, with every problem reported at once and at its place."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from hdapbench.errors import SpecError, SpecProblem
from hdapbench.spec.base import LOCATED, did_you_mean
from hdapbench.spec.data import dataset_names
from hdapbench.spec.document import Document, Path_, Texts, parse_value, path_text, read_document
from hdapbench.spec.fleet_kinds import BUILT_IN, AnyFleetSpec
from hdapbench.spec.fleets import FleetSpec
from hdapbench.spec.messages import message
from hdapbench.spec.schema import Spec

Checked = TypeVar("Checked")

SHOWN_LENGTH = 60


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
            key, value, texts = _override(text)
            document.put(key, value, texts)
            overridden[key] = text
        except ValueError as error:
            problems.append(SpecProblem(f"--set {text}", 0, 0, "", str(error)))
    loaded = _Source(str(path), document, overridden, models)
    problems += _unknown_data_set(loaded)
    found: Checked | ValidationError = _checked(document.values, validate)
    while isinstance(found, ValidationError) and loaded.took_as_asked(found.errors()):
        found = _checked(document.values, validate)
    problems += [loaded.at(path, loaded.not_finite(path)) for path in document.infinite()]
    if isinstance(found, ValidationError):
        problems += loaded.problems(found.errors())
    if problems or isinstance(found, ValidationError):
        raise SpecError(sorted(set(problems), key=_order))
    return found, loaded


def _checked(values: Any, validate: Callable[[Any], Checked]) -> Checked | ValidationError:
    try:
        return validate(values)
    except ValidationError as error:
        return error


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
    return _override(text)[:2]


def _override(text: str) -> tuple[Path_, Any, Texts]:
    key, separator, value = text.partition("=")
    if not separator or not key.strip():
        raise ValueError("write it as key=value, such as fleets[0].n_devices=8")
    parts = [part for part in re.split(r"[.\[\]]+", key.strip()) if part]
    return tuple(int(part) if part.isdecimal() else part for part in parts), *parse_value(value)


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
    shared = {"model", "task", "data", "base", "fine_tune", "budget", "count_products", "threads", "device"}
    content = {"spec": spec.model_dump(mode="json", include=shared), "files": dict(extra or {})}
    if extra and "weights" in extra:
        content["spec"]["model"]["weights"] = None  # the content counts, not where it lies
    if extra and "teacher" in extra:
        content["spec"]["base"]["teacher"]["weights"] = None
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

    def problems(self, errors: Sequence[ErrorDetails]) -> list[SpecProblem]:
        """Every problem that Pydantic found, at its place."""
        found = []
        for details in errors:
            if details["type"] == LOCATED:
                found += [self.at((*details["loc"], *path), text) for path, text in details["ctx"]["problems"]]
            elif not _is_echo(details, errors):
                path = self._real_path(details["loc"])
                found.append(self.at(path, message(details, path, self.models, self._written(path, details["input"]))))
        return found

    def took_as_asked(self, errors: Sequence[ErrorDetails]) -> bool:
        """Whether some numbers were put back as the texts, or as the whole numbers, that the schema asks for there."""
        changed = False
        for details in errors:
            path, value = self._real_path(details["loc"]), details["input"]
            text = self.document.texts.get(path)
            if text is None:
                continue
            if details["type"] == "string_type":
                self.document.put(path, text, {})
                changed = True
            elif (
                details["type"] == "int_type"
                and isinstance(value, float)
                and value.is_integer()
                and "e" in text.lower()
            ):
                self.document.put(path, int(value), {(): text})
                changed = True
        return changed

    def not_finite(self, path: Path_) -> str:
        """What is wrong with an infinite number."""
        return f"{self.document.texts.get(path, 'this')} is not a finite number"

    def _written(self, path: Path_, value: Any) -> str:
        """A value as the spec writes it."""
        value = list(value) if isinstance(value, tuple) else value
        text = self.document.texts.get(path) or ("null" if value is None else repr(value))
        return text if len(text) <= SHOWN_LENGTH else f"{text[: SHOWN_LENGTH - 3]}..."

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


def _is_echo(details: ErrorDetails, errors: Sequence[ErrorDetails]) -> bool:
    """Whether a problem only repeats others.

    So do a list that is too short because its entries, reported themselves, are wrong; missing entries before the last
    missing one; and infinite numbers, which are looked for everywhere.
    """
    if details["type"] == "missing" and isinstance(details["loc"][-1], int):
        return any(other["loc"] == (*details["loc"][:-1], details["loc"][-1] + 1) for other in errors)
    return details["type"] == "finite_number" or (
        details["type"] == "too_short" and _has_wrong_entries(details, errors)
    )


def _has_wrong_entries(details: ErrorDetails, errors: Sequence[ErrorDetails]) -> bool:
    location = details["loc"]
    return any(len(other["loc"]) > len(location) and other["loc"][: len(location)] == location for other in errors)
