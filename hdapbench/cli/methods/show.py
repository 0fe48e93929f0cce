"""The list of methods, and the card of one."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict, dataclass

from hdapbench.cli.options import named_methods
from hdapbench.errors import MethodError
from hdapbench.method.card import Card, Parameter, card_of, missing_packages
from hdapbench.method.registry import MethodRegistry

WIDTH = 110


@dataclass(frozen=True)
class Row:
    """One method of the list; ``broken`` says why it cannot be used, and then there is no more."""

    name: str
    idea: str
    origin: str
    package: str
    extra: str | None
    missing: tuple[str, ...]
    broken: str | None


def list_methods(registry: MethodRegistry, *, as_json: bool) -> int:
    """Print one line per method."""
    rows = [_row(registry, name) for name in registry.names()]
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=2))
        return 0
    width = max((len(row.name) for row in rows), default=0)
    for row in rows:
        text = f"BROKEN: {row.broken}" if row.broken else f"{row.idea}{_extra(row)}{_foreign(row)}"
        print(f"{row.name:{width}}  {text}")
    return 0


def describe(registry: MethodRegistry, text: str, *, as_json: bool) -> int:
    """Print the cards of a method, or of all methods in a file."""
    rows, cards = [], []
    for name in named_methods(registry, text):
        cards.append(card_of(registry.get(name)))  # what is wrong with it is the answer here, not a row
        rows.append(_row(registry, name))
    if as_json:
        content = [asdict(row) | asdict(card) for row, card in zip(rows, cards, strict=True)]
        print(json.dumps(content if len(content) > 1 else content[0], indent=2))
        return 0
    print("\n\n".join(_text(row, card) for row, card in zip(rows, cards, strict=True)))
    return 0


def _row(registry: MethodRegistry, name: str) -> Row:
    origin, package = registry.origin(name), registry.package(name)
    try:
        method = registry.get(name)
    except MethodError as error:
        return Row(name, "", origin, package, None, (), " ".join(str(error).split()))
    missing = missing_packages(package, method.extra) if method.extra else ()
    return Row(name, card_of(method).idea or "(no description)", origin, package, method.extra, missing, None)


def _extra(row: Row) -> str:
    """What the list says of the extra that a method needs."""
    if row.extra is None:
        return ""
    if not row.missing:
        return f" [extra {row.extra}: installed]"
    return f" [extra {row.extra}: NOT installed; pip install '{row.package}[{row.extra}]']"


def _foreign(row: Row) -> str:
    """Where a method comes from, when that is not hdapbench."""
    return "" if row.package == "hdapbench" else f" (from {row.package})"


def _text(row: Row, card: Card) -> str:
    """Card for people."""
    lines = [row.name, ""]
    for part in (row.idea, *card.about.split("\n\n")):
        lines += [*textwrap.wrap(part, WIDTH), ""] if part else []
    facts = {
        "source": card.source,
        "needs": card.needs,
        "never sees": ", ".join(card.never_sees),
        "extra": _extra(row).strip(" []"),
        "from": row.origin,
    }
    for label, text in facts.items():
        if text:
            lines += textwrap.wrap(f"{label + ':':12}{text}", WIDTH, subsequent_indent=" " * 12)
    lines += ["", "parameters:" if card.parameters else "no parameters"]
    for parameter in card.parameters:
        lines += textwrap.wrap(f"  {_parameter(parameter)}", WIDTH, subsequent_indent="      ")
    if card.missing:
        lines += ["", f"the card lacks {', '.join(card.missing)}"]
    return "\n".join(lines)


def _parameter(parameter: Parameter) -> str:
    """One parameter: type, range, default, description."""
    limits = f" {parameter.range}" if parameter.range else ""
    default = "required" if parameter.default is None else f"default {parameter.default}"
    description = f". {parameter.description}" if parameter.description else ""
    return f"{parameter.name}: {parameter.type}{limits}, {default}{description}"
