"""``hdapbench methods [NAME | test NAME|PATH]``: list, describe and test pruning methods."""

from __future__ import annotations

import argparse
import inspect
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hdapbench.errors import MethodError

if TYPE_CHECKING:
    from hdapbench.method import Method
    from hdapbench.registry import MethodRegistry


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser."""
    parser = subparsers.add_parser("methods", help="list, describe and test pruning methods", description=__doc__)
    parser.add_argument("words", nargs="*", metavar="NAME", help="a method to describe; or: test NAME|PATH")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """List without a name, describe with one, test after ``test``; 1 when a rule is broken."""
    from hdapbench.registry import MethodRegistry

    registry = MethodRegistry()
    words = arguments.words
    if not words:
        return _list(registry, as_json=arguments.json)
    if words[0] == "test" and len(words) == 2:
        return _test(registry, words[1], as_json=arguments.json)
    if len(words) == 1:
        return _describe(registry.get(_named(registry, words[0])), as_json=arguments.json)
    raise MethodError("write: hdapbench methods, hdapbench methods NAME, or hdapbench methods test NAME|PATH")


def _named(registry: MethodRegistry, text: str) -> str:
    """Name of a method; of a file, which is executed, the name of the method in it."""
    if not text.endswith(".py"):
        return text
    names = registry.add_file(Path(text))
    if len(names) > 1:
        print(f"{text} holds {', '.join(names)}; taking {names[0]}", file=sys.stderr)
    return names[0]


def _list(registry: MethodRegistry, *, as_json: bool) -> int:
    rows = []
    for name in registry.names():
        try:
            method = registry.get(name)
            rows.append({"name": name, "summary": summary(method), "extra": method.extra, "broken": None})
        except MethodError as error:
            rows.append({"name": name, "summary": "", "extra": None, "broken": str(error)})
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    width = max(len(str(row["name"])) for row in rows) if rows else 0
    for row in rows:
        extra = f" [pip install 'hdapbench[{row['extra']}]']" if row["extra"] else ""
        text = f"BROKEN: {row['broken']}" if row["broken"] else row["summary"]
        print(f"{row['name']:{width}}  {text}{extra}")
    return 0


def summary(method: type[Method]) -> str:
    """First line of a method's docstring."""
    return (inspect.getdoc(method) or "no description").splitlines()[0]


def _describe(method: type[Method], *, as_json: bool) -> int:
    schema = method.model_json_schema()
    if as_json:
        print(json.dumps({"name": method.name, "extra": method.extra, "parameters": schema}, indent=2))
        return 0
    print(f"{method.name}\n\n{inspect.getdoc(method) or 'no description'}\n")
    if method.extra:
        print(f"needs: pip install 'hdapbench[{method.extra}]'\n")
    properties = schema.get("properties", {})
    print("parameters:" if properties else "no parameters")
    for name, field in properties.items():
        print(
            f"  {name}: {_kind(field)}, default {json.dumps(field.get('default'))}"
            f"{'. ' + field['description'] if 'description' in field else ''}"
        )
    return 0


def _kind(field: dict[str, Any]) -> str:
    """Type and range of a parameter, for people."""
    if "enum" in field:
        return "one of " + ", ".join(map(str, field["enum"]))
    if "anyOf" in field:
        return " or ".join(_kind(choice) for choice in field["anyOf"])
    words = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}
    limits = [f"{word} {field[key]:g}" for key, word in words.items() if key in field]
    return " ".join([str(field.get("type", "any")), *limits])


def _test(registry: MethodRegistry, text: str, *, as_json: bool) -> int:
    import torch

    from hdapbench.testing import KINDS, RULES, check_method, tiny_problem

    torch.set_num_threads(1)
    name = _named(registry, text)
    problems = registry.parameter_problems(name, {})
    if problems:
        fields = ", ".join(field for field, _ in problems)
        raise MethodError(f"method '{name}' has parameters without defaults: {fields}")
    method = registry.resolve(name, {})
    skipped = {kind: reason for kind in KINDS if (reason := method.skip(tiny_problem(kind)))}
    violations = check_method(method)
    if as_json:
        print(json.dumps({"name": name, "skipped": skipped, "violations": [vars(v) for v in violations]}, indent=2))
        return 1 if violations else 0
    for kind, reason in skipped.items():
        print(f"skipped  {kind} model: {reason}")
    for rule in RULES:
        broken = [violation.message for violation in violations if violation.rule == rule]
        print(f"{'BROKEN ' if broken else 'kept   '}  {rule}")
        for message in broken:
            print(f"         {message}")
    return 1 if violations else 0
