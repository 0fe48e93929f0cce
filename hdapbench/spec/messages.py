"""What is wrong with a spec, in the words of its author rather than in those of its schema."""

from __future__ import annotations

from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from hdapbench.spec.base import did_you_mean
from hdapbench.spec.document import Path_
from hdapbench.spec.fleet_kinds import BUILT_IN, GROUP, fleet_kind
from hdapbench.spec.fleets import FleetSpec
from hdapbench.spec.plugins import plugin_names

_WANTED = {
    "int_type": "a whole number",
    "float_type": "a number",
    "string_type": "text",
    "bool_type": "true or false",
    "dict_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
}
"""What Pydantic asks for -> what a spec's author knows it as."""

_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "above"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
}

_FORMS = {
    "string_pattern_mismatch": "should be made of a-z, 0-9, '.', '_' and '-', and begin with a letter or digit",
    "string_too_short": "should not be empty",
    "string_too_long": "is too long",
}


def message(details: ErrorDetails, path: Path_, roots: tuple[type[BaseModel], ...], written: str) -> str:
    """What is wrong, and what to write instead.

    Parameters
    ----------
    details
        What Pydantic found.
    path
        Where it stands in the spec.
    roots
        What the file may be, for hints on unknown keys.
    written
        The value as the spec writes it.
    """
    return _of_keys(details, path, roots) or _of_lists(details, written) or _of_values(details, written)


def _of_keys(details: ErrorDetails, path: Path_, roots: tuple[type[BaseModel], ...]) -> str:
    """Message about a key; empty when the problem is none of keys."""
    mistake, context = details["type"], details.get("ctx", {})
    if mistake == "missing" and isinstance(details["loc"][-1], str):
        return f"the key '{details['loc'][-1]}' is missing"
    if mistake == "extra_forbidden":
        return f"unknown key '{path[-1]}'{did_you_mean(str(path[-1]), _known_keys(details['loc'], roots))}"
    if mistake == "union_tag_not_found":
        return f"the key 'kind' is missing: {', '.join(BUILT_IN)}"
    if mistake == "union_tag_invalid":
        allowed = context["expected_tags"].replace("'", "").split(", ")
        return f"kind: unknown value '{context['tag']}'{did_you_mean(context['tag'], allowed)}"
    return ""


def _of_lists(details: ErrorDetails, written: str) -> str:
    """Message about a list; empty when the problem is none of lists."""
    mistake, value, context = details["type"], details["input"], details.get("ctx", {})
    if mistake in {"tuple_type", "list_type"}:
        entry = value if isinstance(value, str) else written
        return f"should be a list: {'begin each entry with -' if isinstance(value, dict) else f'[{entry}]'}"
    if mistake == "missing":
        return f"has {len(value)} entries and needs {int(details['loc'][-1]) + 1} (here: {written})"
    if mistake == "too_short":
        least = context["min_length"]
        return "must have at least one entry" if least == 1 else f"must have at least {least} entries (here: {written})"
    return f"must have at most {context['max_length']} entries (here: {written})" if mistake == "too_long" else ""


def _of_values(details: ErrorDetails, written: str) -> str:
    """Message about a single value."""
    mistake, context = details["type"], details.get("ctx", {})
    if mistake in _WANTED:
        return f"{written} should be {_WANTED[mistake]}"
    if mistake in _BOUNDS:
        key, words = _BOUNDS[mistake]
        bound = context[key]
        return f"must be {words} {int(bound) if bound == int(bound) else bound:,} (here: {written})"
    if mistake == "literal_error":
        allowed = context["expected"].replace("'", "").replace(" or ", ", ").split(", ")
        return f"unknown value {written}{did_you_mean(str(details['input']), allowed)}"
    if mistake == "value_error":
        return details["msg"].removeprefix("Value error, ")
    return f"{written}: {details['msg']}" if mistake not in _FORMS else f"{written} {_FORMS[mistake]}"


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
