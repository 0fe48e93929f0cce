"""Card: what a method says about itself, read from its docstring, its fields and its package. Imports no torch.

The docstring is the one place where it is written. Its first line is the idea in one sentence; each of these labels
begins a line, and what it says ends with a blank line or the next label::

    Source: the paper or program that it follows.
    Needs: what it asks of the model, the data and the budget.
    Never sees: latency, accuracy, training images.

``Never sees`` is a list of those three, or ``nothing is hidden``; the contract suite holds the method to it. The test
split and other trials' results are out of reach of every method.
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from typing import Any

from packaging.requirements import Requirement

from hdapbench.method.base import Method

LABELS = ("Source", "Needs", "Never sees")
HIDEABLE = ("latency", "accuracy", "training images")
"""What a card can promise that its method does without."""

OPEN = "nothing is hidden"

_LABEL = re.compile(rf"({'|'.join(LABELS)}):\s*(.*)")
_LIMITS = {"minimum": ">= {:g}", "exclusiveMinimum": "> {:g}", "maximum": "<= {:g}", "exclusiveMaximum": "< {:g}"}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a method: its type and range in words, and its default as JSON, None where it must be given."""

    name: str
    type: str
    range: str
    default: str | None
    description: str


@dataclass(frozen=True)
class Card:
    """What a method says about itself.

    Attributes
    ----------
    idea
        One line.
    about
        The paragraphs after it.
    source, needs, never_sees
        What stands after the labels; empty where the docstring lacks one.
    parameters
        Its parameters, in order.
    """

    name: str
    idea: str
    about: str
    source: str
    needs: str
    never_sees: tuple[str, ...]
    parameters: tuple[Parameter, ...]

    @property
    def missing(self) -> tuple[str, ...]:
        """Parts that the card lacks, as an author would look for them."""
        parts = {"an idea": self.idea, "Source:": self.source, "Needs:": self.needs, "Never sees:": self.never_sees}
        bare = [f"a description of {parameter.name}" for parameter in self.parameters if not parameter.description]
        return (*[part for part, text in parts.items() if not text], *bare)


def card_of(method: type[Method]) -> Card:
    """Card of a method class."""
    idea, about, labelled = _parts(inspect.cleandoc(method.__doc__ or ""))
    hidden = labelled.get("Never sees", "").rstrip(".")
    return Card(
        name=method.name,
        idea=idea,
        about=about,
        source=labelled.get("Source", ""),
        needs=labelled.get("Needs", ""),
        never_sees=tuple(part.strip() for part in hidden.split(",") if part.strip()),
        parameters=_parameters(method),
    )


def missing_packages(package: str, extra: str) -> tuple[str, ...]:
    """Requirements of a package's extra that are not installed, or in the wrong version; none for an unknown extra."""
    try:
        lines = requires(package) or []
    except PackageNotFoundError:
        return ()
    missing: list[str] = []
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        if marker is None or not marker.evaluate({"extra": extra}) or marker.evaluate({"extra": ""}):
            continue
        try:
            fits = requirement.specifier.contains(version(requirement.name), prereleases=True)
        except PackageNotFoundError:
            fits = False
        for inner in requirement.extras:  # an extra made of other extras of the same package
            missing += missing_packages(requirement.name, inner)
        if not fits:
            missing.append(f"{requirement.name}{requirement.specifier}")
    return tuple(missing)


def _parts(text: str) -> tuple[str, str, dict[str, str]]:
    """First line, free paragraphs and labelled texts of a docstring."""
    idea, _, rest = text.partition("\n")
    labelled: dict[str, str] = {}
    free: list[str] = []
    label = ""
    for line in rest.splitlines():
        found = _LABEL.match(line)
        if found:
            label = found[1]
            labelled[label] = found[2]
        elif label and line.strip():
            labelled[label] += f" {line.strip()}"
        else:
            label = ""
            free.append(line)
    about = re.sub(r"\n{3,}", "\n\n", "\n".join(free)).strip()
    return idea.strip(), about, {name: value.strip() for name, value in labelled.items()}


def _parameters(method: type[Method]) -> tuple[Parameter, ...]:
    """Parameters of a method, in the order of its fields."""
    try:
        schema: Mapping[str, Any] = method.model_json_schema()
    except Exception:  # noqa: BLE001 - pydantic raises several kinds for types that JSON has no word for
        schema = {}
    definitions = schema.get("$defs", {})
    found = []
    for name, field in method.model_fields.items():
        entry = schema.get("properties", {}).get(name, {})
        default: str | None = None
        if not field.is_required():
            default = json.dumps(entry["default"]) if "default" in entry else "made anew"
        found.append(
            Parameter(
                name, _type(entry, definitions), _range(entry), default, " ".join((field.description or "").split())
            )
        )
    return tuple(found)


def _type(entry: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Type of a parameter, for people."""
    if "$ref" in entry:
        entry = definitions.get(str(entry["$ref"]).rsplit("/", 1)[-1], {})
    if "anyOf" in entry:
        return " or ".join(_type(choice, definitions) for choice in entry["anyOf"])
    if "enum" in entry:
        return "one of " + ", ".join(map(str, entry["enum"]))
    if "const" in entry:
        return str(entry["const"])
    if entry.get("type") == "array" and "items" in entry:
        return f"list of {_type(entry['items'], definitions)}"
    words = {"boolean": "true or false", "integer": "whole number", "string": "text", "object": "mapping"}
    return words.get(str(entry.get("type")), str(entry.get("type", "any")))


def _range(entry: Mapping[str, Any]) -> str:
    """Limits of a number, for people; empty without any."""
    choices = [entry, *entry.get("anyOf", [])]
    return ", ".join(word.format(choice[key]) for choice in choices for key, word in _LIMITS.items() if key in choice)
